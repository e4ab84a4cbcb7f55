"""File formats of coresets: one module per format, found by its name.

Each has `read(path, index) -> CoresetFile` (core/coreset_io.py). Reading never executes what a file
contains.
"""
