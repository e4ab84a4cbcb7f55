"""rho-corruption: a share of the coreset's pixels stays as it was at the start.

Nguyen, Chen, Lee 2021 (section 7 of its reference: any pixels frozen at noise); RFAD section 7.
With init=noise the frozen pixels are noise, with init=random they are those of real images.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from distill_cli.errors import UserError
from distill_cli.methods.base import Setting

Images = Float[Array, "n h w c"]
Frozen = tuple[Images, Bool[Array, "n h w c"]] | None


def freeze(key: PRNGKeyArray, images: Images, share: float) -> Frozen:
    """(initial images, mask of the pixels that stay), every pixel with probability `share`; None
    where share is 0."""
    if share == 0:
        return None
    draw = jax.random.uniform(key, images.shape, jnp.float32)
    # A copy, because the loop donates the state and one buffer cannot be given twice.
    return jnp.array(images, copy=True), draw < share


def put_back(images: Images, frozen: Frozen) -> Images:
    """The images with the frozen pixels as they were."""
    if frozen is None:
        return images
    initial, mask = frozen
    return jnp.where(mask, initial, images)


def check_corruption(setting: Setting) -> None:
    """UserError where frozen pixels would not be pixels: in whitened space."""
    share = setting.config.method.corruption
    if share > 0 and setting.whitened:
        raise UserError(
            f"method.corruption={share}: frozen pixels mean nothing in whitened space; add "
            "preprocess.zca=null"
        )
