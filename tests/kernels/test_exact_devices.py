"""Exact kernels on one, two and four devices, each number in a process of its own."""

import os
import subprocess
import sys

import numpy as np
import pytest

PROGRAM = """
import sys
import jax
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import numpy as np
from distill_cli.arch.layers import convnet
from distill_cli.core import devices
from distill_cli.kernels.exact import gram, grid_tiles, tiles
from distill_cli.kernels.exact_kernel import ExactKernel
wanted, grid, out = int(sys.argv[1]), sys.argv[2] == "grid", sys.argv[3]
assert len(devices.choose(str(wanted))) == wanted
if grid:
    tiles.on_whole_bands = lambda: True
    grid_tiles.MOST_COLUMNS = 4
else:
    tiles.ROWS, tiles.tile_columns = 2, lambda *_: 4
used = set()
tile = tiles.tile
def watched(architecture, get, count, *operands):
    block = tile(architecture, get, count, *operands)
    used.update(block[0].devices())
    return block
tiles.tile = watched
rng = np.random.default_rng(0)
x, z, few = (rng.normal(size=(n, 6, 6, 1)).astype(np.float32) for n in (7, 23, 3))
found = {}
for name, pair in (("pair", (x, z)), ("swapped", (z, x)), ("square", (z, None))):
    for which, kernel in gram(convnet(1, 1), *pair).items():
        found[f"{name}_{which}"] = kernel
assert used == set(devices.chosen()), used
kernel = ExactKernel(convnet(1, 1), "ntk")
for name, rows in (("seven", x), ("three", few)):  # neither is a multiple of four, three is less
    on = devices.on_all((jnp.asarray(rows), jnp.asarray(z[:5])))
    value = jax.jit(jax.value_and_grad(lambda z, rows: jnp.sum(jnp.sin(kernel.gram(rows, z)))))
    found[f"{name}_value"], found[f"{name}_gradient"] = value(on[1], on[0])
    found[f"{name}_matrix"] = jax.jit(kernel.gram)(*on)
np.savez(out, **found)
"""


@pytest.mark.process
@pytest.mark.parametrize("path", ["cpu", "grid"])
def test_results_do_not_depend_on_the_number_of_devices(path, tmp_path) -> None:
    """Matrices of gram(): not by a bit. Value and gradient of a method: by rounding, since the sum
    over rows is made in parts; uneven numbers of rows, and fewer rows than devices."""
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    results = []
    for wanted in ("1", "2", "4"):
        out = tmp_path / f"{wanted}.npz"
        command = [sys.executable, "-c", PROGRAM, wanted, path, str(out)]
        subprocess.run(command, check=True, env=environment)
        with np.load(out) as stored:
            results.append(dict(stored))
    one, *more = results
    for other in more:
        for name, exact in one.items():
            if name.startswith(("pair", "swapped", "square")):
                np.testing.assert_array_equal(other[name], exact, err_msg=name)
            else:
                limit = 2e-6 * float(np.abs(exact).max())
                np.testing.assert_allclose(other[name], exact, atol=limit, err_msg=name)
