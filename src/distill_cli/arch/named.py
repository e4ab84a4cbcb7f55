"""Architectures by one short name, for settings that list several of them."""

import re

from distill_cli.arch.layers import (
    MYRTLE,
    Architecture,
    conv_vec,
    convnet,
    fully_connected,
    myrtle,
)
from distill_cli.errors import choice_error

FORMS = ("convnet<depth>", "kip_convnet", "conv_vec<depth>", "fc<depth>", "myrtle<5|7|10>")


def named(name: str, width: int = 256, key: str = "architecture") -> Architecture:
    """The architecture called convnet3, kip_convnet (KIP's four convolutions in three blocks),
    conv_vec8, fc1, myrtle5, ...; UserError for any other name, which says it is the value of
    `key`."""
    if name == "kip_convnet":
        return convnet(width, 3, (2, 1, 1))
    makers = {"convnet": convnet, "conv_vec": conv_vec, "fc": fully_connected, "myrtle": myrtle}
    found = re.fullmatch(r"([a-z_]+?)([1-9]\d?)", name)
    if found is None or found[1] not in makers:
        raise choice_error(key, name, FORMS)
    depth = int(found[2])
    if found[1] == "myrtle" and depth not in MYRTLE:
        raise choice_error(key, name, FORMS)
    return makers[found[1]](width, depth)
