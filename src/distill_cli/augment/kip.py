"""KIP's augmentation of target images (Nguyen, Novak, Xiao & Lee, NeurIPS 2021, arXiv 2107.13034).

Rotation, vertical and horizontal shifts, mirror image and channel shift, all of them on each image
with draws of its own, applied to a share of the batch. The published ranges are not known; these
are small ones. Acts on pixels before whitening; what comes in from outside is the nearest border
pixel.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from distill_cli.augment import colour, resample
from distill_cli.augment.dsa import uniform
from distill_cli.config import at_least, within

Images = Float[Array, "n height width channel"]


@dataclass(frozen=True)
class KipAugmentation:
    """Ranges: degrees in +-rotation, shifts in +-shift of the size, mirror image (flip) with
    probability 0.5, one value in +-channel_shift (in pixel units) added to each channel; share:
    probability that an image is changed at all."""

    rotation: float = 10.0
    shift: float = 0.1
    flip: bool = True
    channel_shift: float = 0.1
    share: float = 1.0

    def __post_init__(self) -> None:
        for key in ("rotation", "shift", "channel_shift"):
            at_least(f"augmentation.{key}", getattr(self, key), 0)
        within("augmentation.share", self.share, 0, 1)


def augment(key: PRNGKeyArray, images: Images, ranges: KipAugmentation) -> Images:
    """All operations in a row, with independent draws for each image."""
    n, height, width, channel = images.shape
    keys = jax.random.split(key, 6)
    angle = uniform(keys[0], n, -ranges.rotation, ranges.rotation) * (jnp.pi / 180)
    down = uniform(keys[1], n, -ranges.shift, ranges.shift) * height
    right = uniform(keys[2], n, -ranges.shift, ranges.shift) * width
    changed = resample.rotate(images, angle.astype(jnp.float32), edge=True)
    changed = resample.translate(changed, down, right, edge=True)
    if ranges.flip:
        changed = colour.mirror(changed, uniform(keys[3], n) < 0.5)
    limit = ranges.channel_shift
    offset = jax.random.uniform(keys[4], (n, 1, 1, channel), jnp.float32, -limit, limit)
    changed = changed + offset.astype(images.dtype)
    picked = uniform(keys[5], n) < ranges.share
    return jnp.where(picked[:, None, None, None], changed, images)
