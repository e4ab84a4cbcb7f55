"""The ReLU's dual functions (Cho & Saul 2009) as one square root and one polynomial.

For a correlation c = cos t in [-1, 1] and a pair of pre-activations of unit variance

    E[relu(u) relu(v)] = f(c) / (2 pi),     f(c)  = sin t + (pi - t) cos t
    E[relu'(u) relu'(v)] = f'(c) / (2 pi),  f'(c) = pi - t

With a = min(|c|, 1), u = 1 - a, t_a = arccos a:

    f(c)  = pi max(c, 0) + u sqrt(u) h(a),   h(a) = (sin t_a - t_a cos t_a) / u^(3/2)
    f'(c) = pi [c >= 0] -+ sqrt(u) P(a),     P(a) = t_a / sqrt(u)

h and P are analytic on [0, 1] (their nearest singularity is a = -1), so short polynomials reach
rounding error; XLA's own arccos is not vectorised on CPU and costs tens of times more.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

DEGREE = {"float32": {"h": 6, "p": 7}, "float64": {"h": 16, "p": 18}}


def _h(t: np.ndarray) -> np.ndarray:
    series = sum(
        (-1) ** (k + 1) * t ** (2 * k - 2) * (2 * k / math.factorial(2 * k + 1))
        for k in range(1, 16)
    )
    half = np.sinc(t / (2 * np.pi)) / 2  # sin(t/2) / t
    return series / (2 * half**2) ** 1.5


def _p(t: np.ndarray) -> np.ndarray:
    return 1 / (np.sqrt(2) * np.sinc(t / (2 * np.pi)) / 2)


@functools.cache
def coefficients(name: str, degree: int) -> tuple[float, ...]:
    """Coefficients of h ("h") or P ("p") in powers of a, highest first: Chebyshev fit on [0, 1]."""
    function = {"h": _h, "p": _p}[name]
    fit = np.polynomial.chebyshev.Chebyshev.interpolate(
        lambda a: function(np.arccos(np.clip(a, -1, 1))), degree, domain=[0, 1]
    )
    return tuple(float(c) for c in fit.convert(kind=np.polynomial.Polynomial).coef[::-1])


def _horner(name: str, a: Array) -> Array:
    first, *rest = coefficients(name, DEGREE[a.dtype.name][name])
    value = jnp.asarray(first, a.dtype)
    for c in rest:
        value = value * a + jnp.asarray(c, a.dtype)
    return value


CLIP = 1e-6  # smallest 1 - c^2 in a second derivative, which is singular at equal images


def safe_sqrt(q: Float[Array, "..."]) -> Float[Array, "..."]:
    """sqrt(q), with derivative 0 rather than infinity at q = 0."""
    return jnp.where(q > 0, jax.lax.sqrt(jnp.where(q > 0, q, 1)), 0)


@jax.custom_jvp
def _relu_dual(c: Float[Array, "..."]) -> Float[Array, "..."]:
    a = jnp.abs(c)
    u = jnp.maximum(1 - a, 0)
    return math.pi * jnp.maximum(c, 0) + u * jax.lax.sqrt(u) * _horner("h", a)


@jax.custom_jvp
def _relu_dual_slope(c: Float[Array, "..."]) -> Float[Array, "..."]:
    a = jnp.abs(c)
    angle = jax.lax.sqrt(jnp.maximum(1 - a, 0)) * _horner("p", a)
    return jnp.where(c >= 0, math.pi - angle, angle)


@_relu_dual.defjvp
def _(primals, tangents):
    (c,), (dc,) = primals, tangents
    return _relu_dual(c), _relu_dual_slope(c) * dc


@_relu_dual_slope.defjvp
def _(primals, tangents):
    (c,), (dc,) = primals, tangents
    return _relu_dual_slope(c), dc * jax.lax.rsqrt(jnp.maximum(1 - c * c, CLIP))


# Inlined jits: traced once per shape instead of at every use, for quick compilation.


@functools.partial(jax.jit, inline=True)
def relu_dual(c: Float[Array, "..."]) -> Float[Array, "..."]:
    """f(c) above, for any c (values outside [-1, 1] by rounding count as +-1)."""
    return _relu_dual(c)


@functools.partial(jax.jit, inline=True)
def relu_dual_slope(c: Float[Array, "..."]) -> Float[Array, "..."]:
    """f'(c) = pi - arccos c; its own derivative is clipped at 1 - c^2 = CLIP."""
    return _relu_dual_slope(c)
