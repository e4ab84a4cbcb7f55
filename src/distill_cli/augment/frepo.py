"""FRePo's augmentations (Zhou, Nezhadarya & Ba, NeurIPS 2022, arXiv 2206.00719; released program).

    augment(key, images, "flip_color_crop_rotate_translate_cutout")

One operation per call, drawn uniformly from the strategy, with parameters per image. RCIG draws one
operation per image: `per_image=True`. Acts on preprocessed images; what comes in from outside is
the nearest border pixel, resampling is bilinear.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from distill_cli.augment import colour, resample
from distill_cli.augment import strategy as strategies
from distill_cli.augment.dsa import uniform

Images = Float[Array, "n height width channel"]

COLOUR = 0.25  # largest brightness shift and |log factor| of contrast and saturation
ZOOM = 1.25  # field of view within [1/1.25, 1.25] of the image
ROTATE_DEGREES = 15.0
TRANSLATE = 0.125  # of the size
CUTOUT = 0.25  # of the size
COLOUR_STRATEGY = "flip_color_crop_rotate_translate_cutout"
GREY_STRATEGY = "color_crop_rotate_translate_cutout"


def flip(key: PRNGKeyArray, images: Images) -> Images:
    """Left-right with probability 0.5."""
    return colour.mirror(images, uniform(key, images.shape[0]) < 0.5)


def color(key: PRNGKeyArray, images: Images) -> Images:
    """Brightness + U(-.25, .25), contrast and saturation times e^U(-.25, .25), in this order."""
    bright, contrast, saturate = (
        uniform(k, images.shape[0], -COLOUR, COLOUR) for k in jax.random.split(key, 3)
    )
    images = colour.brightness(images, bright)
    images = colour.contrast(images, jnp.exp(contrast))
    return colour.saturation(images, jnp.exp(saturate))


def crop(key: PRNGKeyArray, images: Images) -> Images:
    """A window of log-uniform size [0.8, 1.25] with random centre, resampled to full size.

    A window smaller than the image lies inside it; a larger one contains it.
    """
    n, height, width = images.shape[:3]
    size_key, *centre_keys = jax.random.split(key, 3)
    factor = jnp.exp(uniform(size_key, n, -math.log(ZOOM), math.log(ZOOM)))
    coordinates = []
    for side, k in zip((height, width), centre_keys, strict=True):
        offset = (uniform(k, n, -0.5, 0.5) * jnp.abs(1 - factor) * side)[:, None]
        middle = (side - 1) / 2
        coordinates.append(resample.centred(side)[None] * factor[:, None] + offset + middle)
    return resample.separable(images, *coordinates, edge=True)


def rotate(key: PRNGKeyArray, images: Images) -> Images:
    """U(-15, 15) degrees."""
    degrees = uniform(key, images.shape[0], -ROTATE_DEGREES, ROTATE_DEGREES)
    return resample.rotate(images, degrees * math.radians(1), edge=True)


def translate(key: PRNGKeyArray, images: Images) -> Images:
    """U(-1/8, 1/8) of height and width, fractions of a pixel included."""
    n, height, width = images.shape[:3]
    down, right = (uniform(k, n, -TRANSLATE, TRANSLATE) for k in jax.random.split(key))
    return resample.translate(images, down * height, right * width, edge=True)


def cutout(key: PRNGKeyArray, images: Images) -> Images:
    """One square of side size/4, value 0, wholly inside."""
    n, height, width = images.shape[:3]
    side = max(1, int(CUTOUT * min(height, width)))
    top, left = (
        jax.random.randint(k, (n,), 0, size - side + 1, "int32").astype(jnp.float32)
        for k, size in zip(jax.random.split(key), (height, width), strict=True)
    )
    return images * resample.square_mask((height, width), top, left, side).astype(images.dtype)


OPERATIONS = {
    "flip": flip,
    "color": color,
    "crop": crop,
    "rotate": rotate,
    "translate": translate,
    "cutout": cutout,
}


def augment(key: PRNGKeyArray, images: Images, strategy: str, per_image: bool = False) -> Images:
    """One operation of the strategy per call (or per image), parameters per image.

    strategy: names of OPERATIONS joined by _; empty or "none" returns the images.
    """
    operations = [OPERATIONS[name] for name in strategies.parse(strategy, OPERATIONS)]
    draw = strategies.one_per_image if per_image else strategies.one_per_call
    return draw(key, images, operations)


def default_strategy(channels: int) -> str:
    """All six for colour images, no mirror images of grey ones."""
    return COLOUR_STRATEGY if channels > 1 else GREY_STRATEGY
