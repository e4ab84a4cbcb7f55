"""bench_torch_rfad.py: what it reports, and PyTorch's numbers against distill_cli's."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill_cli.core.linalg import krr_predict, krr_solve
from distill_cli.core.losses import platt
from distill_cli.core.types import Batch, Coreset

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"
HAS_TORCH = importlib.util.find_spec("torch") is not None
SHAPE, CORESET, BATCH = (9, 9, 3), 10, 23
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="PyTorch is not installed")


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(SCRIPTS / "bench_torch_rfad.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )


@pytest.mark.process
@pytest.mark.skipif(HAS_TORCH, reason="PyTorch is installed")
def test_bench_torch_rfad_needs_torch():
    done = run("--quick")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and "PyTorch" in line


@pytest.mark.process
@needs_torch
def test_bench_torch_rfad(tmp_path):
    record = tmp_path / "torch.json"
    done = run("--quick", "--device", "cpu", "--repeats", "3", "--json", str(record))
    assert done.returncode == 0, done.stderr
    row = json.loads(record.read_text())
    assert row["torch_seconds"] > 0 and row["networks"] == 2
    if jax.default_backend() == "cpu":
        assert row["ratio"] == pytest.approx(row["torch_seconds"] / row["distill_cli_seconds"])
    wrong = run("--repeats", "0")
    assert wrong.returncode == 2 and "--repeats=0" in wrong.stderr


@pytest.fixture(scope="module")
def scripts():
    """(bench_torch_rfad, bench_step) as modules."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield importlib.import_module("bench_torch_rfad"), importlib.import_module("bench_step")


def torch_weights(networks):
    """distill_cli's weights, stacked over networks and HWIO, as the lists of bench_torch_rfad."""
    import torch

    count = len(networks[0][1])
    return [
        [
            (
                torch.from_numpy(np.transpose(np.asarray(weight)[m], (3, 2, 0, 1)).copy()),
                torch.from_numpy(np.asarray(bias)[m].copy()),
            )
            for weight, bias in networks
        ]
        for m in range(count)
    ]


def both_sides(scripts, dtype):
    """(distill_cli's loss and gradients, PyTorch's) with the same weights, images and matrix M."""
    import torch

    bench, bench_step = scripts
    method, _ = bench_step.distiller(SHAPE, 16, 3)
    rng = np.random.default_rng(0)
    networks = jax.tree.map(lambda w: w.astype(dtype), method.kernel.sample(jax.random.key(5)))
    pixels = int(np.prod(SHAPE))
    own = {
        "images": rng.normal(size=(CORESET, *SHAPE)).astype(dtype),
        "transform": (np.eye(pixels) + 0.03 * rng.normal(size=(pixels, pixels))).astype(dtype),
        "log_temperature": np.float64(0.7),
    }
    targets = (np.eye(10)[np.arange(CORESET)] - 0.1).astype(dtype)
    x = rng.normal(size=(BATCH, *SHAPE)).astype(dtype)
    labels = rng.integers(0, 10, BATCH)

    def loss(params):
        flat = params["images"].reshape(CORESET, -1) @ params["transform"]
        phi_s = method.kernel.features(networks, flat.reshape(CORESET, *SHAPE))
        phi_t = jax.lax.stop_gradient(method.kernel.features(networks, jnp.asarray(x)))
        alpha = krr_solve(method.kernel.gram(phi_s, phi_s), jnp.asarray(targets), bench.JITTER)
        f = krr_predict(method.kernel.gram(phi_t, phi_s), alpha)
        return jnp.mean(platt(f, jnp.asarray(labels), params["log_temperature"]))

    value, gradients = jax.value_and_grad(loss)(jax.tree.map(jnp.asarray, own))

    def channels_first(a):
        return torch.from_numpy(np.moveaxis(np.asarray(a), -1, 1).copy())

    # M acts on flattened images: its rows and columns move with the pixels.
    order = np.arange(pixels).reshape(SHAPE).transpose(2, 0, 1).ravel()
    theirs = {
        "images": channels_first(own["images"]),
        "transform": torch.from_numpy(own["transform"][np.ix_(order, order)].copy()),
        "log_temperature": torch.tensor(own["log_temperature"]),
    }
    for parameter in theirs.values():
        parameter.requires_grad_()
    weights = torch_weights(networks)
    other = bench.loss_of(
        weights, theirs, torch.from_numpy(targets), channels_first(x), torch.from_numpy(labels)
    )
    other.backward()
    back = np.empty((pixels, pixels), dtype)
    back[np.ix_(order, order)] = theirs["transform"].grad.numpy()
    found = {
        "images": np.moveaxis(theirs["images"].grad.numpy(), 1, -1),
        "transform": back,
        "log_temperature": theirs["log_temperature"].grad.numpy(),
    }
    return (float(value), gradients), (float(other.detach()), found)


