"""Exact kernels as methods use them: jittable matrices, differentiable in the images.

`kernel=nngp` and `kernel=ntk` select one of the two kernels of the infinitely wide network that
`architecture` describes. Networks of pixels run in the band engine (exact/band.py); fully connected
ones, where every pair is one number, are matrix products.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from distill_cli.arch.layers import Architecture, Conv, Dense, Flatten
from distill_cli.config import at_least
from distill_cli.core import devices
from distill_cli.kernels.exact import band_gram, memory, tiles
from distill_cli.kernels.exact.arc_cosine import relu_dual, relu_dual_slope, safe_sqrt
from distill_cli.kernels.exact.geometry import plan

Images = Float[Array, "n height width channel"]


@dataclass(frozen=True)
class ExactKernelConfig:
    """precision: of the kernel matrices while distilling; the ridge solve is float64 in any case.
    engine: auto or band; neural_tangents has no bounded gradient and serves evaluation only."""

    name: str = ""
    precision: Literal["float32", "float64"] = "float32"
    engine: Literal["auto", "band"] = "auto"
    memory_mb: float = 512.0

    def __post_init__(self) -> None:
        at_least("kernel.memory_mb", self.memory_mb, 1)


@dataclass(frozen=True)
class ExactKernel:
    """The exact kernel `which` (nngp or ntk) of an architecture, in `precision`; memory_mb bounds
    the working memory of a tile."""

    architecture: Architecture
    which: str
    precision: str = "float32"
    memory_mb: float = 512.0

    def gram(self, x1: Images, x2: Images | None = None) -> Float[Array, "n1 n2"]:
        """K(x1, x2); x2 None: K(x1, x1), symmetric and with the exact diagonal."""
        x1 = x1.astype(self.precision)
        x2 = None if x2 is None else x2.astype(self.precision)
        is_dense = isinstance(self.architecture.layers[0], Flatten)

        def block(x1: Images, x2: Images | None) -> Array:
            if is_dense:
                nngp, ntk = dense_gram(self.architecture, x1, x2)
            else:
                nngp, ntk = band_gram(self.architecture, x1, x2, self.memory_mb)
            return nngp if self.which == "nngp" else ntk

        if is_dense or x2 is None:
            return block(x1, x2)
        return over_devices(block, x1, x2)

    def check_fits(self, image_shape: tuple[int, int, int]) -> None:
        """UserError if memory_mb is too small for one pair of images and its derivative."""
        if not isinstance(self.architecture.layers[0], Flatten):
            tiles.check_fits(self.architecture, image_shape, self.precision, self.memory_mb)

    def bytes_moved(self, pairs: int, image_shape: tuple[int, int, int]) -> float:
        """Bytes through an accelerator's memory for `pairs` kernel values and their gradient, which
        run at its speed: an estimate for chunk sizes, 0 for matrix products."""
        stages = plan(self.architecture, image_shape[:2]).stages
        numbers = sum(
            n
            for n, stage in zip(memory.band_numbers(stages), stages, strict=True)
            if "relu" in stage.kind
        )
        # Compiled for an H100: KIP's step moves 11.5 bands for every ReLU.
        return 12.0 * numbers * jnp.dtype(self.precision).itemsize * pairs

    def flops(self, pairs: int, image_shape: tuple[int, int, int]) -> float:
        """Arithmetic of `pairs` kernel values and their gradient: an estimate for chunk sizes."""
        pixels = math.prod(image_shape)
        convs = sum(isinstance(layer, Conv) for layer in self.architecture.layers)
        # Band engine, measured: about 150 operations per offset and pixel, forward and backward.
        per_pair = 150.0 * 225 * pixels / image_shape[2] * convs if convs else 6.0 * pixels
        return pairs * per_pair


def over_devices(block: Callable[..., Array], x1: Images, x2: Images) -> Array:
    """block(x1, x2) with the rows of x1 shared out among all devices; as it is on a single one.

    On a CPU a device stands for a core (tasks/runtime.py): XLA runs the small operations of a tile
    on one core only.
    """
    shards = len(devices.chosen())
    if shards == 1 or len(x1) < shards:
        return block(x1, x2)
    mesh = devices.row("rows")
    padded = jnp.pad(x1, ((0, -len(x1) % shards), (0, 0), (0, 0), (0, 0)))
    split = jax.shard_map(
        block, mesh=mesh, in_specs=(P("rows"), P()), out_specs=P("rows"), check_vma=False
    )
    return split(padded, x2)[: len(x1)]


def make_exact_kernel(architecture: Architecture, config: ExactKernelConfig) -> ExactKernel:
    """The kernel of a configuration."""
    return ExactKernel(architecture, config.name, config.precision, config.memory_mb)


def dense_gram(
    architecture: Architecture, x1: Images, x2: Images | None = None
) -> tuple[Float[Array, "n1 n2"], Float[Array, "n1 n2"]]:
    """(NNGP, NTK) of Flatten followed by Dense and ReLU layers, and the read-out.

    With K = <x, z> / d and q its diagonals (Cho & Saul 2009; Jacot et al. 2018):
    Dense  K <- b^2 + w^2 K, T <- K + w^2 T;   ReLU  c = K / sqrt(q1 q2),
    K <- sqrt(q1 q2) f(c) / (2 pi), T <- T f'(c) / (2 pi), q <- q / 2.
    """
    w2, b2 = architecture.weight_variance, architecture.bias_variance
    a = x1.reshape(len(x1), -1)
    b = a if x2 is None else x2.reshape(len(x2), -1)
    size = a.shape[1]
    k = jnp.matmul(a, b.T, precision="highest") / size
    q1, q2 = ((x * x).sum(1) / size for x in (a, b))
    t = jnp.zeros_like(k)
    on = jnp.eye(len(a), dtype=bool) if x2 is None else None
    for layer in (*architecture.layers[1:], Dense(1)):
        if isinstance(layer, Dense):
            k, q1, q2 = (b2 + w2 * part for part in (k, q1, q2))
            t = k + w2 * t
        else:
            scale = safe_sqrt(q1)[:, None] * safe_sqrt(q2)[None, :]
            cosine = jnp.where(scale > 0, k / jnp.where(scale > 0, scale, 1), 0)
            if on is not None:
                cosine = jnp.where(on, (scale > 0).astype(k.dtype), cosine)
            k = scale * relu_dual(cosine) * (1 / (2 * math.pi))
            t = t * relu_dual_slope(cosine) * (1 / (2 * math.pi))
            q1, q2 = q1 / 2, q2 / 2
    if on is not None:  # the product's rounding is not that of the diagonal
        k = jnp.where(on, q1[:, None], k)
    return k, t
