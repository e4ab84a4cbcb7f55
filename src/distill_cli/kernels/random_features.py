"""Random-feature NNGP: an average over N finite random networks in place of the exact kernel.

K(x, x') = w^2 <Phi(x), Phi(x')> + b^2,   Phi(x) = [h_1(x), ..., h_N(x)] / sqrt(N d),

h_m(x) being the d activations of random network m after its last layer before the read-out, and
w^2 = 2, b^2 = 0.01 the variances of the read-out, whose average is taken exactly (RFAD section 3;
released code). The error against the exact NNGP falls like 1 / sqrt(N C) with C channels.

Networks run one after another: vmap over convolution weights becomes a grouped convolution, 7 to 9
times slower on a CPU. Images run in micro-batches, so that activations stay in the cache and memory
is bounded by `micro`, not by the batch size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from distill_cli.arch.convolution import convolve
from distill_cli.arch.layers import (
    Architecture,
    AvgPool,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    Relu,
    feature_shape,
)
from distill_cli.config import at_least
from distill_cli.errors import UserError
from distill_cli.kernels import fused_block
from distill_cli.kernels.micro_batches import in_micro_batches

Params = Sequence[tuple[Array, Array]]


@dataclass(frozen=True)
class Config:
    """The kernel's parameters.

    networks: random networks averaged by one kernel, N.
    features: arithmetic of the networks. float32; tf32: float32 with products in TF32 where the
    device has them (10 bits of mantissa; a CPU has not, and computes in float32); bfloat16:
    products of bfloat16 numbers (7 bits), added up in float32. auto: see `arithmetic_of`. Kernel
    matrices are products of float32 features at float32's accuracy (products.py), and solved in
    float64, in any case.
    fused: the first block of the networks as one GPU kernel (kernels/fused_block.py). auto: as
    `fused_of` says.
    """

    name: str = "random_features"
    networks: int = 8
    features: Literal["auto", "float32", "tf32", "bfloat16"] = "auto"
    fused: Literal["auto", True, False] = "auto"

    def __post_init__(self) -> None:
        at_least("kernel.networks", self.networks, 1)


def sample_network(
    architecture: Architecture, key: PRNGKeyArray, image_shape: tuple[int, int, int]
) -> list[tuple[Array, Array]]:
    """(weight, bias) of every parametric layer: N(0, w^2 / fan_in) and N(0, b^2), float32."""
    params = []
    shape: tuple[int, ...] = image_shape
    for index, layer in enumerate(architecture.layers):
        if isinstance(layer, Conv | Dense):
            window = (3, 3) if isinstance(layer, Conv) else ()
            fan_in = shape[-1] * (9 if isinstance(layer, Conv) else 1)
            key_w, key_b = jax.random.split(jax.random.fold_in(key, index))
            weight = jax.random.normal(key_w, (*window, shape[-1], layer.width), jnp.float32)
            bias = jax.random.normal(key_b, (layer.width,), jnp.float32)
            scale = (architecture.weight_variance / fan_in) ** 0.5
            params.append((weight * scale, bias * architecture.bias_variance**0.5))
        shape = feature_shape(Architecture(architecture.layers[: index + 1]), image_shape)
    return params


def average_pool(x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    """2x2 average, stride 2, odd edge dropped. reduce_window is XLA's fastest form on CPU."""
    window = (1, 2, 2, 1)
    zero = np.zeros((), x.dtype)  # a constant, or XLA's sum loses its gradient
    return lax.reduce_window(x, zero, lax.add, window, window, "VALID") * 0.25


