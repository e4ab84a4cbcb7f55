"""What the trained networks are made of: convolutions, norms, pooling, initial weights."""

from collections.abc import Callable
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from distill_cli.arch.convolution import convolve

NORMS = ("none", "batch", "instance", "layer", "group")
POOLINGS = ("none", "avg", "max")
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": nn.relu,
    "leaky_relu": lambda x: nn.leaky_relu(x, 0.01),
    "sigmoid": nn.sigmoid,
    "swish": nn.swish,
}
GROUPS = 4  # of norm=group (DC code)
EPSILON = 1e-5  # of every norm: PyTorch's default; Flax's group norm would take 1e-6


@dataclass(frozen=True)
class Style:
    """What the layers of one network have in common.

    norm, pooling, activation: names of NORMS, POOLINGS, ACTIVATIONS; init: name in INITIAL;
    momentum: share of the old running statistics that a batch leaves (Flax's meaning: new =
    momentum old + (1 - momentum) batch); affine_per_pixel: norm=layer has a scale and a shift for
    every number of the map, not for every channel.
    """

    norm: str = "none"
    pooling: str = "avg"
    activation: str = "relu"
    init: str = "torch"
    momentum: float = 0.9
    affine_per_pixel: bool = False

    def activate(self, x: Array) -> Array:
        return ACTIVATIONS[self.activation](x)

    def pool(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
        return pool(x, self.pooling)


Initial = Callable[[int], tuple[nn.initializers.Initializer, nn.initializers.Initializer]]


def _torch(fan_in: int) -> tuple[nn.initializers.Initializer, nn.initializers.Initializer]:
    """Uniform in +-1/sqrt(fan_in) for weights and biases, PyTorch's default."""
    bound = fan_in**-0.5

    def draw(key: Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return draw, draw


# Kernel and bias initialisers, given the fan-in.
INITIAL: dict[str, Initial] = {
    "torch": _torch,
    "lecun": lambda fan_in: (nn.initializers.lecun_normal(), nn.initializers.zeros),
    "he": lambda fan_in: (nn.initializers.he_normal(), nn.initializers.zeros),
    "kip": lambda fan_in: (nn.initializers.lecun_normal(), nn.initializers.normal(0.1)),
}


class Conv(nn.Module):
    """Convolution with a square kernel and zero padding; `padding` None keeps the size."""

    width: int
    init: str
    size: int = 3
    padding: int | None = None
    stride: int = 1
    bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 width"]:
        channels = x.shape[-1]
        kernel_init, bias_init = INITIAL[self.init](self.size**2 * channels)
        shape = (self.size, self.size, channels, self.width)
        kernel = self.param("kernel", kernel_init, shape, jnp.float32)
        padding = self.size // 2 if self.padding is None else self.padding
        x = convolve(x, kernel, (padding, padding), self.stride)
        if self.bias:
            bias = self.param("bias", bias_init, (self.width,), jnp.float32)
            x = x + bias.reshape(1, 1, 1, -1)
        return x


class Dense(nn.Module):
    """Fully connected layer with bias."""

    width: int
    init: str

    @nn.compact
    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n width"]:
        kernel_init, bias_init = INITIAL[self.init](x.shape[-1])
        kernel = self.param("kernel", kernel_init, (x.shape[-1], self.width), jnp.float32)
        bias = self.param("bias", bias_init, (self.width,), jnp.float32)
        return x @ kernel + bias.reshape(1, -1)


class Norm(nn.Module):
    """The normalisation of `style.norm`, with a learned scale and shift; none: the identity.

    batch: over images and pixels of each channel, running statistics in "batch_stats" (start: mean
    0, variance 1); instance: over the pixels of each channel and image; group: over pixels and a
    quarter of the channels; layer: over all of an image.
    """

    style: Style

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], train: bool) -> Float[Array, "n h w c"]:
        kind, options = self.style.norm, {"epsilon": EPSILON, "param_dtype": jnp.float32}
        if kind == "none":
            return x
        if kind == "batch":
            norm = nn.BatchNorm(not train, momentum=self.style.momentum, **options)
            return norm(x)
        if kind == "layer" and self.style.affine_per_pixel:
            axes = (1, 2, 3)
            return nn.LayerNorm(reduction_axes=axes, feature_axes=axes, **options)(x)
        if kind == "instance":
            return nn.GroupNorm(num_groups=None, group_size=1, **options)(x)
        return nn.GroupNorm(num_groups=1 if kind == "layer" else GROUPS, **options)(x)


def pool(x: Float[Array, "n h w c"], kind: str) -> Float[Array, "n h2 w2 c"]:
    """2x2 pooling with stride 2; an odd last row or column is dropped, one pixel stays as it is.

    Written with reshapes: on a CPU the gradient of a window reduction is several times slower.
    """
    n, height, width, channels = x.shape
    if kind == "none" or min(height, width) < 2:
        return x
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    x = x.reshape(n, height // 2, 2, width // 2, 2, channels)
    return x.mean((2, 4)) if kind == "avg" else x.max((2, 4))


def flatten(x: Array) -> Float[Array, "n d"]:
    return x.reshape(x.shape[0], -1)


def first_padding(image_side: int, usual: int) -> int:
    """Zero padding of the first convolution: 28 pixels become the 32 the networks are made for."""
    return usual + 2 if image_side == 28 else usual
