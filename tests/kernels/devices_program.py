"""Steps of a method on the first D of eight virtual devices: python devices_program.py OUT D CASE
[written_out: networks as on an accelerator].

Writes the state, the coreset and a validation score; run by test_shares.py in processes of their
own, because a process has one number of devices.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from distill_cli.arch.layers import convnet
from distill_cli.cli.compose import compose
from distill_cli.config import parse
from distill_cli.core import devices
from distill_cli.core.types import Batch, Coreset, one_hot_centred
from distill_cli.kernels import ensemble
from distill_cli.methods.base import Setting, make_distiller

SHAPE, CLASSES, MICRO = (8, 8, 1), 5, 4
WHOLE = ["batch.size=512", "batch.micro=512"]
LEARNED, SMALL = ["labels=learned"], ["method.width=4", "method.depth=2"]
FREPO = ["method=frepo", "method.pool=5", "method.online_updates=2", "method.flip=true", *SMALL]
MATCHING = ["labels=fixed", "validation.every=10", *SMALL]
CASES = {
    "rfad of 4": [*LEARNED, "kernel.networks=4"],
    "rfad of 1": [*LEARNED, "kernel.networks=1"],
    "rfad of 4, in one piece": [*LEARNED, "kernel.networks=4", *WHOLE],
    "rfad of 1, in one piece": [*LEARNED, "kernel.networks=1", *WHOLE],
    "jackknife of 4": [*LEARNED, "kernel.networks=4", "method.jackknife=0.5"],
    "frepo of 1": [*LEARNED, *FREPO],
    "frepo of 1, in one piece": [*LEARNED, *FREPO, *WHOLE],
    "frepo of 3": [*LEARNED, *FREPO, "method.networks=3"],
    "dc": ["method=dc", *MATCHING, "method.outer=2", "method.inner=2"],
    "dsa": ["method=dsa", *MATCHING, "method.outer=3", "method.inner=1"],
    "dm": ["method=dm", *MATCHING],
}


def main(out: str, count: str, case: str, written_out: str = "") -> None:
    if written_out:
        ensemble._on_cpu = lambda: False
    jax.config.update("jax_enable_x64", True)
    devices.choose(count)
    sizes = ["batch.size=20", f"batch.micro={MICRO}", "batch.number=1"]
    config = parse(compose("config", [*sizes, *CASES[case], "validation.networks=6"]))
    method = make_distiller(Setting(config, convnet(8, 2), SHAPE, CLASSES, config.batch.micro))
    rng = np.random.default_rng(0)
    labels = one_hot_centred(jnp.arange(CLASSES), CLASSES)
    images = jnp.asarray(rng.normal(size=(CLASSES, *SHAPE)), jnp.float32)
    start = Coreset(images, labels, jnp.zeros((), jnp.float64))
    size = config.batch.size
    targets = jnp.asarray(rng.normal(size=(size, *SHAPE)), jnp.float32)
    batch = Batch(targets, jnp.arange(size) % CLASSES, jnp.ones(size, jnp.float32))
    state, batch = devices.on_all((method.init(jax.random.key(0), start), batch))
    step = jax.jit(method.step)
    for number in range(3):
        state, info = step(state, batch, jax.random.key(number))
    score = method.validator(jax.random.key(9), targets, batch.labels)(method.coreset(state))
    mesh = [] if method.shares.mesh is None else list(method.shares.mesh.shape.values())
    found = {f"{i}": np.asarray(x) for i, x in enumerate(jax.tree.leaves((state, info, score)))}
    np.savez(out, mesh=mesh, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
