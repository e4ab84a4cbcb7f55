"""What init=mmd and init=var share: a kernel matrix of each class, and greedy picks from it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np

from distill_cli.config import at_least
from distill_cli.core.keys import named_key
from distill_cli.init.base import Initial, Request, real_images
from distill_cli.kernels.random_features import RandomFeatureKernel


@dataclass(frozen=True)
class GreedyConfig:
    """networks: random networks of the kernel; candidates: most images of a class considered
    (a larger class is thinned at random)."""

    name: str = ""
    networks: int = 16
    candidates: int = 10000

    def __post_init__(self) -> None:
        at_least("init.networks", self.networks, 1)
        at_least("init.candidates", self.candidates, 1)


def greedy(
    config: GreedyConfig, request: Request, pick: Callable[[np.ndarray, int], np.ndarray]
) -> Initial:
    """Choose ipc rows per class by `pick(K, ipc)`, K being the class's kernel matrix (float64).

    K is the random-feature NNGP, its read-out averaged exactly where the released program samples
    4096 outputs: the same kernel in expectation, with less noise.
    """
    at_least("init.candidates", config.candidates, request.ipc)
    kernel = RandomFeatureKernel(request.architecture, request.images.shape[1:], config.networks)
    networks = jax.jit(kernel.sample)(named_key(request.seed, f"init/{config.name}"))
    features = jax.jit(partial(kernel.features, micro=request.micro))
    generator = request.generator("init")
    chosen = []
    for label in range(request.classes):
        rows = request.rows(label)
        if rows.size > config.candidates:
            rows = np.sort(generator.choice(rows, config.candidates, replace=False))
        phi = features(networks, request.images[rows])
        gram = np.asarray(kernel.gram(phi, phi), np.float64)
        chosen.append(rows[pick(gram, request.ipc)])
    return real_images(request, chosen)