def network_features(
    architecture: Architecture,
    params: Params,
    x: Float[Array, "n h w c"],
    arithmetic: str = "tf32",
    patches: Array | None = None,
) -> Float[Array, "n feature"]:
    """h(x): activations of one network after the description's last layer.

    arithmetic: of the products, see Config.features; biases, ReLU, pools and the result are in the
    dtype of x. patches: of x, by fused_block.cut_patches, where the first block is computed as one.
    """
    precision = lax.Precision.HIGHEST if arithmetic == "float32" else lax.Precision.DEFAULT
    wide = x.dtype
    narrow = jnp.bfloat16 if arithmetic == "bfloat16" else wide
    weights, layers = iter(params), architecture.layers
    if patches is not None:
        shape = (x.shape[0], x.shape[1] // 2, x.shape[2] // 2)
        x = fused_block.first_block(patches, *next(weights), shape).astype(wide)
        layers = layers[3:]
    for layer in layers:
        match layer:
            case Conv():
                weight, bias = next(weights)
                x = convolve(x.astype(narrow), weight.astype(narrow), (1, 1), precision=precision)
                x = x.astype(wide) + bias.reshape(1, 1, 1, -1)
            case Dense():
                weight, bias = next(weights)
                x = jnp.matmul(x.astype(narrow), weight.astype(narrow), precision=precision)
                x = x.astype(wide) + bias.reshape(1, -1)
            case Relu():
                x = jax.nn.relu(x)
            case AvgPool():
                x = average_pool(x)
            case Flatten():
                x = x.reshape(x.shape[0], -1)
            case GlobalAvgPool():
                x = x.mean((1, 2))
    return x


@dataclass(frozen=True)
class RandomFeatureKernel:
    """The empirical NNGP of `networks` random networks of one architecture.

    `sample(key)` draws all networks, `features` maps images to Phi, `gram` multiplies features.
    arithmetic, fused: see Config.features and Config.fused.
    """

    architecture: Architecture
    image_shape: tuple[int, int, int]
    networks: int
    arithmetic: str = "tf32"
    fused: bool = False

    @property
    def dim(self) -> int:
        """Features of one network, d."""
        (size,) = feature_shape(self.architecture, self.image_shape)
        return size

    @property
    def scale(self) -> float:
        """w^2 / (N d), by which sums of products of activations are multiplied."""
        return self.architecture.weight_variance / (self.networks * self.dim)

    def sample(self, key: PRNGKeyArray) -> Any:
        """Parameters of N networks, stacked along a leading axis."""
        return self.sample_some(key, jnp.arange(self.networks))

    def sample_some(self, key: PRNGKeyArray, indices: Int[Array, " m"], loop: Any = lax.map) -> Any:
        """Parameters of the networks of these numbers; each depends on (key, number) alone. loop:
        lax.map or what takes its place."""
        draw = partial(sample_network, self.architecture, image_shape=self.image_shape)
        keys = jax.vmap(partial(jax.random.fold_in, key))(indices.astype(jnp.uint32))
        return loop(lambda k: draw(key=k), keys)

    def network(
        self, params: Params, x: Float[Array, "n h w c"], patches: Array | None = None
    ) -> Float[Array, "n d"]:
        """h(x) of one network."""
        return network_features(self.architecture, params, x, self.arithmetic, patches)

    def by_network(
        self, params: Any, x: Float[Array, "n h w c"], micro: int | None = None, loop: Any = lax.map
    ) -> Float[Array, "network n d"]:
        """h_m(x) of the given networks. Differentiable unless fused; activations are recomputed
        in the backward pass. micro: images at a time (None: all at once), any number.
        loop: lax.map over the networks, or what takes its place."""
        if self.fused and fused_block.applies(self.architecture):
            dtype = jnp.bfloat16 if self.arithmetic == "bfloat16" else x.dtype

            def block(x: Array) -> Array:  # all networks read the same patches
                patches = fused_block.cut_patches(x, dtype)
                rows = loop(lambda weights: self.network(weights, x, patches), params)
                return jnp.moveaxis(rows, 0, 1)

            return jnp.moveaxis(in_micro_batches(block, micro, x), 1, 0)
        one = jax.checkpoint(self.network)
        return loop(lambda weights: in_micro_batches(partial(one, weights), micro, x), params)

    def features(
        self, params: Any, x: Float[Array, "n h w c"], micro: int | None = None
    ) -> Float[Array, "n feature"]:
        """Phi(x), (n, N d). Differentiable; activations are recomputed in the backward pass."""
        phi = jnp.moveaxis(self.by_network(params, x, micro), 0, 1).reshape(x.shape[0], -1)
        return phi * (1.0 / (self.networks * self.dim) ** 0.5)

    def gram(
        self, phi1: Float[Array, "n feature"], phi2: Float[Array, "m feature"]
    ) -> Float[Array, "n m"]:
        """K = w^2 Phi1 Phi2^T + b^2, the product in the features' own precision."""
        arch = self.architecture
        product = jnp.matmul(phi1, phi2.T, precision="highest")
        return arch.weight_variance * product + arch.bias_variance


def arithmetic_of(wanted: str) -> str:
    """Config.features as this device computes: auto is float32 on a CPU and tf32 on an accelerator
    (docs/gpu.md has the gradients' cosines); tf32 is float32 on a CPU, which has no other."""
    if jax.default_backend() == "cpu":
        return "float32" if wanted in ("auto", "tf32") else wanted
    return "tf32" if wanted == "auto" else wanted


def fused_of(wanted: bool | str, architecture: Architecture) -> bool:
    """Config.fused with auto resolved: where the architecture starts with such a block, on a GPU on
    which a trial of the kernel gives what XLA's path gives. UserError for true where it does not
    start with one."""
    fits = fused_block.applies(architecture)
    if wanted is True and not fits:
        raise UserError(
            "kernel.fused=true: the network must start with one [convolution, ReLU, pooling], its "
            "architecture.width 16, 32 or a multiple of 64; give auto or false"
        )
    return fits and (fused_block.works() if wanted == "auto" else bool(wanted))
