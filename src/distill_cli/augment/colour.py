"""Brightness, saturation, contrast and mirror images; parameters have shape (n,) or (1,)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

Images = Float[Array, "n height width channel"]
Factor = Float[Array, " m"]


def per_image(values: Factor, images: Images) -> Array:
    """Shaped to be combined with images (m, 1, 1, 1), in their dtype."""
    return values.astype(images.dtype)[:, None, None, None]


def brightness(images: Images, shift: Factor) -> Images:
    """x + shift."""
    return images + per_image(shift, images)


def saturation(images: Images, factor: Factor) -> Images:
    """Scale each pixel's deviation from its mean over the channels; grey images stay."""
    if images.shape[-1] == 1:
        return images
    mean = jnp.mean(images, axis=3, keepdims=True)
    return mean + (images - mean) * per_image(factor, images)


def contrast(images: Images, factor: Factor) -> Images:
    """Scale the deviation from the image's mean over all pixels and channels."""
    mean = jnp.mean(images, axis=(1, 2, 3), keepdims=True)
    return mean + (images - mean) * per_image(factor, images)


def mirror(images: Images, turned: Array) -> Images:
    """Left-right mirror image where `turned` (n,) or (1,) is true."""
    return jnp.where(turned[:, None, None, None], images[:, :, ::-1], images)
