"""sampler=uniform: the rows it draws, and equal numbers of every class where it is asked to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill_cli.cli.compose import compose
from distill_cli.config import parse, plain
from distill_cli.naming import digest
from distill_cli.train.batches import TrainingSet, class_table, draw, draw_balanced
from distill_cli.train.samplers import uniform
from distill_cli.train.samplers.base import make_sampler


def train(counts: list[int], seed: int = 0) -> TrainingSet:
    """Images whose pixel is their row number, labels in random order."""
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    images = np.arange(len(labels), dtype=np.float32).reshape(-1, 1, 1, 1)
    return TrainingSet(
        jnp.asarray(images), jnp.asarray(labels, jnp.int32), None, class_table(labels)
    )


def rows(batch) -> np.ndarray:
    return np.asarray(batch.images).reshape(-1).astype(int)


def test_rows_are_the_largest_of_n_uniform_numbers():
    """The draw of RFAD's recipes, row by row, through the sampler of the default configuration."""
    data = train([40, 60])
    config = parse(compose("config", ["batch.size=16", "batch.number=3"]))
    sampler = make_sampler(config, None)  # type: ignore[arg-type]
    key = jax.random.key(7)
    batch = jax.jit(lambda t, k: sampler.draw((), t, None, k))(data, key)
    wanted = []
    for part in jax.random.split(key, 3):
        numbers = np.asarray(jax.random.uniform(part, (100,), jnp.float32))
        wanted.extend(np.argsort(-numbers, kind="stable")[:16])
    np.testing.assert_array_equal(rows(batch), wanted)
    np.testing.assert_array_equal(batch.weights, 1)
    np.testing.assert_array_equal(batch.labels, data.labels[np.array(wanted)])
    assert (sampler.refresh, sampler.init(data)) == (0, ())


@pytest.mark.parametrize(("size", "number"), [(12, 2), (14, 3), (2, 4), (200, 1)])
def test_balanced_counts_order_and_repeats(size, number):
    data = train([30, 50, 20])
    sampler = uniform.make(uniform.Config(balanced=True), Run(size, number))
    drawn = jax.jit(lambda t, k: sampler.draw((), t, None, k))
    batch = drawn(data, jax.random.key(0))
    size = min(size, 100)
    assert batch.images.shape[0] == size * number
    for part in range(number):
        piece = slice(part * size, (part + 1) * size)
        labels = np.asarray(batch.labels[piece])
        counts = np.bincount(labels, minlength=3)
        assert counts.max() - counts.min() <= 1
        assert (np.diff(labels) >= 0).all()
        np.testing.assert_array_equal(np.asarray(data.labels)[rows(batch)[piece]], labels)
        for label in range(3):
            members = rows(batch)[piece][labels == label]
            held = int((np.asarray(data.labels) == label).sum())
            assert len(set(members.tolist())) == min(held, len(members))
    assert not np.array_equal(rows(batch), rows(drawn(data, jax.random.key(1))))


class Run:
    """What the sampler reads of a run's configuration."""

    def __init__(self, size: int, number: int) -> None:
        self.batch = type("Batch", (), {"size": size, "number": number})


def test_balanced_draws_are_uniform_inside_a_class_and_share_the_remainder():
    data = train([5, 45])
    keys = jax.random.split(jax.random.key(3), 4000)
    found = jax.jit(jax.vmap(lambda k: draw_balanced(k, data, 3, 1).images.reshape(-1)))(keys)
    counts = np.bincount(np.asarray(found, int).ravel(), minlength=50)
    labels = np.asarray(data.labels)
    for label, held in ((0, 5), (1, 45)):
        mine = counts[labels == label]
        assert abs(mine.sum() / 4000 - 1.5) < 4 * 0.5 / 4000**0.5
        share = mine / mine.sum()
        assert np.abs(share - 1 / held).max() < 5 * (share.mean() / mine.sum()) ** 0.5


def test_a_class_smaller_than_its_share_is_gone_through_again():
    batch = draw_balanced(jax.random.key(0), train([2, 98]), 20, 1)
    small = rows(batch)[np.asarray(batch.labels) == 0]
    assert np.bincount(small)[np.unique(small)].tolist() == [5, 5]


def test_constant_rates_no_average_and_no_growth_leave_the_digest_as_it_was():
    base = plain(compose("config", ["dataset=mnist"]))
    new = ("schedule", "schedule_warmup", "schedule_final", "average", "average_decay", "growth")
    without = {key: value for key, value in base.items() if key not in new}
    without["method"] = {k: v for k, v in base["method"].items() if k != "jackknife"}
    assert len(without) == len(base) - len(new)
    assert digest(base) == digest(without)
    growth = ["growth.shares=[0.5]", "growth.batch=[8]"]
    for options in (["schedule=cosine"], ["average=ema"], growth, ["method.jackknife=0.5"]):
        assert digest(plain(compose("config", ["dataset=mnist", *options]))) != digest(base)
    assert digest(plain(compose("config", ["dataset=mnist", "average_decay=0.5"]))) == digest(base)


def test_the_default_sampler_and_no_pruning_leave_the_digest_as_it_was():
    base = plain(compose("config", []))
    without = {key: value for key, value in base.items() if key not in ("sampler", "prune")}
    assert digest(base) == digest(without)
    for option in ("sampler.balanced=true", "prune.keep=smallest"):
        assert digest(plain(compose("config", [option]))) != digest(base)
    assert digest(plain(compose("config", ["prune.ratio=0.1"]))) == digest(base)


@pytest.mark.parametrize(
    ("overrides", "group", "key", "other"),
    [
        ([], "kernel", "features", "tf32"),
        ([], "kernel", "fused", "false"),
        (["method=frepo"], "method", "networks", "2"),
    ],
)
def test_a_key_that_adds_nothing_leaves_the_digest_as_it_was(overrides, group, key, other):
    base = plain(compose("config", overrides))
    without = base | {group: {k: v for k, v in base[group].items() if k != key}}
    assert key in base[group] and digest(base) == digest(without)
    changed = plain(compose("config", [*overrides, f"{group}.{key}={other}"]))
    assert digest(changed) != digest(base)


def test_draw_and_the_unbalanced_sampler_are_one():
    data, key = train([9, 9]), jax.random.key(1)
    one = uniform.make(uniform.Config(), Run(5, 2)).draw((), data, None, key)
    jax.tree.map(np.testing.assert_array_equal, one, draw(key, data, 5, 2))
