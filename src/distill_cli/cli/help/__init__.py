"""What the commands say about themselves: --help, help KEY, --version.

keys/*.yaml      the one table of keys: meanings, allowed values, purposes
entries.py       that table as records, and look-up with near names
values.py        default values, read from the files in configs/ without Hydra
wording.py       values and meanings as text, and lines of a width
overview.py      the page of --help
subject.py       the answer to `help KEY`: what is meant, near names
one_key.py       about a key
one_group.py     about a group, and about a choice
document.py      the tables of docs/configuration.md
answer.py        which of these a command line asks for

Nothing here imports jax, or composes with Hydra: help is there at once.
"""
