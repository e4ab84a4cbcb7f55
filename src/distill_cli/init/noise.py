"""init=noise: standard normal pixels in preprocessed space (RFAD section 6)."""

from dataclasses import dataclass

import numpy as np

from distill_cli.init.base import Initial, Request


@dataclass(frozen=True)
class Config:
    """No parameters."""

    name: str = "noise"


def initial(config: Config, request: Request) -> Initial:
    """Independent N(0, 1) pixels, classes * ipc images."""
    shape = (request.classes * request.ipc, *request.images.shape[1:])
    return Initial(request.generator("init").standard_normal(shape, np.float32), None)
