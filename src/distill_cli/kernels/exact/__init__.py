"""Exact infinite-width kernels (NNGP, NTK) of the architectures in arch/layers.py."""

from distill_cli.kernels.exact.choice import choose_engine
from distill_cli.kernels.exact.gram import estimate_seconds, gram
from distill_cli.kernels.exact.tiles import band_gram

__all__ = ["band_gram", "choose_engine", "estimate_seconds", "gram"]
