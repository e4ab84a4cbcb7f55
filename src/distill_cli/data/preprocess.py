"""Preprocessing: fit on the raw training images, apply, invert, save and load.

    x = (pixel / pixel_max - mean) / std                per channel; with pixel_mean (FRePo) the
                                                        mean is that of every pixel
    x = (x - mean_hwc(x)) / ||x - mean_hwc(x)||         only with per_image (SVHN, KIP)
    x = x W,  W = U diag(s)^(-1/2) U^T                  only with zca; x flattened as (h, w, c)

mean, std per channel of the training images; U, s eigenvectors and eigenvalues of Cov + a I with
Cov = X^T X / n after the steps before and a = zca * trace(Cov) / d. Source: RFAD code (reference
implementation of Loo et al. 2022), which flattens in (c, h, w) order; the result is the same.
"""

import dataclasses
import logging
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from distill_cli.core import memory
from distill_cli.core.files import write_npz
from distill_cli.data.cache import Arrays, cache_key, cached
from distill_cli.data.config import PreprocessConfig
from distill_cli.data.zca import channel_moments, chunks, covariance, pixel_moments, whitening
from distill_cli.errors import UserError, choice_error

if TYPE_CHECKING:
    from distill_cli.core.types import Dataset

MATRICES = 2.2  # of d x d float64 that whitening holds at once (measured: 12 GiB at d = 27,648)
SECONDS_PER_CUBE = 4e-11  # times d^3: 14 minutes at d = 27,648 on two cores
TOLD = 60.0  # seconds from which whitening is announced
FAMILIES = ("none", "rfad", "kip", "frepo", "dc")
NO_CONTRAST = 1e-4  # an image whose norm is below this after mean removal is left at zero
log = logging.getLogger(__name__)


class PreprocessArrays(NamedTuple):
    """The numbers of the transform as a pytree, to be passed to a jitted function as an argument.

    mean (c,) or (h, w, c), std (c,) and whiten (d, d) or None, float32; pixel_max scalar;
    per_image: 0. or 1.
    """

    pixel_max: Any
    mean: Any
    std: Any
    per_image: Any
    whiten: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Preprocess:
    """A fitted preprocessing. All arrays are NumPy.

    pixel_max: raw value of full brightness. mean: (c,) or (h, w, c), std: (c,), float64, on
        [0, 1] pixels.
    zca_vectors: eigenvectors U (d, d) float32, zca_values: eigenvalues s (d,) float64 of
        Cov + a I; both None without.
    """

    pixel_max: float
    mean: np.ndarray
    std: np.ndarray
    per_image: bool = False
    zca_vectors: np.ndarray | None = None
    zca_values: np.ndarray | None = None

    @property
    def exactly_invertible(self) -> bool:
        """False with the per-image step, which forgets each image's mean and contrast."""
        return not self.per_image

    @cached_property
    def arrays(self) -> PreprocessArrays:
        """Arguments of `apply`, float32 NumPy. W is formed once."""
        whiten = None
        if self.zca_vectors is not None and self.zca_values is not None:
            u = self.zca_vectors
            whiten = (u * (self.zca_values**-0.5).astype(np.float32)) @ u.T
        return PreprocessArrays(
            np.float32(self.pixel_max),
            self.mean.astype(np.float32),
            self.std.astype(np.float32),
            np.bool_(self.per_image),
            whiten,
        )

    def transform(self, images: Any) -> Any:
        """apply(self.arrays, images). Inside a jit of your own pass `arrays` in instead."""
        return _jitted_apply()(self.arrays, images)

    def apply_numpy_chunks(self, images: np.ndarray) -> np.ndarray:
        """A whole split, raw (n, h, w, c), to float32 (n, h, w, c) in host memory."""
        import jax

        arrays = jax.device_put(self.arrays)
        result = np.empty(images.shape, dtype=np.float32)
        start = 0
        for chunk in chunks(images):
            result[start : start + len(chunk)] = _jitted_apply()(arrays, chunk)
            start += len(chunk)
        return result

    def invert(self, images: np.ndarray) -> np.ndarray:
        """Preprocessed (n, h, w, c) to float64 pixels, [0, 1] from black to white, unclipped.

        With the per-image step an image comes back up to its own mean and scale.
        """
        x = np.asarray(images, dtype=np.float64)
        if self.zca_vectors is not None and self.zca_values is not None:
            u = self.zca_vectors
            x = ((x.reshape(len(x), -1) @ u) * self.zca_values**0.5 @ u.T).reshape(x.shape)
        return x * self.std + self.mean

    def save(self, path: Path, **about: Any) -> None:
        """Write an .npz: pixel_max, mean, std, per_image[, zca_vectors, zca_values]; about: what
        load.py has to know besides, to read new pictures as the run read its own (image_shape,
        resized, background)."""
        write_npz(Path(path), to_arrays(self) | about)

    @staticmethod
    def load(path: Path) -> "Preprocess":
        """Read what `save` wrote; UserError where the file is missing or is something else."""
        try:
            with np.load(path, allow_pickle=False) as entry:
                return _from_arrays({name: entry[name] for name in entry.files})
        except Exception as error:  # a damaged archive raises every kind there is
            raise UserError(f"{path} is not a saved preprocessing: {error}") from None


