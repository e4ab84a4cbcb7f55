"""FRePo's pool: ages, online steps, replacement, resuming."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from distill_cli.core.types import Batch, Coreset, one_hot_centred
from distill_cli.methods import frepo, frepo_pool
from distill_cli.methods.frepo_pool import OnlineNetworks, put, take
from distill_cli.nets import build

SHAPE = (8, 8, 1)
KEY = jax.random.key(0)


def coreset(n: int = 4) -> Coreset:
    images = jnp.asarray(np.random.default_rng(0).normal(size=(n, *SHAPE)), jnp.float32)
    labels = one_hot_centred(jnp.arange(n) % 2, 2)
    return Coreset(images, labels, jnp.zeros((), jnp.float64))


def networks(most=5, late=False, norm="batch", rate=1e-2) -> OnlineNetworks:
    net = build("frepo_conv", 2, SHAPE, width=4, depth=2, norm=norm)
    return OnlineNetworks(net, SHAPE, rate, most, late)


@cache
def fresh():
    return jax.jit(networks().fresh)


def same(one, other) -> bool:
    return all(jax.tree.leaves(jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), one, other)))


def test_a_new_pool_has_random_members_of_staggered_ages():
    pool = networks(most=42).pool(KEY, 4)
    np.testing.assert_array_equal(pool.age, [0, 10, 20, 30])
    kernels = np.asarray(pool.variables["params"]["body"]["Conv_1"]["kernel"]).reshape(4, -1)
    assert len(np.unique(kernels[:, 0])) == 4
    assert not any(leaf.any() for leaf in jax.tree.leaves(pool.adam))
    statistics = pool.variables["batch_stats"]["body"]["Norm_0"]["BatchNorm_0"]
    assert not statistics["mean"].any() and (statistics["var"] == 1).all()
    # A member is what its own key gives, alone.
    alone = fresh()(jax.random.split(KEY, 4)[3])
    assert same(take(pool, jnp.int32(3)).variables, alone.variables)


def test_put_and_take():
    pool = {"a": jnp.arange(6.0).reshape(3, 2), "b": jnp.arange(3)}
    new = {"a": jnp.array([7.0, 8.0]), "b": jnp.array(9)}
    changed = put(pool, jnp.int32(1), new)
    np.testing.assert_array_equal(changed["a"], [[0, 1], [7, 8], [4, 5]])
    np.testing.assert_array_equal(changed["b"], [0, 9, 2])
    assert same(take(changed, jnp.int32(1)), new)


def test_online_steps_are_adam_on_half_the_squared_error():
    """Two steps against the recurrence in NumPy, with gradients of the loss written out."""
    pool, points = networks(), coreset()
    member = fresh()(KEY)
    step = jax.jit(pool.online_step)
    rate, b1, b2, eps = 1e-2, 0.9, 0.999, 1e-8

    @jax.jit
    def gradient(variables):
        def loss(params):
            f, _ = pool.net.apply(
                {**variables, "params": params}, points.images, train=True, mutable=["batch_stats"]
            )
            return sum(0.5 * jnp.sum((f[j] - points.labels[j]) ** 2) for j in range(4)) / 4

        return jax.grad(loss)(variables["params"])

    flat = [np.asarray(a) for a in jax.tree.leaves(member.variables["params"])]
    mean, var = [np.zeros_like(a) for a in flat], [np.zeros_like(a) for a in flat]
    for t in (1, 2):
        grads = [np.asarray(g) for g in jax.tree.leaves(gradient(member.variables))]
        mean = [b1 * m + (1 - b1) * g for m, g in zip(mean, grads, strict=True)]
        var = [b2 * v + (1 - b2) * g * g for v, g in zip(var, grads, strict=True)]
        flat = [
            a - rate * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
            for a, m, v in zip(flat, mean, var, strict=True)
        ]
        member = step(member, points, KEY)
        for found, expected in zip(jax.tree.leaves(member.variables["params"]), flat, strict=True):
            # Adam divides rounding errors of vanishing gradients by themselves.
            close = np.isclose(found, expected, rtol=1e-3, atol=2e-5)
            assert close.mean() > 0.97
    assert int(member.age) == 2
    statistics = member.variables["batch_stats"]["body"]["Norm_0"]["BatchNorm_0"]
    assert statistics["mean"].any()


def test_online_training_fits_the_coreset():
    pool, points = networks(norm="none"), coreset()
    variables = jax.jit(partial(pool.trained, updates=150))(KEY, points)
    outputs = jax.jit(pool.net.apply)(variables, points.images)
    np.testing.assert_allclose(outputs, points.labels, atol=0.1)


def test_a_member_is_replaced_when_its_steps_are_made():
    """After exactly `most` online steps; the released program makes one more."""
    pool, points = networks(most=2), coreset()
    np.testing.assert_array_equal(pool.worn(jnp.arange(5)), [0, 0, 1, 1, 1])
    np.testing.assert_array_equal(networks(most=2, late=True).worn(jnp.arange(5)), [0, 0, 0, 1, 1])
    maintain = jax.jit(pool.maintain)
    member = fresh()(KEY)
    ages = []
    for number in range(5):
        member = maintain(member, points, jax.random.fold_in(KEY, number))
        ages.append(int(member.age))
        if not ages[-1]:
            assert same(member, fresh()(jax.random.fold_in(KEY, number)))
    assert ages == [1, 2, 0, 1, 2]


def test_large_coresets_are_trained_on_in_part(monkeypatch):
    points = coreset(8)._replace(labels=jnp.arange(8)[:, None])
    images, labels = frepo_pool.shown(points, KEY)
    assert images is points.images and labels is points.labels
    monkeypatch.setattr(frepo_pool, "ONLINE_IMAGES", 3)
    drawn = set()
    for number in range(12):
        images, labels = frepo_pool.shown(points, jax.random.key(number))
        rows = np.asarray(labels[:, 0])
        assert len(set(rows.tolist())) == 3
        np.testing.assert_array_equal(images, np.asarray(points.images)[rows])
        drawn |= set(rows.tolist())
    assert drawn == set(range(8))


METHOD = frepo.FRePo(
    frepo.Config(pool=4, ridge=1e-3, flip=True), networks(most=2), True, 20, 3, 2, 1e-3
)


@cache
def one_step():
    """step(state, key) of METHOD on a fixed batch, jitted with donation as in the loop."""
    images = jnp.asarray(np.random.default_rng(1).normal(size=(5, *SHAPE)), jnp.float32)
    batch = Batch(images, jnp.arange(5, dtype=jnp.int32) % 2, jnp.ones(5, jnp.float32))
    return jax.jit(lambda state, key: METHOD.step(state, batch, key)[0], donate_argnums=0)


def to_host(state):
    return jax.tree.map(np.array, state)


def test_a_step_changes_the_drawn_member_only_and_draws_them_all():
    state = METHOD.init(KEY, coreset())
    drawn = set()
    for number in range(25):
        before = to_host(state.pool)
        state = one_step()(state, jax.random.key(number))
        changed = {
            i for i in range(4)
            if not same(*(jax.tree.map(lambda a, i=i: a[i], p) for p in (before, state.pool)))
        }  # fmt: skip
        assert len(changed) == 1
        drawn |= changed
    assert drawn == {0, 1, 2, 3}


def test_a_state_that_went_through_the_host_goes_on_bit_for_bit():
    """A checkpoint holds the pool: weights, running statistics, Adam's moments and ages."""
    state = METHOD.init(KEY, coreset())
    leaves = jax.tree.leaves(state)
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in leaves]
    assert len(set(pointers)) == len(pointers)  # no buffer twice: the loop donates the state
    kept = None
    for number in range(8):
        kept = to_host(state) if number == 3 else kept
        state = one_step()(state, jax.random.key(number))
    other = jax.tree.map(jnp.asarray, kept)
    for number in range(3, 8):
        other = one_step()(other, jax.random.key(number))
    assert same(state, other)