@needs_torch
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 1e-4)])
def test_bench_torch_rfad_computes_distill_clis_loss_and_gradient(scripts, dtype, tolerance):
    """Pixels, matrix M and temperature; distance of the gradients relative to their norm."""
    (value, gradients), (other, found) = both_sides(scripts, dtype)
    assert other == pytest.approx(value, rel=tolerance)
    for name, gradient in gradients.items():
        norm = np.linalg.norm(gradient)
        assert norm > 1e-4
        assert np.linalg.norm(found[name] - gradient) <= tolerance * norm, name


@needs_torch
def test_bench_torch_rfad_has_the_loss_of_a_step(scripts):
    """The same figure from the method's own step, its networks drawn from the step's key."""
    import torch

    bench, bench_step = scripts
    method, _ = bench_step.distiller(SHAPE, 16, 3)
    key = jax.random.key(2)
    rng = np.random.default_rng(1)
    images = rng.normal(size=(CORESET, *SHAPE)).astype(np.float32)
    targets = (np.eye(10)[np.arange(CORESET)] - 0.1).astype(np.float32)
    x = rng.normal(size=(BATCH, *SHAPE)).astype(np.float32)
    labels = rng.integers(0, 10, BATCH)
    start = Coreset(jnp.asarray(images), jnp.asarray(targets), jnp.zeros((), jnp.float64))
    state = method.init(jax.random.key(0), start)
    batch = Batch(jnp.asarray(x), jnp.asarray(labels), jnp.ones(BATCH, jnp.float32))
    _, info = jax.jit(method.step)(state, batch, key)
    networks = method.kernel.sample(key)
    weights = torch_weights(networks)
    params = {
        "images": torch.from_numpy(images.transpose(0, 3, 1, 2).copy()),
        "transform": torch.eye(int(np.prod(SHAPE))),
        "log_temperature": torch.zeros((), dtype=torch.float64),
    }
    there = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
    loss = bench.loss_of(
        weights, params, torch.from_numpy(targets), there, torch.from_numpy(labels)
    )
    assert float(info["loss"]) == pytest.approx(float(loss), rel=1e-5)


@needs_torch
def test_bench_torch_rfad_updates_by_the_written_recurrence(scripts):
    """AdaBelief against optax with eps = eps_root = 1e-16 over several steps, float64."""
    import optax
    import torch

    bench, _ = scripts
    rng = np.random.default_rng(0)
    start = rng.normal(size=(4, 3))
    theirs = {"images": torch.from_numpy(start.copy())}
    rule = bench.AdaBelief(theirs)
    ours = jnp.asarray(start)
    transformation = optax.adabelief(bench.RATES["images"], eps=1e-16, eps_root=1e-16)
    state = transformation.init(ours)
    for _ in range(6):
        gradient = rng.normal(size=start.shape)
        theirs["images"].grad = torch.from_numpy(gradient.copy())
        rule.step()
        update, state = transformation.update(jnp.asarray(gradient), state, ours)
        ours = optax.apply_updates(ours, update)
        np.testing.assert_allclose(theirs["images"].numpy(), ours, rtol=1e-9)
    assert not np.allclose(ours, start, atol=1e-4)
