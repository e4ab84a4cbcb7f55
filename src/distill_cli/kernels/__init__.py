"""Kernels: random features, exact NNGP and NTK."""

EXACT_KERNELS = ("nngp", "ntk")
