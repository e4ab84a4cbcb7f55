"""The protocols dc, dsa, frepo, kip_finite: what they report, what they refuse, their networks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill_cli.arch.layers import convnet
from distill_cli.core.types import Coreset
from distill_cli.errors import UserError
from distill_cli.evaluation import dc, dsa, frepo, kip_finite
from distill_cli.evaluation.base import Problem, evaluate
from distill_cli.evaluation.empirical_ntk import largest_eigenvalue, largest_stable_rate
from distill_cli.evaluation.protocol import Networks, build_net
from distill_cli.evaluation.sizes import parameters

SMALL = {
    "dc": dc.Config(networks=2, width=4, epochs=30, learning_rate=0.05),
    "dsa": dsa.Config(networks=2, width=4, epochs=30, learning_rate=0.05),
    "frepo": frepo.Config(networks=2, width=4, steps=60, learning_rate=0.02),
    "kip_finite": kip_finite.Config(networks=2, width=16, steps=40),
}


def blobs(n: int, seed: int, classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """8x8 noise with a bright band whose height gives the class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    images = 0.3 * rng.normal(size=(n, 8, 8, 1)).astype(np.float32)
    for image, label in zip(images, labels, strict=True):
        image[1 + 4 * label : 3 + 4 * label] += 1.5
    return images, labels.astype(np.int32)


def coreset(n: int = 6, classes: int = 2) -> Coreset:
    images, labels = blobs(n, 1, classes)
    targets = np.eye(classes, dtype=np.float32)[labels] - np.float32(1 / classes)
    return Coreset(images, targets, np.zeros(()))


def problem(classes: int = 2, seed: int = 0) -> Problem:
    return Problem(
        convnet(4, 1), "blobs", 3, blobs(12, 2, classes), blobs(40, 3 + seed, classes), 5e-3, 0
    )


@pytest.mark.parametrize("name", SMALL)
def test_a_protocol_learns_and_says_what_it_did(name):
    seen = []
    told = dataclasses.replace(problem(), report=lambda what, share: seen.append((what, share)))
    metric = evaluate(name, SMALL[name], coreset(), told)
    assert metric.protocol == name
    assert metric.accuracy > 0.9
    assert (metric.n, metric.images) == (2, 40)
    table = metric.detail["architectures"]
    (row,) = table.values()
    assert metric.accuracy == pytest.approx(np.mean(row["accuracies"]))
    assert metric.std == pytest.approx(np.std(row["accuracies"], ddof=1))
    assert len(row["accuracies"]) == 2
    assert row["parameters"] == metric.detail["parameters"] > 0
    assert name[:2] in metric.detail["description"].lower()
    assert metric.detail["settings"]["width"] == SMALL[name].width
    shares = [share for _, share in seen]
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert {what for what, _ in seen} == {f"evaluation.{name}"}


def test_the_same_again_and_test_images_decide_nothing():
    """The same seed gives the same networks, whatever the test set is."""
    config = SMALL["dc"]
    one = evaluate("dc", config, coreset(), problem())
    assert evaluate("dc", config, coreset(), problem()).accuracy == one.accuracy
    images, labels = problem().test
    swapped = dataclasses.replace(problem(), test=(images, 1 - labels))
    assert evaluate("dc", config, coreset(), swapped).accuracy == pytest.approx(1 - one.accuracy)


def test_transfer_table():
    config = dataclasses.replace(SMALL["dc"], architectures=("convnet", "mlp"), networks=1)
    metric = evaluate("dc", config, coreset(), problem())
    table = metric.detail["architectures"]
    assert list(table) == ["convnet", "mlp"]
    assert metric.accuracy == table["convnet"]["mean"]
    assert metric.std is None
    assert table["mlp"]["parameters"] == 64 * 4 + 4 + 4 * 4 + 4 + 4 * 2 + 2


def test_labels_count_where_the_protocol_says_so():
    """dc reads the argmax, frepo the numbers themselves."""
    soft = coreset()._replace(labels=0.01 * coreset().labels)
    one = dataclasses.replace(SMALL["dc"], networks=1, epochs=3)
    a, b = (evaluate("dc", one, s, problem()).detail["architectures"] for s in (coreset(), soft))
    assert a["convnet"]["accuracies"] == b["convnet"]["accuracies"]
    flipped = coreset()._replace(labels=-coreset().labels)
    assert evaluate("frepo", SMALL["frepo"], flipped, problem()).accuracy < 0.1


@pytest.mark.parametrize("name", SMALL)
def test_a_coreset_of_another_dataset_is_refused(name):
    with pytest.raises(UserError, match=r"2 columns, blobs has 3 classes"):
        evaluate(name, SMALL[name], coreset(), problem(classes=3))
    other = coreset()._replace(images=np.zeros((6, 6, 6, 1), np.float32))
    with pytest.raises(UserError, match=r"\(6, 6, 1\)"):
        evaluate(name, SMALL[name], other, problem())


