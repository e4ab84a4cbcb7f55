"""Bilinear resampling that is linear, hence differentiable, in the images.

A pixel value at real coordinates (y, x) is sum_ij hat(y - i) hat(x - j) image[i, j] with
hat(t) = max(0, 1 - |t|). Pixel centres are the integers 0 .. size-1. Where nothing lies under a
coordinate the image is taken to be 0 (`edge=False`) or its nearest border pixel (`edge=True`).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Images = Float[Array, "n height width channel"]


def grid(size: int) -> Float[Array, " size"]:
    """Pixel centres 0 .. size-1, float32."""
    return jnp.arange(size, dtype=jnp.float32)


def hat_weights(coordinates: Float[Array, "n out"], size: int, edge: bool) -> Array:
    """(n, out, size): weight of each of `size` pixels at each real coordinate along one axis."""
    if edge:
        coordinates = jnp.clip(coordinates, 0, size - 1)
    distance = jnp.abs(coordinates[:, :, None] - grid(size)[None, None, :])
    return jnp.maximum(0, 1 - distance)


def separable(
    images: Images, rows: Float[Array, "m out"], columns: Float[Array, "m out"], edge: bool
) -> Images:
    """Resample at coordinates rows x columns; m is n, or 1 for the same ones in all images.

    Two small matrix products: no gather, so the gradient is no scatter. Integer coordinates give
    exact copies (the products run at full float32 precision).
    """
    n, height, width, _ = images.shape
    down = jnp.broadcast_to(hat_weights(rows, height, edge), (n, rows.shape[1], height))
    across = jnp.broadcast_to(hat_weights(columns, width, edge), (n, columns.shape[1], width))
    return jnp.einsum(
        "nih,nhwc,njw->nijc",
        down.astype(images.dtype), images, across.astype(images.dtype),
        precision=jax.lax.Precision.HIGHEST,
    )  # fmt: skip


def translate(
    images: Images, down: Float[Array, " m"], right: Float[Array, " m"], edge: bool
) -> Images:
    """Move the content by so many pixels, fractions interpolated; m is n or 1."""
    rows = grid(images.shape[1])[None] - down[:, None]
    columns = grid(images.shape[2])[None] - right[:, None]
    return separable(images, rows, columns, edge)


def zoom(
    images: Images, vertical: Float[Array, " m"], horizontal: Float[Array, " m"], edge: bool
) -> Images:
    """Stretch the field of view about the centre: a factor above 1 shrinks the content."""
    rows = centred(images.shape[1])[None] * vertical[:, None]
    columns = centred(images.shape[2])[None] * horizontal[:, None]
    middle = (images.shape[1] - 1) / 2, (images.shape[2] - 1) / 2
    return separable(images, rows + middle[0], columns + middle[1], edge)


def rotate(images: Images, angle: Float[Array, " m"], edge: bool) -> Images:
    """Rotate about the centre by `angle` radians, in pixel units; m is n or 1.

    Positive angles turn the content counter-clockwise (rows count downwards).
    """
    n, height, width, _ = images.shape
    y, x = jnp.meshgrid(centred(height), centred(width), indexing="ij")
    cosine = jnp.broadcast_to(jnp.cos(angle), (n,))[:, None, None]
    sine = jnp.broadcast_to(jnp.sin(angle), (n,))[:, None, None]
    rows = cosine * y[None] + sine * x[None] + (height - 1) / 2
    columns = cosine * x[None] - sine * y[None] + (width - 1) / 2
    return gather(images, rows, columns, edge)


def gather(
    images: Images, rows: Float[Array, "n i j"], columns: Float[Array, "n i j"], edge: bool
) -> Images:
    """Resample at one coordinate pair per output pixel: four reads, weighted by the hats."""
    _, height, width, _ = images.shape
    if edge:
        rows = jnp.clip(rows, 0, height - 1)
        columns = jnp.clip(columns, 0, width - 1)
    top, left = jnp.floor(rows), jnp.floor(columns)
    result = jnp.zeros((*rows.shape, images.shape[3]), images.dtype)
    for i in (top, top + 1):
        for j in (left, left + 1):
            inside = (i >= 0) & (i <= height - 1) & (j >= 0) & (j <= width - 1)
            weight = jnp.maximum(0, 1 - jnp.abs(rows - i)) * jnp.maximum(
                0, 1 - jnp.abs(columns - j)
            )
            weight = jnp.where(inside, weight, 0).astype(images.dtype)
            at = (
                jnp.clip(i, 0, height - 1).astype("int32"),
                jnp.clip(j, 0, width - 1).astype("int32"),
            )
            picked = jax.vmap(lambda image, y, x: image[y, x])(images, *at)
            result = result + weight[..., None] * picked
    return result


def centred(size: int) -> Float[Array, " size"]:
    """Pixel centres counted from the middle of the image."""
    return grid(size) - (size - 1) / 2


def square_mask(
    shape: tuple[int, int], top: Array, left: Array, side: int
) -> Float[Array, "m height width 1"]:
    """0 inside a square with these (possibly negative) corners, clipped at the borders, else 1."""
    y, x = grid(shape[0])[None, :], grid(shape[1])[None, :]
    top, left = top[:, None], left[:, None]
    rows = (y >= top) & (y < top + side)
    columns = (x >= left) & (x < left + side)
    return 1 - (rows[:, :, None] & columns[:, None, :]).astype(jnp.float32)[..., None]
