"""kernel=nngp: the exact NNGP of the architecture with infinite width."""

from dataclasses import dataclass

from distill_cli.kernels.exact_kernel import ExactKernelConfig


@dataclass(frozen=True)
class Config(ExactKernelConfig):
    """See ExactKernelConfig."""

    name: str = "nngp"
