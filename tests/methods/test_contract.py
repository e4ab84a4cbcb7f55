"""The contract of methods/base.py, over every method and every composed recipe, by name."""

import dataclasses
import importlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill_cli.arch.layers import convnet
from distill_cli.cli.compose import compose
from distill_cli.config import config_dir, group_choices, parse, plain
from distill_cli.core.types import Batch, Coreset, one_hot_centred
from distill_cli.methods.base import Setting, make_distiller

SHAPE = (6, 6, 1)
RECIPES = sorted(
    path.relative_to(config_dir() / "recipe").with_suffix("").as_posix()
    for path in (config_dir() / "recipe").rglob("*.yaml")
)


def setting(method: str, labels: str = "learned") -> Setting:
    module = importlib.import_module(f"distill_cli.methods.{method}")
    allowed = getattr(module, "ALLOWS", {}).get("labels", (labels,))
    options = [f"method={method}", f"labels={allowed[0]}", "validation.networks=2"]
    if "networks" in compose("config", options).kernel:
        options.append("kernel.networks=2")
    config = parse(compose("config", options))
    return Setting(config, convnet(4, 1), SHAPE, 2, 4)


def problem() -> tuple[Coreset, Batch]:
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(4, *SHAPE)), jnp.float32)
    start = Coreset(images, one_hot_centred(jnp.array([0, 0, 1, 1]), 2), jnp.zeros((), jnp.float64))
    targets = jnp.asarray(rng.normal(size=(9, *SHAPE)), jnp.float32)
    return start, Batch(targets, jnp.arange(9) % 2, jnp.ones(9, jnp.float32))


@pytest.mark.parametrize("name", group_choices("method"))
def test_two_steps(name):
    """Pure, deterministic in the key, scan-able, finite, and of constant structure and dtype."""
    method = make_distiller(setting(name))
    start, batch = problem()
    state = method.init(jax.random.key(0), start)
    np.testing.assert_array_equal(method.coreset(state).images, start.images)
    step = jax.jit(method.step)
    one, info = step(state, batch, jax.random.key(1))
    again, _ = step(state, batch, jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    two, _ = step(one, batch, jax.random.key(2))
    same = jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), state, two)
    assert all(jax.tree.leaves(same))
    assert {"loss", "accuracy"} <= info.keys()
    assert all(value.shape == () and np.isfinite(value) for value in info.values())
    coreset = method.coreset(two)
    assert coreset.images.shape == start.images.shape
    assert coreset.labels.shape == start.labels.shape
    assert all(np.isfinite(part).all() for part in coreset)

    def body(state, key):
        return method.step(state, batch, key)

    keys = jnp.stack([jax.random.key(1), jax.random.key(2)])
    scanned, _ = jax.jit(lambda s: jax.lax.scan(body, s, keys))(state)
    np.testing.assert_allclose(method.coreset(scanned).images, coreset.images, atol=1e-5)


@pytest.mark.parametrize("name", sorted({*group_choices("method")} - {"full"}))
def test_validator_is_a_fixed_function_of_the_coreset(name):
    method = make_distiller(setting(name))
    start, batch = problem()
    validate = method.validator(jax.random.key(0), batch.images, batch.labels)
    scores, again = validate(start), validate(start)
    assert scores.keys() == {"valid_loss", "valid_accuracy"}
    assert {k: float(v) for k, v in scores.items()} == {k: float(v) for k, v in again.items()}
    assert 0 <= float(scores["valid_accuracy"]) <= 1


def test_the_whole_training_split_is_not_scored():
    """Nothing is chosen, and a regression on all images would take their kernel matrix."""
    scores = make_distiller(setting("full")).validator(jax.random.key(0), *problem()[1][:2])(None)
    assert all(np.isnan(value) for value in scores.values())


@pytest.mark.parametrize("name", group_choices("method"))
def test_batch_order_does_not_matter(name):
    method = make_distiller(setting(name))
    start, batch = problem()
    state = method.init(jax.random.key(0), start)
    turned = Batch(*(part[::-1] for part in batch))
    _, one = method.step(state, batch, jax.random.key(1))
    _, other = method.step(state, turned, jax.random.key(1))
    assert float(one["loss"]) == pytest.approx(float(other["loss"]), rel=1e-6)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("hardware", group_choices("hardware"))
def test_every_recipe_composes_and_parses(recipe, hardware):
    method, dataset = recipe.split("/")
    options = [f"method={method}", f"dataset={dataset}", f"hardware={hardware}"]
    composed = compose("config", [*options, "evaluation=all"])
    config = parse(composed)
    assert (config.method.name, config.dataset.name) == (method, dataset)
    assert config.hardware == hardware
    assert set(config.evaluation.protocols) == {"krr_nngp", "krr_ntk", "finite"}


@pytest.mark.parametrize("dataset", ["kmnist", "cifar100", "digits"])  # no longer presets
@pytest.mark.parametrize("method", group_choices("method"))
def test_without_a_longer_preset_a_pair_is_as_with_half_an_hour(method, dataset):
    def composed(hardware: str) -> dict[str, Any]:
        tree = plain(compose("config", [f"{method=!s}", f"{dataset=!s}", f"{hardware=!s}"]))
        return {k: v for k, v in tree.items() if k not in ("hardware", "evaluation")}

    assert composed("cpu_long") == composed("cpu")


def test_the_published_setting_of_cifar10():
    config = parse(compose("config", ["method=rfad", "dataset=cifar10", "ipc=10"]))
    assert (config.kernel.networks, config.architecture.width, config.architecture.depth) == (
        8,
        256,
        3,
    )
    assert (config.batch.size, config.batch.number) == (1280, 4)
    assert (config.loss, config.labels, config.init.name) == ("platt", "fixed", "random")
    assert (config.validation.every, config.validation.patience) == (40, 1000)
    assert config.validation.networks == 16
    assert config.method.transform
    assert config.method.ridge == 5e-3
    rates = dataclasses.astuple(config.method.learning_rates)
    assert rates == (1e-3, 5e-5, 1e-3, 1e-2)
    assert (config.preprocess.zca, config.preprocess.per_image) == (0.1, False)
    assert config.steps == 100000


def test_keys_of_every_group_say_what_they_do():
    """labels, loss, init, networks, width, steps, seed reach the typed configuration."""
    options = {
        "labels": "learned", "loss": "mse", "init": "var", "kernel.networks": 3,
        "architecture.width": 17, "steps": 7, "seed": 5, "batch.micro": 9,
    }  # fmt: skip
    config = parse(compose("config", [f"{k}={v}" for k, v in options.items()]))
    assert (config.labels, config.loss, config.init.name) == ("learned", "mse", "var")
    assert (config.kernel.networks, config.architecture.width) == (3, 17)
    assert (config.steps, config.seed, config.batch.micro) == (7, 5, 9)
