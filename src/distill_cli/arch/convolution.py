"""Convolution whose derivative is fast inside loops, on a CPU too."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

_NHWC = ("NHWC", "HWIO", "NHWC")


def convolve(
    x: Float[Array, "n height width channel"],
    kernel: Float[Array, "kh kw channel out"],
    padding: tuple[int, int],
    stride: int = 1,
    precision: lax.Precision | None = None,
) -> Float[Array, "n h w out"]:
    """Cross-correlation with zero padding, with a derivative that is fast in loops.

    Equal to lax.conv_general_dilated. On a CPU the gradients that JAX derives have layouts for
    which XLA falls back to scalar code inside the body of a while loop
    (github.com/jax-ml/jax/issues/12868): that of the weights is 36 to 150 times slower in a scan
    than outside, that of the images 8 times, both together at stride 2 some 30 times. There the
    transposes are written out. The price on a CPU: reverse mode of any order, but no forward mode
    (jvp); at other strides derivatives of second order are JAX's own.
    """
    if jax.default_backend() == "cpu":
        return _convolve_cpu(x, kernel, padding, stride, precision)
    return _lax_convolve(x, kernel, padding, stride, precision)


def _lax_convolve(
    x: Array, kernel: Array, padding: tuple[int, int], stride: int, precision: Any
) -> Array:
    return _general(x, kernel, [(pad, pad) for pad in padding], (stride, stride), precision)


def _general(
    x: Array, kernel: Array, pads: Any, strides: tuple[int, int], precision: Any,
    apart: tuple[int, int] = (1, 1), kernel_apart: tuple[int, int] = (1, 1),
) -> Array:  # fmt: skip
    return lax.conv_general_dilated(
        x, kernel, strides, pads, apart, kernel_apart, _NHWC, precision=precision
    )


_convolve_cpu: Any = jax.custom_vjp(_lax_convolve, nondiff_argnums=(2, 3, 4))


def _forward(x: Array, kernel: Array, *static: Any) -> tuple[Array, tuple[Array, Array]]:
    return _convolve_cpu(x, kernel, *static), (x, kernel)


def _backward(
    padding: tuple[int, int], stride: int, precision: Any, saved: tuple[Array, Array], g: Array
) -> tuple[Array, Array]:
    x, kernel = saved
    full = [size - 1 - pad for size, pad in zip(kernel.shape, padding, strict=False)]
    turned = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    # dW[a, b, c, o] = sum_{n, p} x[n, s p + (a, b), c] g[n, p, o]: a convolution over channels.
    over, by = x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3)
    if stride == 1:  # by convolve itself, for derivatives of higher order
        to_x = _convolve_cpu(g, turned, tuple(full), 1, precision)
        to_kernel = _convolve_cpu(over, by, padding, 1, precision)
    else:
        steps, one = (stride, stride), (1, 1)
        # Rows and columns at the end that no window of the forward pass reaches.
        unread = [(x.shape[1 + i] + 2 * padding[i] - kernel.shape[i]) % stride for i in range(2)]
        pads = [(pad, pad + rest) for pad, rest in zip(full, unread, strict=True)]
        to_x = _general(g, turned, pads, one, precision, apart=steps)
        pads = [(pad, pad - rest) for pad, rest in zip(padding, unread, strict=True)]
        to_kernel = _general(over, by, pads, one, precision, kernel_apart=steps)
    return to_x, to_kernel.transpose(1, 2, 0, 3)


_convolve_cpu.defvjp(_forward, _backward)
