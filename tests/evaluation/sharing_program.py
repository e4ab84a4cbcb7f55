"""Run by test_sharing.py in a process with four devices: every figure on 1, 2 and 4 of them."""

import dataclasses
import hashlib
import json
import sys

import jax
import numpy as np

from distill_cli.arch.layers import convnet
from distill_cli.core import devices, sharing
from distill_cli.core.sharing import share_out
from distill_cli.core.types import Coreset
from distill_cli.evaluation import dc, finite, kip_finite, protocol
from distill_cli.evaluation.base import Problem, evaluate
from distill_cli.evaluation.finite_training import network_key, train_finite

RNG = np.random.default_rng(0)
CONFIGS = {
    "dc": dc.Config(networks=5, width=4, depth=1, epochs=4, learning_rate=0.05),
    "kip_finite": kip_finite.Config(networks=3, width=4, steps=5, architectures=("mlp",)),
    "finite": finite.Config(
        networks=3, width=4, max_steps=6, validate_every=2, learning_rate=0.1, label_scale=2.0,
        weight_decay=0.0,
    ),
}  # fmt: skip


def images(n: int) -> tuple[np.ndarray, np.ndarray]:
    x = RNG.normal(size=(n, 8, 8, 1)).astype(np.float32)
    return x, (np.arange(n) % 2).astype(np.int32)


def digest(tree) -> str:
    leaves = jax.tree.leaves(tree)
    return hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in leaves)).hexdigest()


def figures(count: str) -> dict:
    """Rows of every protocol without their times, and hashes of trained weights."""
    chosen = devices.choose(count)
    found: dict = {}
    for name, config in CONFIGS.items():
        row = dataclasses.asdict(evaluate(name, config, SET, PROBLEM))
        del row["seconds"]
        row["confusion"] = row["confusion"].tolist()
        for entry in row["detail"].get("architectures", {}).values():
            del entry["seconds"]
        found[name] = row
    used = []

    def wide(index, tell):
        key = network_key(0, index)
        run = train_finite(CONFIGS["finite"], PROBLEM.architecture, SET, *PROBLEM.valid, key)
        return digest(run.params)

    def narrow(index, tell):
        config = CONFIGS["dc"]
        net = protocol.build_net(config, "mlp", 2, (8, 8, 1))
        key = protocol.network_key(0, "mlp", index)
        start = protocol.draw(net, key, (8, 8, 1))
        made = dc.recipe(config, "dc", "none", 4, len(SET.images))
        trained = protocol.train(net, made, SET.images, SET.labels, start, key, 0.02)
        used.extend(jax.tree.leaves(trained.variables)[0].devices())
        return digest(trained.variables)

    found["finite weights"] = share_out(wide, 5)
    found["dc weights"] = share_out(narrow, 5)
    assert set(used) == set(chosen), (used, chosen)
    return found


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    sharing.places = devices.chosen  # a CPU's devices too
    (train, labels), PROBLEM = (
        images(6),
        Problem(convnet(4, 1), "blobs", 3, images(12), images(40), 5e-3, 0),
    )
    targets = np.eye(2, dtype=np.float32)[labels] - np.float32(0.5)
    SET = Coreset(train, targets, np.zeros(()))
    wanted = sys.argv[1:] or ["1", "2", "4"]
    print(json.dumps({count: figures(count) for count in wanted}))