def apply(arrays: PreprocessArrays, images: Any) -> Any:
    """Raw (n, h, w, c) of any dtype to preprocessed float32 (n, h, w, c). Pure and jittable."""
    import jax.numpy as jnp
    from jax.lax import Precision

    x = jnp.asarray(images).astype(jnp.float32)
    mean, std = (jnp.broadcast_to(part, x.shape[1:])[None] for part in (arrays.mean, arrays.std))
    x = (x / arrays.pixel_max - mean) / std
    centred = x - jnp.mean(x, axis=(1, 2, 3), keepdims=True)
    norm = jnp.sqrt(jnp.sum(centred**2, axis=(1, 2, 3), keepdims=True))
    unit = jnp.where(norm > NO_CONTRAST, centred / jnp.maximum(norm, NO_CONTRAST), 0)
    x = jnp.where(arrays.per_image, unit, x)
    if arrays.whiten is not None:
        flat = jnp.matmul(x.reshape(len(x), -1), arrays.whiten, precision=Precision.HIGHEST)
        x = flat.reshape(x.shape)
    return x


def fit(config: PreprocessConfig, images: np.ndarray, pixel_max: float) -> Preprocess:
    """Fit on raw training images (n, h, w, c). Statistics in float64; RFAD's order of steps.

    Raises UserError for an unknown name, a zca that is not positive and constants that do not fit.
    """
    channels = images.shape[-1]
    mean, std = np.zeros(channels), np.ones(channels)
    _check(config, channels)
    if config.standardize:
        if config.mean is not None:
            mean, std = np.asarray(config.mean, np.float64), np.asarray(config.std, np.float64)
        else:
            mean, std = channel_moments(images, pixel_max)
        if config.pixel_mean:
            mean = pixel_moments(images, pixel_max)
    plain = Preprocess(float(pixel_max), mean, std, config.per_image)
    if config.zca is None:
        return plain
    dimension = int(np.prod(images.shape[1:]))
    expect(images.shape[1:], dimension)
    batches = (_unwhitened(plain, chunk) for chunk in chunks(images))
    cov = covariance(batches, dimension)
    zca_vectors, zca_values = whitening(cov, config.zca)
    return dataclasses.replace(plain, zca_vectors=zca_vectors, zca_values=zca_values)


def expect(shape: tuple[int, ...], dimension: int) -> None:
    """Before whitening: UserError where its matrices cannot fit, a word where it takes long."""
    size = "x".join(map(str, shape))
    memory.require(
        MATRICES * 8 * dimension**2, f"whitening {size} images (preprocess.zca)",
        "preprocess.zca=null leaves it out, dataset.image_size= makes images smaller",
    )  # fmt: skip
    seconds = SECONDS_PER_CUBE * dimension**3
    if seconds > TOLD:
        log.warning(
            "whitening %s images takes roughly %d min on two cores, once; the result is cached",
            size, round(seconds / 60),
        )  # fmt: skip


def fit_dataset(config: PreprocessConfig, dataset: "Dataset", cache: bool = True) -> Preprocess:
    """`fit` on the training split, kept in the cache under the dataset's fingerprint."""
    _check(config, dataset.train.images.shape[-1])
    settings = {**dataclasses.asdict(config), "name": None}  # the label changes nothing
    key = cache_key(fingerprint=dataset.fingerprint, settings=settings)

    def build() -> Arrays:
        return to_arrays(fit(config, dataset.train.images, dataset.pixel_max))

    return _from_arrays(cached(f"preprocess-{dataset.name}", key, build, cache))


def _check(config: PreprocessConfig, channels: int) -> None:
    if config.name not in FAMILIES:
        raise choice_error("preprocess", config.name, FAMILIES)
    if config.zca is not None and not config.zca > 0:
        raise UserError(f"preprocess.zca={config.zca}: must be positive, or null for no whitening")
    if (config.mean is None) != (config.std is None):
        raise UserError("preprocess.mean and preprocess.std must be given together")
    for key, values in (("mean", config.mean), ("std", config.std)):
        if values is not None and len(values) != channels:
            raise UserError(
                f"preprocess.{key} has {len(values)} values, the images have {channels} channels"
            )
    if config.std is not None and min(config.std) <= 0:
        raise UserError(f"preprocess.std={list(config.std)}: every value must be positive")


def _unwhitened(preprocess: Preprocess, images: np.ndarray) -> np.ndarray:
    """The steps before whitening in NumPy: float32 (n, d), computed in float64."""
    x = (images / preprocess.pixel_max - preprocess.mean) / preprocess.std
    x = x.reshape(len(x), -1)
    if preprocess.per_image:
        x = x - x.mean(axis=1, keepdims=True)
        norm = np.linalg.norm(x, axis=1, keepdims=True)
        x = np.where(norm > NO_CONTRAST, x / np.maximum(norm, NO_CONTRAST), 0)
    return x.astype(np.float32)


def to_arrays(preprocess: Preprocess) -> Arrays:
    """What a transform consists of, by name."""
    fields = {
        field.name: getattr(preprocess, field.name) for field in dataclasses.fields(preprocess)
    }
    return {name: np.asarray(value) for name, value in fields.items() if value is not None}


def _from_arrays(arrays: Arrays) -> Preprocess:
    return Preprocess(
        float(arrays["pixel_max"]),
        arrays["mean"],
        arrays["std"],
        bool(arrays["per_image"]),
        arrays.get("zca_vectors"),
        arrays.get("zca_values"),
    )


_JITTED: list[Callable[..., Any]] = []


def _jitted_apply() -> Callable[..., Any]:
    """jax.jit(apply), made at first use so that importing this module does not import jax."""
    if not _JITTED:
        import jax

        _JITTED.append(jax.jit(apply))
    return _JITTED[0]
