"""A few RFAD steps on the first D of eight virtual devices: python devices_program.py OUT D N
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

SHAPE, CLASSES, BATCH, MICRO = (8, 8, 1), 5, 20, 4


def main(out: str, count: str, networks: str, written_out: str = "") -> None:
    if written_out:
        ensemble._on_cpu = lambda: False
    jax.config.update("jax_enable_x64", True)
    devices.choose(count)
    options = ["labels=learned", f"kernel.networks={networks}", "validation.networks=6"]
    config = parse(compose("config", [*options, f"batch.size={BATCH}", "batch.number=1"]))
    method = make_distiller(Setting(config, convnet(8, 2), SHAPE, CLASSES, MICRO))
    rng = np.random.default_rng(0)
    labels = one_hot_centred(jnp.arange(CLASSES), CLASSES)
    images = jnp.asarray(rng.normal(size=(CLASSES, *SHAPE)), jnp.float32)
    start = Coreset(images, labels, jnp.zeros((), jnp.float64))
    targets = jnp.asarray(rng.normal(size=(BATCH, *SHAPE)), jnp.float32)
    batch = Batch(targets, jnp.arange(BATCH) % CLASSES, jnp.ones(BATCH, jnp.float32))
    state, batch = devices.on_all((method.init(jax.random.key(0), start), batch))
    step = jax.jit(method.step)
    for number in range(3):
        state, info = step(state, batch, jax.random.key(number))
    score = method.validator(jax.random.key(9), targets, batch.labels)(method.coreset(state))
    mesh = [method.shares.size(name) for name in ("batch", "network")]
    found = {f"{i}": np.asarray(x) for i, x in enumerate(jax.tree.leaves((state, info, score)))}
    np.savez(out, mesh=mesh, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
