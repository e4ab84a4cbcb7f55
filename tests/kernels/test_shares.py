"""Networks and micro-batches over devices: the same bits, whatever the number of devices."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from distill_cli.core import devices
from distill_cli.kernels.shares import ALONE, BATCH, NETWORK, arrange, ordered_sum

PROGRAM = Path(__file__).with_name("devices_program.py")
# Case of devices_program.py -> devices -> the mesh: (along the micro-batches, along the networks),
# or (classes).
MESHES = {
    "rfad of 4": {2: (1, 2), 3: (1, 3), 4: (1, 4), 8: (2, 4)},
    "rfad of 1": {5: (5, 1)},
    "rfad of 4, in one piece": {4: (1, 4)},
    "rfad of 1, in one piece": {4: (4, 1)},
    "jackknife of 4": {2: (1, 2), 3: (1, 3), 8: (2, 4)},
    "frepo of 1, in one piece": {4: (4, 1)},
    "frepo of 1": {5: (5, 1)},
    "frepo of 3": {3: (1, 3), 8: (4, 2)},
    "dc": {3: (3,)},
    "dsa": {8: (8,)},
    "dm": {5: (5,)},
}


def steps(folder: Path, count: int, case: str, *options: str) -> dict[str, np.ndarray]:
    """What devices_program.py writes. The number of virtual devices is eight in any case: XLA's
    thread pool grows with it, and so changes the order in which a convolution adds."""
    out = folder / f"{count}.npz"
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(PROGRAM), str(out), str(count), case, *options]
    done = subprocess.run(
        command, env=os.environ | flags, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(np.load(out))


@pytest.mark.process
@pytest.mark.parametrize("case", MESHES)
def test_steps_are_the_same_bit_for_bit_on_any_number_of_devices(tmp_path, case):
    alone = steps(tmp_path, 1, case)
    assert alone.pop("mesh").size == 0
    moved = [name for name, x in alone.items() if x.size and np.abs(x).max() > 0]
    assert len(moved) > 5
    for count, mesh in MESHES[case].items():
        found = steps(tmp_path, count, case)
        assert tuple(found.pop("mesh")) == mesh
        for name, value in alone.items():
            np.testing.assert_array_equal(found[name], value, err_msg=f"{count}: {name}")


@pytest.mark.process
def test_steps_with_networks_written_out(tmp_path):
    """An accelerator's path, on one device and on a mesh of both axes, to the rounding of
    float32."""
    loops = steps(tmp_path, 1, "rfad of 4")
    for count, mesh in ((1, ()), (8, MESHES["rfad of 4"][8])):
        found = steps(tmp_path, count, "rfad of 4", "written_out")
        assert tuple(found.pop("mesh")) == mesh
        for name, value in found.items():
            near = 1e-5 * np.abs(loops[name]).max(initial=0)
            np.testing.assert_allclose(value, loops[name], 0, near, err_msg=f"{count}: {name}")


def test_one_device_is_alone():
    if len(devices.chosen()) == 1:
        assert arrange(8, 4, 640, 100) is ALONE
    assert ALONE.axis(NETWORK) is ALONE.axis(BATCH) is None
    assert ALONE.spread(sum) is sum


def test_the_mesh_is_the_one_on_which_the_longest_share_is_shortest(monkeypatch):
    """Against all factorisations, by the work written out."""

    class Place:  # a mesh needs no more of a device
        def __init__(self, number: int) -> None:
            self.id, self.platform, self.process_index, self.device_kind = number, "x", 0, "x"

    for count in (2, 3, 4, 6, 8, 16):
        places = np.array(list(map(Place, range(count))))
        row = Mesh(places, ("devices",))
        monkeypatch.setattr(devices, "chosen", lambda places=places: tuple(places))
        monkeypatch.setattr(devices, "row", lambda row=row: row)
        for networks, pieces, micro, coreset in [(8, 2, 2560, 100), (8, 8, 640, 500), (3, 5, 8, 1)]:
            shares = arrange(networks, pieces, micro, coreset)
            along, across = shares.size(NETWORK), shares.size(BATCH)
            assert along * across == count
            assert shares.busy == along * min(across, pieces)

            def longest(a: int, n=networks, p=pieces, c=count, m=micro, s=coreset) -> int:
                return -(-n // a) * (-(-p // (c // a)) * m + 4 * s)

            possible = [a for a in range(1, min(count, networks) + 1) if count % a == 0]
            assert longest(along) == min(map(longest, possible))


def test_ordered_sum_adds_in_the_order_of_the_terms():
    """Numbers whose sum depends on the order; NumPy adds them one by one."""
    rng = np.random.default_rng(0)
    values = (rng.normal(size=(9, 5)) * 10.0 ** rng.integers(-6, 6, (9, 5))).astype(np.float32)
    total = np.zeros(5, np.float32)
    for row in values:
        total = total + row
    found, number = jax.jit(lambda v: ordered_sum(lambda x: (x, 3 * x[0]), v, 9))(values)
    np.testing.assert_array_equal(found, total)
    assert not np.array_equal(found, np.cumsum(values[::-1], 0)[-1])
    np.testing.assert_array_equal(number, np.cumsum(3 * values[:, 0])[-1])
