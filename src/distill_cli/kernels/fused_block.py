"""The first block of a network, [conv 3x3, bias, ReLU, 2x2 average pool], as one GPU kernel.

With few input channels the convolution is cheap and its output large: 671 MB for 640 images of
32 x 32 with 256 channels, written once and read once before the pool leaves a quarter of it. Here
the four pixels of a pooling window are four small matrix products whose sum is all that is written.

    out[p] = 1/4 sum over phases q of relu(patch_q[p] W + bias)

p: pooled pixels of all images; patch_q[p]: the 9 c values that the convolution reads at phase
q = (y mod 2, x mod 2) of p's window. Patches do not depend on the network: they are cut once per
micro-batch and read by all networks.

Written in Pallas for Triton, forward only; random_features.network_features is the reference, and
what is differentiated. Off the GPU the kernel runs in Pallas' interpreter, for tests.
"""

import functools
import logging
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jaxtyping import Array, Float

from distill_cli.arch.layers import Architecture, AvgPool, Conv, Relu

log = logging.getLogger(__name__)
ROWS, COLUMNS = 128, 128  # pooled pixels and channels of a program: 64 accumulators a thread
WARPS = 8
TRIAL = (8, 8, 8, 3), (3, 3, 3, 128)  # images and weights
LEAST = 16  # shortest side of a matrix product on the tensor cores

Patches = Float[Array, "4 p k"]


def applies(architecture: Architecture) -> bool:
    """Whether the network starts with such a block, and its channels fill whole programs."""
    match architecture.layers[:3]:
        case (Conv(width), Relu(), AvgPool()):
            return width % LEAST == 0 and width % min(width, COLUMNS) == 0
    return False


@functools.cache
def works() -> bool:
    """Whether this process computes on a GPU whose compiler takes the kernel, and the kernel gives
    there what XLA's convolution gives, up to the rounding of TF32. False off the GPU."""
    if jax.default_backend() != "gpu":
        return False
    x, weight = (jax.random.normal(jax.random.key(i), s) for i, s in enumerate(TRIAL))
    try:
        pooled = first_block(cut_patches(x, jnp.float32), weight, weight[0, 0, 0], (8, 4, 4))
    except Exception as error:  # whatever Triton says about this card
        log.warning("kernel.fused=auto: off, %s", " ".join(str(error).split())[:200])
        return False
    dims = ("NHWC", "HWIO", "NHWC")
    y = lax.conv_general_dilated(x, weight, (1, 1), "SAME", dimension_numbers=dims)
    y = jnp.maximum(y + weight[0, 0, 0], 0).reshape(8, 4, 2, 4, 2, -1).mean((2, 4))
    close = bool(jnp.allclose(pooled, y, atol=0.05))
    if not close:
        log.warning("kernel.fused=auto: off, its trial differs from XLA's path")
    return close


def cut_patches(x: Float[Array, "n h w c"], dtype: jnp.dtype) -> Patches:
    """The patches of every phase, (4, rows, k): rows are n (h // 2)(w // 2) pooled pixels filled up
    with zeros to whole programs, k is 9 c filled up to a multiple of 16."""
    n, h, w, c = x.shape
    h2, w2 = h // 2, w // 2
    padded = jnp.pad(x.astype(dtype), ((0, 0), (1, 1), (1, 1), (0, 0)))

    def shifted(i: int, j: int) -> Array:  # pixel (2 Y + i - 1, 2 X + j - 1) of pooled (Y, X)
        return padded[:, i : i + 2 * h2 : 2, j : j + 2 * w2 : 2]

    window = [(i, j) for i in range(3) for j in range(3)]
    phases = [
        jnp.concatenate([shifted(a + i, b + j) for i, j in window], -1)
        for a in range(2)
        for b in range(2)
    ]
    flat = jnp.stack(phases).reshape(4, n * h2 * w2, 9 * c)
    return jnp.pad(flat, ((0, 0), (0, -flat.shape[1] % ROWS), (0, -flat.shape[2] % LEAST)))


def conv_relu_pool(
    patches: Patches, weight: Float[Array, "3 3 c width"], bias: Float[Array, " width"]
) -> Float[Array, "p width"]:
    """The pooled activations of all rows of `patches`, in its dtype; products of float32 patches in
    TF32, sums in float32."""
    rows, k = patches.shape[1:]
    width = weight.shape[-1]
    columns = min(width, COLUMNS)
    flat = weight.reshape(-1, width).astype(patches.dtype)
    flat = jnp.pad(flat, ((0, k - len(flat)), (0, 0)))
    return pl.pallas_call(
        _kernel,
        out_shape=jax.ShapeDtypeStruct((rows, width), patches.dtype),
        grid=(rows // ROWS, width // columns),
        in_specs=[
            pl.BlockSpec((4, ROWS, k), lambda i, j: (0, i, 0)),
            pl.BlockSpec((k, columns), lambda i, j: (0, j)),
            pl.BlockSpec((columns,), lambda i, j: (j,)),
        ],
        out_specs=pl.BlockSpec((ROWS, columns), lambda i, j: (i, j)),
        name="conv_relu_pool",
        **_backend(),
    )(patches, flat, bias)


def first_block(
    patches: Patches, weight: Array, bias: Array, shape: tuple[int, int, int]
) -> Float[Array, "n h2 w2 width"]:
    """conv_relu_pool as images; shape: (n, h2, w2)."""
    pooled = conv_relu_pool(patches, weight, bias)
    return pooled[: int(np.prod(shape))].reshape(*shape, -1)


def _kernel(patches, weight, bias, out) -> None:
    total = jnp.zeros(out.shape, jnp.float32)
    for phase in range(4):
        product = partial(lax.dot, precision=lax.Precision.DEFAULT)
        y = product(patches[phase], weight[...], preferred_element_type=jnp.float32)
        total += jnp.maximum(y + bias[...][None, :], 0)
    out[...] = (total * 0.25).astype(out.dtype)


def _backend() -> dict:
    """How Pallas runs the kernel: by Triton on a GPU, interpreted elsewhere."""
    if jax.default_backend() != "gpu":
        return {"interpret": True}
    from jax.experimental.pallas import triton

    return {"compiler_params": triton.CompilerParams(num_warps=WARPS, num_stages=2)}
