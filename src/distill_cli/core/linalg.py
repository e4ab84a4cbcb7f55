"""Kernel ridge regression, the mechanism that the kernel methods share.

f(x) = K(x, S) (K_ss + reg trace(K_ss)/n I)^-1 y_s, solved in float64 (RFAD section 3). The ridge is
relative to the mean of the diagonal, so that it does not depend on the scale of the kernel; it caps
the condition number at n/reg + 1.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Reg = float | Float[np.ndarray, " n"]  # relative ridge: one for all support images, or one of each


def ridge(k_ss: Float[Array, "n n"], reg: Reg) -> Float[Array, "n n"]:
    """K + trace(K)/n * diag(reg), in float64."""
    k_ss = k_ss.astype(jnp.float64)
    n = k_ss.shape[0]
    each = jnp.broadcast_to(jnp.asarray(reg, jnp.float64), (n,))
    return k_ss + jnp.trace(k_ss) / n * jnp.diag(each)


def krr_solve(
    k_ss: Float[Array, "n n"], y_s: Float[Array, "n class"], reg: Reg
) -> Float[Array, "n class"]:
    """alpha = (K_ss + reg trace(K_ss)/n I)^-1 y_s by Cholesky in float64.

    Differentiated as the solution of A alpha = y, with one more solve by the same factor:
    dy = A^-1 dalpha, dA = -dy alpha^T; not through the factorisation, whose derivative is a
    sequence of small triangular products. A kernel that is infinite, or not positive definite at
    this ridge, gives NaN, which the loop reports.
    """
    a = ridge(k_ss, reg)
    factor = jax.scipy.linalg.cho_factor(jax.lax.stop_gradient(a), lower=True)

    def multiply(x: Array) -> Array:
        return jnp.matmul(a, x, precision="highest")

    def solve(_: object, y: Array) -> Array:
        # LAPACK factorises infinity without complaint, and then divides by it.
        finite = jnp.isfinite(jnp.trace(a))
        return jnp.where(finite, jax.scipy.linalg.cho_solve(factor, y), jnp.nan)

    y_s = y_s.astype(jnp.float64)
    return jax.lax.custom_linear_solve(multiply, y_s, solve, symmetric=True)


def leave_one_out(
    k_ss: Float[Array, "n n"], y_s: Float[Array, "n class"], reg: Reg
) -> Float[Array, "n class"]:
    """y_i - f_{-i}(x_i): residual at each support point of the regression on all the others.

    With R = K_ss + reg trace(K_ss)/n I (its ridge kept as it is): (R^-1 y)_i / (R^-1)_ii, float64
    (Rasmussen & Williams 2006, eq. 5.12).
    """
    eye = jnp.eye(k_ss.shape[0], dtype=jnp.float64)
    inverse = krr_solve(k_ss, eye, reg)
    return inverse @ y_s.astype(jnp.float64) / jnp.diag(inverse)[:, None]


def krr_predict(
    k_ts: Float[Array, "m n"], alpha: Float[Array, "n class"]
) -> Float[Array, "m class"]:
    """f(x_t) = K_ts alpha, in float64."""
    return k_ts.astype(jnp.float64) @ alpha
