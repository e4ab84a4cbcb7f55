"""The augmentation of gradient matching's evaluation (Zhao, Mopuri & Bilen, ICLR 2021).

    augment(key, images, "crop_scale_rotate")

One operation per IMAGE, drawn uniformly from the strategy:
    crop    move by whole pixels in [-4, 4]
    scale   independent factors in [0.8, 1.2] for height and width
    rotate  whole degrees in [-45, 45)
    noise   Gaussian of deviation 0.001
What comes in from outside has the channel's mean over the batch. The published protocol trains on
MNIST with crop_scale_rotate, a ConvNet with batch norm with crop_noise, all else without.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from distill_cli.augment import resample
from distill_cli.augment import strategy as strategies
from distill_cli.augment.dsa import uniform

Images = Float[Array, "n height width channel"]

CROP_PIXELS = 4
SCALE = 0.2
ROTATE_DEGREES = 45
NOISE = 0.001
OPERATIONS = ("crop", "scale", "rotate", "noise")


def operate(name: str, key: PRNGKeyArray, images: Images) -> Images:
    """One operation on all images, parameters per image."""
    n = images.shape[0]
    one, other = jax.random.split(key)
    if name == "noise":
        return images + NOISE * jax.random.normal(key, images.shape, images.dtype)
    fill = jnp.mean(images, axis=(0, 1, 2), keepdims=True)
    x = images - fill
    if name == "crop":
        shifts = (
            jax.random.randint(k, (n,), -CROP_PIXELS, CROP_PIXELS + 1, "int32").astype(jnp.float32)
            for k in (one, other)
        )
        return fill + resample.translate(x, *shifts, edge=False)
    if name == "scale":
        # The content grows by the factor, so the field of view shrinks by it.
        factors = (1 / uniform(k, n, 1 - SCALE, 1 + SCALE) for k in (one, other))
        return fill + resample.zoom(x, *factors, edge=False)
    degrees = jax.random.randint(key, (n,), -ROTATE_DEGREES, ROTATE_DEGREES, "int32")
    angle = (degrees * (jnp.pi / 180)).astype(jnp.float32)
    return fill + resample.rotate(x, angle, edge=False)


def augment(key: PRNGKeyArray, images: Images, strategy: str) -> Images:
    """One operation per image; empty or "none" returns the images."""
    names = strategies.parse(strategy, OPERATIONS)
    return strategies.one_per_image(key, images, [partial(operate, name) for name in names])


def default_strategy(dataset: str, batch_norm: bool) -> str:
    """The published choice: crop_scale_rotate on MNIST, crop_noise under batch norm, else none."""
    if dataset.lower() == "mnist":
        return "crop_scale_rotate"
    return "crop_noise" if batch_norm else "none"
