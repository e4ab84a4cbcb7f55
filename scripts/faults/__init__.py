"""Parts of torture.py."""