@pytest.mark.parametrize("module", [frepo, kip_finite])
def test_norm_is_refused_where_the_protocol_forbids_it(module):
    name = module.__name__.rsplit(".", 1)[1]
    with pytest.raises(UserError, match=f"evaluation.{name}.norm=batch"):
        module.Config(norm="batch")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dc.Config(networks=0), "evaluation.dc.networks=0"),
        (lambda: dc.Config(epochs=0), "evaluation.dc.epochs=0"),
        (lambda: dc.Config(augmentation="crop_color"), "evaluation.dc.augmentation=color"),
        (lambda: dsa.Config(augmentation="noise"), "evaluation.dsa.augmentation=noise"),
        (lambda: dsa.Config(architectures=()), "evaluation.dsa.architectures"),
        (lambda: frepo.Config(steps=0), "evaluation.frepo.steps=0"),
        (lambda: kip_finite.Config(factor=-1.0), "evaluation.kip_finite.factor=-1.0"),
    ],
)
def test_wrong_settings(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_batch_norm_trains():
    config = dataclasses.replace(SMALL["dc"], norm="batch", augmentation="none", epochs=100)
    assert evaluate("dc", config, coreset(), problem()).accuracy > 0.8


@pytest.mark.parametrize(
    ("shape", "classes", "depth", "count"),
    [
        ((28, 28, 1), 10, None, 317_706),
        ((32, 32, 3), 10, None, 320_010),
        ((32, 32, 3), 100, None, 504_420),
        ((64, 64, 3), 200, None, 857_160),
        ((64, 64, 3), 200, 3, 1_938_120),
    ],
)
def test_parameters_of_the_convnet(shape, classes, depth, count):
    """Zhao et al.'s ConvNet, width 128, instance norm."""
    net = build_net(Networks(width=128, depth=depth), "convnet", classes, shape)
    made = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, *shape), jnp.float32))
    assert parameters(made) == count


def test_widths_of_the_other_architectures_follow_the_first():
    networks = Networks(architectures=("convnet", "resnet18", "vgg11"), width=32)
    assert build_net(networks, "convnet", 10, (32, 32, 3)).body.width == 32
    assert build_net(networks, "resnet18", 10, (32, 32, 3)).body.width == 16
    whole = dataclasses.replace(networks, width=None)
    assert build_net(whole, "vgg11", 10, (32, 32, 3)).body.width == 64


def test_steps_of_frepo():
    assert [frepo.default_steps(n) for n in (10, 100, 200, 500, 5000)] == [
        1000, 2000, 20000, 5000, 40000,
    ]  # fmt: skip
    assert frepo.default_steps(1) == 1000
    assert frepo.default_steps(20000) == 40000
    unlisted = [frepo.default_steps(n) for n in (11, 30, 99, 150, 300, 499, 700, 3000)]
    assert unlisted == sorted(unlisted)
    assert frepo.default_steps(30) == pytest.approx(1000 * 2 ** (np.log10(3)), abs=50)


def kip_network(key: int):
    """The network of SMALL["kip_finite"], so that nothing is compiled twice."""
    net = build_net(SMALL["kip_finite"], "kipconv", 2, (8, 8, 1))
    return net, kip_finite.standard_weights(net, jax.random.key(key), (8, 8, 1))


def test_largest_eigenvalue_is_that_of_the_jacobian():
    net, variables = kip_network(3)
    x = np.random.default_rng(0).normal(size=(7, 8, 8, 1)).astype(np.float32)

    def g(params):
        return net.apply({"params": params}, x).sum(-1) / np.sqrt(np.float32(2))

    jacobian = jax.jit(jax.jacrev(g))(variables["params"])
    rows = np.concatenate([leaf.reshape(7, -1) for leaf in jax.tree.leaves(jacobian)], axis=1)
    gram = rows.astype(np.float64) @ rows.T.astype(np.float64)
    top = np.linalg.eigvalsh(gram)[-1]
    assert largest_eigenvalue(net, variables, x) == pytest.approx(top, rel=2e-3)
    rate = largest_stable_rate(net, variables, x, 0.9)
    assert rate == pytest.approx(2 * 1.9 * 7 * 2 / top, rel=2e-3)


def test_standard_weights():
    """N(0, 2 / fan_in) and N(0, 0.01)."""
    draws = [kip_network(key)[1]["params"] for key in range(10)]
    leaves = [np.stack(same) for same in zip(*map(jax.tree.leaves, draws), strict=True)]
    kernels = [leaf for leaf in leaves if leaf.ndim == 5]
    assert len(kernels) == 2
    for kernel in kernels:
        fan_in = np.prod(kernel.shape[1:-1])
        assert kernel.std() == pytest.approx((2 / fan_in) ** 0.5, rel=0.06)
    biases = np.concatenate([leaf.ravel() for leaf in leaves if leaf.ndim == 2])
    assert biases.std() == pytest.approx(0.1, rel=0.15)
