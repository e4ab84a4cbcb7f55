"""Link functions g of multi-index targets f*(x) = g(<theta_1,x>, ..., <theta_r,x>).

Each has mean 0 and variance 1 under z ~ N(0, I_r). H = E[Hessian g] decides whether one gradient
step can see the directions: where H vanishes the population gradient holds no signal of them
(Damian, Lee, Soltanolkotabi 2022). he2(z) = (z^2-1)/sqrt2, he3(z) = (z^3-3z)/sqrt6.
"""

import functools
import importlib.util
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from distill_cli.errors import UserError
from distill_cli.theory.config import LINKS, link_file

POINTS = 200_000  # Monte Carlo points for a user's link
VANISHING = 0.05  # |H|_2 below this counts as no signal; f* has variance 1
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Link:
    """A link: value maps z (..., r) to (...); hessian is H (r, r) as nested tuples (hashable)."""

    name: str
    value: Callable[[Float[Array, "*n r"]], Float[Array, "*n"]]
    hessian: tuple[tuple[float, ...], ...]

    @property
    def matrix(self) -> np.ndarray:
        """H (r, r) float64."""
        return np.array(self.hessian, np.float64)


def he2(z: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Second normalised Hermite polynomial."""
    return (z**2 - 1) / math.sqrt(2)


def he3(z: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Third normalised Hermite polynomial."""
    return (z**3 - 3 * z) / math.sqrt(6)


def quad(z: Float[Array, "*n r"]) -> Float[Array, "*n"]:
    """sum_k he2(z_k) / sqrt r."""
    return he2(z).sum(-1) / math.sqrt(z.shape[-1])


def saddle(z: Float[Array, "*n r"]) -> Float[Array, "*n"]:
    """sum_k (-1)^k he2(z_k) / sqrt r: H is indefinite."""
    return he2(z) @ signs(z.shape[-1]) / math.sqrt(z.shape[-1])


def mix(z: Float[Array, "*n r"]) -> Float[Array, "*n"]:
    """0.8 quad + 0.6 h, h = he3(z_1) for r = 1, else sum_k he2(z_k) z_{k+1 mod r} / sqrt r."""
    r = z.shape[-1]
    h = he3(z[..., 0]) if r == 1 else (he2(z) * jnp.roll(z, -1, -1)).sum(-1) / math.sqrt(r)
    return 0.8 * quad(z) + 0.6 * h


def cubic(z: Float[Array, "*n r"]) -> Float[Array, "*n"]:
    """sum_k he3(z_k) / sqrt r: H = 0, the negative control."""
    return he3(z).sum(-1) / math.sqrt(z.shape[-1])


def signs(r: int) -> np.ndarray:
    """+1, -1, +1, ... (r,) float32."""
    return np.where(np.arange(r) % 2, -1.0, 1.0).astype(np.float32)


@functools.lru_cache
def resolve(name: str, r: int) -> Link:
    """The link of that name, or of a user's FILE.py:FUNCTION, at r directions.

    A user's function maps z (n, r) to (n,), written with jax.numpy; it is shifted and scaled to
    mean 0 and variance 1. Raises UserError where the file does not give such a function.
    """
    if name not in LINKS:
        return from_file(name, r)
    scale = math.sqrt(2 / r)
    diagonal = {
        "quad": np.full(r, scale),
        "saddle": scale * signs(r),
        "mix": np.full(r, 0.8 * scale),
        "cubic": np.zeros(r),
    }[name]
    function = {"quad": quad, "saddle": saddle, "mix": mix, "cubic": cubic}[name]
    return Link(name, function, as_tuples(np.diag(diagonal)))


def as_tuples(matrix: np.ndarray) -> tuple[tuple[float, ...], ...]:
    """Rows of a matrix as nested tuples of floats."""
    return tuple(tuple(float(v) for v in row) for row in matrix)


def from_file(name: str, r: int) -> Link:
    """Load a user's link and normalise it by Monte Carlo over POINTS points."""
    file, function_name = link_file(name)
    spec = importlib.util.spec_from_file_location("distill_theory_link", file)
    if spec is None or spec.loader is None:
        raise UserError(f"link={name}: {file} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"link={name}: {file} fails: {type(error).__name__}: {error}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise UserError(f"link={name}: {file} has no function {function_name}")
    z = np.random.default_rng(0).standard_normal((POINTS, r)).astype(np.float32)
    try:
        values = np.asarray(function(jnp.asarray(z)), np.float64)
    except Exception as error:
        raise UserError(
            f"link={name}: {function_name} fails on an array {(POINTS, r)}: {error}"
        ) from error
    found = ""
    if values.shape != (POINTS,):
        found = f"shape {values.shape} for n = {POINTS}"
    elif not np.isfinite(values).all():
        found = "numbers that are not finite"
    elif values.std() < 1e-6:
        found = "equal numbers"
    if found:
        raise UserError(
            f"link={name}: must map (n, {r}) to n different finite numbers, found {found}"
        )
    mean, deviation = float(values.mean()), float(values.std())

    def value(z: Array) -> Array:
        return (jnp.asarray(function(z)) - mean) / deviation

    return Link(name, value, as_tuples(stein_hessian(value, r)))


def stein_hessian(value: Callable[..., Array], r: int) -> np.ndarray:
    """E[Hessian g] = E[g(z) (z z' - I)] (Stein), by Monte Carlo in float64; needs no derivative.

    Antithetic points z, -z remove the noise of odd parts.
    """
    z = np.random.default_rng(1).standard_normal((POINTS, r)).astype(np.float32)
    g = np.asarray(value(jnp.asarray(z)), np.float64) + np.asarray(value(jnp.asarray(-z)))
    z = z.astype(np.float64)
    return (z * (g / 2)[:, None]).T @ z / POINTS - np.eye(r) * np.mean(g / 2)


def warn_without_signal(link: Link) -> str | None:
    """One line where H vanishes or lacks directions, else None; it is logged as a warning."""
    values = np.abs(np.linalg.eigvalsh(link.matrix))
    if values.min() >= VANISHING:
        return None
    if values.max() < VANISHING:
        text = (
            f"link={link.name}: the expected Hessian vanishes, one gradient step sees no direction "
            "of the target; the cubic rows of study=controls show what then remains"
        )
    else:
        text = (
            f"link={link.name}: the expected Hessian has rank {int((values >= VANISHING).sum())} "
            f"of {len(values)}, the other directions will be missed (study=controls, cubic rows)"
        )
    log.warning(text)
    return text


def orthonormal(key: Array, d: int, r: int) -> Float[Array, "d r"]:
    """Theta: r orthonormal columns, QR of a Gaussian matrix."""
    return jnp.linalg.qr(jax.random.normal(key, (d, r), jnp.float32))[0]
