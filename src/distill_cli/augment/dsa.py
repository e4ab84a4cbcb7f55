"""Differentiable siamese augmentation (Zhao & Bilen, ICML 2021, arXiv 2102.08259).

    augment(key, images, "color_crop_cutout_flip_scale_rotate", siamese=True)

One family of the strategy is drawn per call and applied to the whole batch. Siamese: its parameters
are drawn once and shared by all images, and depend on the key and the size of the images alone, so
that a second call with the same key treats another batch in the same way. Otherwise every image
has parameters of its own. Values as in the authors' program (VICO-UoE/DatasetCondensation, commit
53f63a6). All families act on normalised pixels.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from distill_cli.augment import colour, resample
from distill_cli.augment import strategy as strategies

Images = Float[Array, "n height width channel"]
Family = Callable[[PRNGKeyArray, Images, int], Images]

CROP_RATIO = 0.125  # largest shift, as a share of the size
CUTOUT_RATIO = 0.5  # side of the square, as a share of the size
FLIP_PROBABILITY = 0.5
SCALE_RATIO = 1.2
ROTATE_DEGREES = 15.0
DEFAULT_STRATEGY = "color_crop_cutout_flip_scale_rotate"


def uniform(key: PRNGKeyArray, m: int, low: float = 0.0, high: float = 1.0) -> Array:
    """m float32 draws from U[low, high)."""
    return jax.random.uniform(key, (m,), jnp.float32, low, high)


def color(key: PRNGKeyArray, images: Images, m: int) -> Images:
    """Brightness u - 0.5, then saturation 2 u, then contrast u + 0.5, u ~ U[0, 1) each."""
    shift, saturate, contrast = (uniform(k, m) for k in jax.random.split(key, 3))
    images = colour.brightness(images, shift - 0.5)
    images = colour.saturation(images, 2 * saturate)
    return colour.contrast(images, contrast + 0.5)


def crop(key: PRNGKeyArray, images: Images, m: int) -> Images:
    """Move by whole pixels in [-s, s], s = int(0.125 size + 0.5); zero fill."""
    down, right = (
        jax.random.randint(k, (m,), -s, s + 1, "int32").astype(jnp.float32)
        for k, s in zip(jax.random.split(key), sides(images, CROP_RATIO), strict=True)
    )
    return resample.translate(images, down, right, edge=False)


def cutout(key: PRNGKeyArray, images: Images, m: int) -> Images:
    """Zero a square of side int(0.5 size + 0.5), centre uniform, clipped at the borders.

    A rectangle of a square side in images that are not square: the smaller of the two.
    """
    side = min(sides(images, CUTOUT_RATIO))
    # An even side has its centre between pixels: one more position than there are pixels.
    centres = (
        jax.random.randint(k, (m,), 0, size + 1 - side % 2, "int32").astype(jnp.float32)
        for k, size in zip(jax.random.split(key), images.shape[1:3], strict=True)
    )
    top, left = (centre - side // 2 for centre in centres)
    size = images.shape[1], images.shape[2]
    return images * resample.square_mask(size, top, left, side).astype(images.dtype)


def flip(key: PRNGKeyArray, images: Images, m: int) -> Images:
    """Left-right with probability 0.5."""
    return colour.mirror(images, uniform(key, m) < FLIP_PROBABILITY)


def scale(key: PRNGKeyArray, images: Images, m: int) -> Images:
    """Independent factors in [1/1.2, 1.2] along both axes, bilinear, zeros outside."""
    vertical, horizontal = (
        uniform(k, m, 1 / SCALE_RATIO, SCALE_RATIO) for k in jax.random.split(key)
    )
    return resample.zoom(images, vertical, horizontal, edge=False)


def rotate(key: PRNGKeyArray, images: Images, m: int) -> Images:
    """Angle in [-15, 15] degrees, bilinear, zeros outside."""
    angle = uniform(key, m, -ROTATE_DEGREES, ROTATE_DEGREES) * (jnp.pi / 180)
    return resample.rotate(images, angle.astype(jnp.float32), edge=False)


FAMILIES: dict[str, Family] = {
    "color": color,
    "crop": crop,
    "cutout": cutout,
    "flip": flip,
    "scale": scale,
    "rotate": rotate,
}


def augment(key: PRNGKeyArray, images: Images, strategy: str, siamese: bool = False) -> Images:
    """One family of the strategy, drawn by the key, applied to all images.

    strategy: names of FAMILIES joined by _; empty or "none" returns the images.
    siamese: parameters shared by all images, else one draw per image.
    """
    m = 1 if siamese else images.shape[0]
    names = strategies.parse(strategy, FAMILIES)
    return strategies.one_per_call(
        key, images, [lambda k, x, apply=FAMILIES[name]: apply(k, x, m) for name in names]
    )


def default_strategy(dataset: str) -> str:
    """The published strategy: no mirror images of digits (MNIST, SVHN and their like)."""
    digits = any(part in dataset.lower() for part in ("mnist", "svhn", "digits"))
    if digits and "fashion" not in dataset.lower():
        return DEFAULT_STRATEGY.replace("flip_", "")
    return DEFAULT_STRATEGY


def sides(images: Images, ratio: float) -> tuple[int, int]:
    """int(ratio * size + 0.5) of height and width."""
    height, width = images.shape[1:3]
    return int(ratio * height + 0.5), int(ratio * width + 0.5)
