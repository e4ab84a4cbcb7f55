#!/usr/bin/env python3
"""What a tensor core's products in RFAD's kernel matrices cost in accuracy, emulated on a CPU.

    python scripts/gram_accuracy.py [--images 100] [--batch 256] [--width 256] [--networks 8]
                                    [--ridge 5e-3] [--pixels] [--dataset cifar10] [--json FILE]

Real images, preprocessed as RFAD has them, features in float32 from random networks; from
there on kernel matrices, regression and loss as in a step. Reference: the same features multiplied
in float64. Printed for each algorithm: largest relative error of K, mean error of its diagonal,
relative error of alpha, 1 - cosine of the gradient with respect to the features, and with --pixels
with respect to the coreset's pixels. "whole": sums left to the core, as by cuBLAS (gpu/emulate.py).
Takes minutes.
"""

import argparse
import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
from gpu.emulate import ALGORITHMS, emulated
from jaxtyping import Array

from distill_cli.errors import UserError

COLUMNS = ("K", "diagonal", "alpha", "features", "pixels")


class Problem:
    """Features of a coreset and a batch, and what a step makes of them."""

    def __init__(self, options: argparse.Namespace) -> None:
        from distill_cli.cli.compose import compose
        from distill_cli.config import parse
        from distill_cli.core.types import one_hot_centred
        from distill_cli.kernels.ensemble import Ensemble
        from distill_cli.kernels.random_features import RandomFeatureKernel
        from distill_cli.tasks.problem import load_problem

        width = f"architecture.width={options.width}"
        problem = load_problem(
            parse(compose("config", ["method=rfad", f"dataset={options.dataset}", width]))
        )
        train, count = problem.dataset.train, options.images + options.batch
        rows = np.random.default_rng(0).permutation(len(train.labels))[:count]
        images = problem.preprocess.apply_numpy_chunks(train.images[rows])
        self.images, batch = jnp.asarray(images[: options.images]), images[options.images :]
        self.y = one_hot_centred(jnp.asarray(train.labels[rows[: options.images]]), 10)
        self.targets = jnp.asarray(train.labels[rows[options.images :]])
        self.ridge = options.ridge
        kernel = RandomFeatureKernel(
            problem.architecture, problem.dataset.image_shape, options.networks, "float32"
        )
        self.ensemble = Ensemble(kernel)
        self.networks = jax.jit(kernel.sample)(jax.random.key(0))
        self.h_s, self.h_t = (jax.jit(self.features)(x) for x in (self.images, batch))

    def features(self, x: Array) -> Array:
        return self.ensemble.features(self.networks, x, 16)

    def regression(self, h_s: Array, h_t: Array) -> tuple[Array, Array, Array]:
        """(K, alpha, gradient of the loss with respect to h_s)."""
        from distill_cli.core.linalg import krr_predict, krr_solve
        from distill_cli.core.losses import LOSSES

        def loss(h_s: Array) -> tuple[Array, Any]:
            k = self.ensemble.gram(h_s, h_s)
            alpha = krr_solve(k, self.y, self.ridge)
            outputs = krr_predict(self.ensemble.gram(h_t, h_s), alpha)
            value = jnp.mean(LOSSES["platt"](outputs, self.targets, jnp.zeros((), jnp.float64)))
            return value, (k, alpha)

        gradient, (k, alpha) = jax.grad(loss, has_aux=True)(h_s)
        return k, alpha, gradient

    def pixels(self, gradient: Array) -> Array:
        """The gradient with respect to the coreset's pixels."""
        _, pull = jax.vjp(self.features, self.images)
        return pull(gradient.astype(jnp.float32))[0]


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number of at least 1")
    return int(text)


def angle(a: Array, b: Array) -> float:
    """1 - cosine, in float64."""
    x, y = (np.asarray(v, np.float64).ravel() for v in (a, b))
    return 1 - float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("images", 100), ("batch", 256), ("width", 256), ("networks", 8)):
        parser.add_argument(f"--{name}", type=positive, default=default)
    parser.add_argument("--dataset", default="cifar10", help="as of distill, with ten classes")
    parser.add_argument("--ridge", type=float, default=5e-3, help="above 0")
    parser.add_argument("--pixels", action="store_true")
    parser.add_argument("--json", type=Path, help="file for the table and what it is of")
    options = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)
    if not options.ridge > 0:
        parser.error(f"--ridge={options.ridge}: must be above 0")
    try:
        problem = Problem(options)
    except UserError as error:
        parser.error(str(error))
    doubles = (h.astype(jnp.float64) for h in (problem.h_s, problem.h_t))
    exact = jax.jit(problem.regression)(*doubles)
    pixels = jax.jit(problem.pixels)
    exact_pixels = pixels(exact[2]) if options.pixels else None
    rows = []
    print(f"{'products':16} " + " ".join(f"{name:>9}" for name in COLUMNS), flush=True)
    for name in ("float32", *ALGORITHMS):
        for whole in (False,) if name == "float32" else (False, True):

            def product(_: Any, a: Array, b: Array, name: str = name, whole: bool = whole) -> Array:
                return emulated(a, b, name, whole)

            with patch("distill_cli.kernels.ensemble._multiply", product):
                found = jax.jit(lambda *h: problem.regression(*h))(problem.h_s, problem.h_t)
            k = np.asarray(found[0]) / np.asarray(exact[0]) - 1
            alpha = jnp.linalg.norm(found[1] - exact[1]) / jnp.linalg.norm(exact[1])
            row = [abs(k).max(), np.diag(k).mean(), alpha, angle(found[2], exact[2])]
            if exact_pixels is not None:
                row.append(angle(pixels(found[2]), exact_pixels))
            label = name + (" whole" if whole else "")
            print(f"{label:16} " + " ".join(f"{value:9.1e}" for value in row), flush=True)
            values = dict(zip(COLUMNS, map(float, row), strict=False))
            rows.append({"products": name, "whole": whole, **values})
    if options.json:
        of = {name: value for name, value in vars(options).items() if name != "json"}
        options.json.write_text(json.dumps({**of, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
