"""The first block of a network, [conv 3x3, bias, ReLU, 2x2 average pool], as one GPU kernel.

With few input channels the convolution is cheap and its output large: 671 MB for 640 images of
32 x 32 with 256 channels, written once and read once before the pool leaves a quarter of it. Here
the four pixels of a pooling window are four small matrix products whose sum is all that is written.

    out[p] = 1/4 sum over phases q of relu(patch[p] W_q + bias)

p: a pooled pixel of one image; patch[p]: the 4 x 4 x c pixels around its window; W_q: the 3 x 3
weights at phase q = (y mod 2, x mod 2) of the patch, zero elsewhere. Patches do not depend on the
network: they are cut once per micro-batch and read by all networks.

Written in Pallas for Triton, forward only; random_features.network_features is the reference, and
what is differentiated. Off the GPU the kernel runs in Pallas' interpreter, for tests.
"""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jaxtyping import Array, Float

from distill_cli.arch.layers import Architecture, AvgPool, Conv, Relu

log = logging.getLogger(__name__)
# Pooled pixels and channels of a program: at 128 channels an H100 runs out of registers in TF32.
ROWS, COLUMNS = 128, 64
WARPS = 8
TRIAL = (8, 8, 8, 3), (3, 3, 3, 128)  # images and weights

Patches = Float[Array, "p k"]


def applies(architecture: Architecture) -> bool:
    """Whether the network starts with such a block, and its channels fill whole programs: any
    multiple of 64, or 16 or 32."""
    match architecture.layers[:3]:
        case (Conv(width), Relu(), AvgPool()):
            return width % COLUMNS == 0 or width in (16, 32)
    return False


@functools.cache
def works() -> bool:
    """Whether this process computes on a GPU whose compiler takes the kernel, and the kernel gives
    there what XLA's convolution gives, up to the rounding of TF32. False off the GPU."""
    if jax.default_backend() != "gpu":
        return False
    try:
        close = trial()
    except Exception as error:  # whatever Triton says about this card
        log.warning("kernel.fused=auto: off, %s", " ".join(str(error).split())[:200])
        return False
    if not close:
        log.warning("kernel.fused=auto: off, its trial differs from XLA's path")
    return close


def trial() -> bool:
    """Whether the kernel agrees with XLA's path on a few random images, in float32."""
    x, weight = (jax.random.normal(jax.random.key(i), s, "float32") for i, s in enumerate(TRIAL))
    bias = weight[0, 0, 0]
    pooled = first_block(cut_patches(x, jnp.float32), weight, bias, (8, 4, 4))
    dims = ("NHWC", "HWIO", "NHWC")
    y = lax.conv_general_dilated(x, weight, (1, 1), "SAME", dimension_numbers=dims)
    y = jnp.maximum(y + bias[None, None, None], 0).reshape(8, 4, 2, 4, 2, -1).mean((2, 4))
    return bool(jnp.allclose(pooled, y, atol=0.05))


def cut_patches(x: Float[Array, "n h w c"], dtype: jnp.dtype) -> Patches:
    """The patches of all pooled pixels, n (h // 2)(w // 2) rows filled up with zeros to whole
    programs, 16 c columns to a power of two."""
    n, h, w, c = x.shape
    h2, w2 = h // 2, w // 2
    padded = jnp.pad(x.astype(dtype), ((0, 0), (1, 1), (1, 1), (0, 0)))
    around = [padded[:, i : i + 2 * h2 : 2, j : j + 2 * w2 : 2] for i in range(4) for j in range(4)]
    flat = jnp.concatenate(around, -1).reshape(n * h2 * w2, 16 * c)
    return jnp.pad(flat, ((0, -len(flat) % ROWS), (0, columns_of(c) - 16 * c)))


def columns_of(channels: int) -> int:
    """Columns of the patches of so many channels: the next power of two, as Triton needs it."""
    return 16 * 2 ** (channels - 1).bit_length()


def phase_weights(weight: Float[Array, "3 3 c width"]) -> Float[Array, "4 k width"]:
    """W_q of the four phases."""
    c = weight.shape[2]
    phases = [
        jnp.pad(weight, ((a, 1 - a), (b, 1 - b), (0, 0), (0, 0))) for a in (0, 1) for b in (0, 1)
    ]
    flat = jnp.stack(phases).reshape(4, 16 * c, -1)
    return jnp.pad(flat, ((0, 0), (0, columns_of(c) - 16 * c), (0, 0)))


def conv_relu_pool(
    patches: Patches, weight: Float[Array, "3 3 c width"], bias: Float[Array, " width"]
) -> Float[Array, "p width"]:
    """The pooled activations of all rows of `patches`, in its dtype; products of float32 patches in
    TF32, sums in float32."""
    rows, k = patches.shape
    width = weight.shape[-1]
    columns = min(width, COLUMNS)
    return pl.pallas_call(
        _kernel,
        out_shape=jax.ShapeDtypeStruct((rows, width), patches.dtype),
        # Channels first: programs that read the same patches run side by side.
        grid=(width // columns, rows // ROWS),
        in_specs=[
            pl.BlockSpec((ROWS, k), lambda j, i: (i, 0)),
            pl.BlockSpec((4, k, columns), lambda j, i: (0, 0, j)),
            pl.BlockSpec((columns,), lambda j, i: (j,)),
        ],
        out_specs=pl.BlockSpec((ROWS, columns), lambda j, i: (i, j)),
        name="conv_relu_pool",
        **_backend(),
    )(patches, phase_weights(weight).astype(patches.dtype), bias)


def first_block(
    patches: Patches, weight: Array, bias: Array, shape: tuple[int, int, int]
) -> Float[Array, "n h2 w2 width"]:
    """conv_relu_pool as images; shape: (n, h2, w2)."""
    pooled = conv_relu_pool(patches, weight, bias)
    return pooled[: int(np.prod(shape))].reshape(*shape, -1)


def _kernel(patches, weights, bias, out) -> None:
    rows, total = patches[...], jnp.zeros(out.shape, jnp.float32)
    for phase in range(4):
        y = lax.dot(
            rows, weights[phase], precision=lax.Precision.DEFAULT,
            preferred_element_type=jnp.float32,
        )  # fmt: skip
        total += jnp.maximum(y + bias[...][None, :], 0)
    out[...] = (total * 0.25).astype(out.dtype)


def _backend() -> dict:
    """How Pallas runs the kernel: by Triton on a GPU, interpreted elsewhere."""
    if jax.default_backend() != "gpu":
        return {"interpret": True}
    from jax.experimental.pallas import triton

    return {"compiler_params": triton.CompilerParams(num_warps=WARPS, num_stages=2)}
