"""Exact infinite-width kernels (NNGP, NTK) of the architectures in arch/layers.py."""

from distill_cli.kernels.exact.gram import choose_engine, estimate_seconds, gram

__all__ = ["choose_engine", "estimate_seconds", "gram"]
