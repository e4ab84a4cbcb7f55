"""Vectors in which initialisers compare images: pixels, random ConvNets, or the method's own."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from distill_cli.arch.layers import Architecture
from distill_cli.config import Config, at_least
from distill_cli.core.keys import named_key, step_key
from distill_cli.errors import UserError
from distill_cli.init.base import Request
from distill_cli.kernels.random_features import RandomFeatureKernel

BLOCK = 1024  # images featurised by one call; a fixed shape, so that it is compiled once
KEPT_BYTES = 2**30  # features up to this size are kept between passes, larger ones made again


@dataclass(frozen=True)
class FeatureConfig:
    """features: random_convnet (the run's architecture with random weights: K = Phi Phi' is its
    random-feature NNGP), pixels (flat images), method (what the method uses at step 0); networks:
    random networks; dimensions: most numbers of a vector, longer ones are sketched."""

    features: Literal["random_convnet", "pixels", "method"] = "random_convnet"
    networks: int = 2
    dimensions: int = 4096

    def __post_init__(self) -> None:
        at_least("init.networks", self.networks, 1)
        at_least("init.dimensions", self.dimensions, 1)


class Features:
    """Feature vectors of the training split, made block by block."""

    def __init__(
        self, config: FeatureConfig, request: Request, name: str = "init/features"
    ) -> None:
        self.request = request
        self.n = len(request.labels)
        self._size = min(BLOCK, self.n)
        self._map = _feature_map(config, request, name, self._size)
        self._sketch = None
        probe = self._block(np.zeros(1, np.int64))
        if probe.shape[1] > config.dimensions:
            generator = request.generator("sketch")
            self._sketch = sketch(probe.shape[1], config.dimensions, generator)
        self.p = min(probe.shape[1], config.dimensions)
        self._kept: np.ndarray | None = None

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Phi of these rows, (len(rows), p) float32."""
        if self._kept is not None:
            return self._kept[rows]
        blocks = [self._block(rows[at : at + self._size]) for at in range(0, len(rows), self._size)]
        return np.concatenate(blocks)

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """(rows, Phi of these rows) over the whole split, in order."""
        if self._kept is None and 4 * self.n * self.p <= KEPT_BYTES:
            kept = np.empty((self.n, self.p), np.float32)
            for at in range(0, self.n, self._size):
                end = min(at + self._size, self.n)
                kept[at:end] = self._block(np.arange(at, end))
            self._kept = kept
        for at in range(0, self.n, self._size):
            part = slice(at, min(at + self._size, self.n))
            if self._kept is not None:
                yield part, self._kept[part]
            else:
                yield part, self._block(np.arange(part.start, part.stop))

    def _block(self, rows: np.ndarray) -> np.ndarray:
        images = np.asarray(self.request.images[rows], np.float32)
        phi = self._map(images)
        return phi if self._sketch is None else self._sketch(phi)


class Rows:
    """Feature vectors of some rows of the training split, in blocks."""

    def __init__(self, features: Features, rows: np.ndarray) -> None:
        self._features, self._rows = features, rows
        self.n, self.p = len(rows), features.p

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """(places among the rows, Phi of these rows), in order."""
        for at in range(0, self.n, BLOCK):
            part = slice(at, min(at + BLOCK, self.n))
            yield part, self._features.of(self._rows[part])


def _feature_map(
    config: FeatureConfig, request: Request, name: str, size: int
) -> Callable[[np.ndarray], np.ndarray]:
    if config.features == "pixels":
        return lambda images: images.reshape(len(images), -1)
    if config.features == "method":
        if request.method_features is None:
            raise UserError(
                "init.features=method: this method has no features at step 0; "
                "choose pixels or random_convnet"
            )
        return in_blocks(request.method_features, size)
    shape = request.images.shape[1:]
    key = named_key(request.seed, name)
    nets = random_features(request.architecture, shape, config.networks, request.micro, key)
    return in_blocks(nets, size)


def random_features(
    architecture: Architecture, shape: Any, networks: int, micro: int, key: Any
) -> Callable[[Any], Any]:
    """images -> [w Phi, b], whose inner products are the kernel w^2 <Phi, Phi'> + b^2."""
    kernel = RandomFeatureKernel(architecture, tuple(shape), networks)
    weights = jax.jit(kernel.sample)(key)
    return partial(_full_features, kernel, micro, weights)


@partial(jax.jit, static_argnums=(0, 1))
def _full_features(kernel: RandomFeatureKernel, micro: int, weights: Any, images: Any) -> Any:
    architecture = kernel.architecture
    phi = kernel.features(weights, images, micro) * architecture.weight_variance**0.5
    bias = jnp.full((phi.shape[0], 1), architecture.bias_variance**0.5, phi.dtype)
    return jnp.concatenate([phi, bias], axis=1)


def step_zero_features(
    run: Config, architecture: Architecture, shape: tuple[int, int, int], micro: int
) -> Callable[[Any], Any] | None:
    """What the method compares images by in its first step, or None where that is not known here.

    RFAD: the networks that the loop's key of step 0 gives (it redraws them every step).
    """
    if (run.method.name, run.kernel.name) != ("rfad", "random_features"):
        return None
    key = step_key(named_key(run.seed, "step"), 0)
    return random_features(architecture, shape, run.kernel.networks, micro, key)


def in_blocks(feature_map: Callable[[Any], Any], size: int) -> Callable[[np.ndarray], np.ndarray]:
    """The map on at most `size` images, padded to that many so that only one shape is compiled."""

    def mapped(images: np.ndarray) -> np.ndarray:
        padding = ((0, size - len(images)),) + ((0, 0),) * (images.ndim - 1)
        return np.asarray(feature_map(np.pad(images, padding)), np.float32)[: len(images)]

    return mapped


def sketch(
    dim: int, size: int, generator: np.random.Generator
) -> Callable[[np.ndarray], np.ndarray]:
    """Count sketch: coordinates get random signs and are added up in `size` random groups.

    Inner products are kept on average, with standard deviation about |a||b| sqrt(2 / size)
    (Charikar et al. 2002). No matrix is needed.
    """
    groups = -(-dim // size)
    order = generator.permutation(groups * size)  # places from dim on are empty
    signs = generator.choice(np.array([-1.0, 1.0], np.float32), dim)

    def sketched(phi: np.ndarray) -> np.ndarray:
        padded = np.zeros((len(phi), groups * size), np.float32)
        padded[:, order[:dim]] = phi * signs
        return padded.reshape(len(phi), groups, size).sum(1)

    return sketched
