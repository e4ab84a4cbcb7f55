"""init=full: every training image, sorted by class. For method=full only, which distils nothing."""

from dataclasses import dataclass

import numpy as np

from distill_cli.errors import UserError
from distill_cli.init.base import Initial, Request


@dataclass(frozen=True)
class Config:
    """No parameters."""

    name: str = "full"


def initial(config: Config, request: Request) -> Initial:
    """The whole training split with its labels, in the order of the classes.

    Raises UserError where fewer images are wanted (request.ipc is not 0).
    """
    del config
    if request.ipc or not request.takes_labels:
        raise UserError("init=full: belongs to method=full, which takes every training image")
    order = np.argsort(request.labels, kind="stable")
    images = np.asarray(request.images[order], np.float32)
    return Initial(images, None, np.asarray(request.labels[order]))
