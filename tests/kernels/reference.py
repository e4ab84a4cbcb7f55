"""Slow float64 NumPy oracle of the exact kernels: the full covariance of all pixel pairs.

Independent of the engines: no offset bands, no polynomials, arccos of the textbook formula; one
pair of images at a time, K[p, p'] and T[p, p'] for all pixels p = (y, x), p' = (y', x').
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from distill_cli.arch.layers import (
    Architecture,
    AvgPool,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    Relu,
    convnet,
    fully_connected,
)

# Float64, relative to the largest entry. The angle of equal images is lost to sqrt(2 eps) = 2e-8.
TOLERANCE = {"nngp": 1e-12, "ntk": 3e-8}

CASES = {
    "odd and oblong": (convnet(4, 2), (7, 10, 3)),
    "two convolutions first": (convnet(4, 2, (2, 1)), (6, 6, 2)),
    "three convolutions, odd sizes": (convnet(4, 2, (3, 1)), (7, 5, 2)),
    "two convolutions last": (convnet(4, 2, (1, 2)), (9, 6, 2)),
    "global average": (
        Architecture((Conv(3), Relu(), AvgPool(), Conv(3), Relu(), GlobalAvgPool())),
        (6, 5, 2),
    ),
    "no pooling, dense after": (
        Architecture((Conv(3), Relu(), Conv(3), Relu(), Flatten(), Dense(3), Relu())),
        (5, 6, 2),
    ),
    "pool before everything": (Architecture((AvgPool(), Conv(3), Relu(), Flatten())), (6, 6, 1)),
    "fully connected": (fully_connected(4, 3), (4, 5, 2)),
    "other variances": (
        Architecture(convnet(4, 1).layers, weight_variance=1.3, bias_variance=0.4),
        (5, 4, 1),
    ),
    "no bias": (Architecture(convnet(4, 1).layers, bias_variance=0.0), (3, 4, 1)),
}


def images(shape: tuple[int, int, int], n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, *shape)).astype(np.float32)


def relative_error(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.abs(found - exact).max() / np.abs(exact).max())


def _box(k: np.ndarray) -> np.ndarray:
    """Sum over the 3x3 patch, moving both pixels together; zero padding. k (y, x, y', x')."""
    h, w = k.shape[:2]
    padded = np.pad(k, 1)
    return sum(
        padded[dy : dy + h, dx : dx + w, dy : dy + h, dx : dx + w]
        for dy in range(3)
        for dx in range(3)
    )


def _pool(k: np.ndarray) -> np.ndarray:
    h, w = k.shape[0] // 2, k.shape[1] // 2
    k = k[: 2 * h, : 2 * w, : 2 * h, : 2 * w].reshape(h, 2, w, 2, h, 2, w, 2)
    return k.mean((1, 3, 5, 7))


def _relu(k, t, q1, q2):
    """q1, q2: the two images' variances, broadcast against k."""
    s = np.sqrt(q1 * q2)
    cosine = np.divide(k, s, out=np.zeros_like(k), where=s > 0)
    cosine = np.clip(cosine, -1, 1)
    angle = np.arccos(cosine)
    return (
        s * (np.sin(angle) + (np.pi - angle) * cosine) / (2 * np.pi),
        t * (np.pi - angle) / (2 * np.pi),
    )


def _one(architecture: Architecture, x: np.ndarray, z: np.ndarray, diagonals=None):
    """(NNGP, NTK, variances at every ReLU) of one pair; diagonals: the variances of x and of z."""
    w2, b2 = architecture.weight_variance, architecture.bias_variance
    k = np.einsum("abc,dec->abde", x, z) / x.shape[2]
    t = np.zeros_like(k)
    found = []
    for layer in (*architecture.layers, Dense(1)):
        match layer:
            case Conv():
                k = b2 + w2 / 9 * _box(k)
                t = k + w2 / 9 * _box(t)
            case Dense():
                k = b2 + w2 * k
                t = k + w2 * t
            case AvgPool():
                k, t = _pool(k), _pool(t)
            case Flatten() if k.ndim:
                k, t = (np.einsum("abab->", a) / (a.shape[0] * a.shape[1]) for a in (k, t))
            case GlobalAvgPool():
                k, t = k.mean(), t.mean()
            case Relu():
                k, t = np.asarray(k), np.asarray(t)
                q = np.einsum("abab->ab", k) if k.ndim else k
                q1, q2 = (q, q) if diagonals is None else (d[len(found)] for d in diagonals)
                found.append(q)
                k, t = _relu(k, t, q1[..., None, None] if k.ndim else q1, q2)
    return float(k), float(t), found


def kernels(architecture: Architecture, x1: np.ndarray, x2: np.ndarray | None = None):
    """(NNGP, NTK), each (n1, n2) float64, of the architecture and its read-out; x (n, y, x, c)."""
    x1 = np.asarray(x1, np.float64)
    x2 = x1 if x2 is None else np.asarray(x2, np.float64)
    d1 = [_one(architecture, x, x)[2] for x in x1]
    d2 = [_one(architecture, z, z)[2] for z in x2]
    out = np.array(
        [
            [_one(architecture, x, z, (a, b))[:2] for z, b in zip(x2, d2, strict=True)]
            for x, a in zip(x1, d1, strict=True)
        ]
    )
    return out[..., 0], out[..., 1]


def with_copies(shape: tuple[int, int, int], columns: int) -> tuple[np.ndarray, np.ndarray]:
    """(x, z), 3 and `columns` images; z holds one of x and a scaled copy of another."""
    x, z = images(shape, 3, 0), images(shape, columns, 1)
    z[1], z[2] = x[1], 1.001 * x[2]
    return x, z


@cache
def _full(name: str):
    """kernels() of the images of both sets, computed once for all engines."""
    architecture, shape = CASES[name]
    return kernels(architecture, np.concatenate(with_copies(shape, 5)))


def errors_of_both_forms(gram: Callable[..., Any], name: str) -> dict[str, float]:
    """Of both kernels of a case in float64: the larger relative error of gram(x, z) and gram(x)."""
    architecture, shape = CASES[name]
    x, z = with_copies(shape, 5)
    found, square = (gram(architecture, x, *more, dtype=np.float64) for more in ((z,), ()))
    return {
        kernel: np.maximum(  # which is NaN where one of them is
            relative_error(found[kernel], exact[:3, 3:]),
            relative_error(square[kernel], exact[:3, :3]),
        )
        for kernel, exact in zip(TOLERANCE, _full(name), strict=True)
    }
