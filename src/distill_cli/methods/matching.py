"""What the matching methods (dc, dsa, dm) share: real images of one class, networks, distances.

A batch holds images of all classes. Those of class c are picked out at a fixed number `most` of
rows, with weight 0 where the batch has fewer; of a class with more than `most` the first ones
count. A class that is not in the batch contributes nothing.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from distill_cli.augment import dsa as siamese
from distill_cli.config import at_least
from distill_cli.core.losses import LOSSES, at_label
from distill_cli.core.schedule import Schedule
from distill_cli.core.types import Batch
from distill_cli.errors import UserError, choice_error
from distill_cli.kernels.micro_batches import cut, micro_pieces
from distill_cli.kernels.random_features import RandomFeatureKernel
from distill_cli.kernels.shares import CLASS, Shares, map_shared
from distill_cli.methods.base import Setting, Validator
from distill_cli.methods.krr import feature_validator
from distill_cli.nets import Net, build

Variables = Any
EPSILON = 1e-6  # in the denominator of the cosine
DISTANCES = ("rows", "cosine", "squared")


class Real(NamedTuple):
    """Real images of one class: images (most, h, w, c) and weights (most,), 0 for other classes'
    images and summing to 1, or to 0 where the batch has none of the class; present: 1 or 0."""

    images: Array
    weights: Array
    present: Array


def most_of_a_class(batch: int, classes: int) -> int:
    """Rows kept for each class: all of them where the batch is balanced."""
    return -(-batch // classes)


def real_images(batch: Batch, label: Int[Array, ""], most: int) -> Real:
    """The first `most` images of a class in the batch."""
    of_class = (batch.labels == label) & (batch.weights > 0)
    rows = jax.lax.top_k(of_class.astype(jnp.float32), most)[1]
    weights = batch.weights[rows] * of_class[rows]
    total = jnp.sum(weights)
    return Real(
        batch.images[rows],
        weights / jnp.where(total > 0, total, 1),
        (total > 0).astype(jnp.float32),
    )


def by_class(images: Float[Array, "n h w c"], classes: int) -> Float[Array, "class ipc h w c"]:
    """The coreset, which is class-major, class by class."""
    return images.reshape(classes, -1, *images.shape[1:])


def each_class(
    shares: Shares, function: Callable[[Any], Any], images: Float[Array, "n h w c"], classes: int
) -> Any:
    """function((label, its coreset images)) of every class, stacked; inside `shares.spread` each
    device takes its share of the classes, and all get the same result."""
    parts = jnp.arange(classes, dtype=jnp.int32), by_class(images, classes)
    return map_shared(shares, CLASS, function, parts)


def summed_in_pieces(function: Callable[..., Any], micro: int, *arrays: Array) -> Any:
    """sum over micro-batches of function(*arrays), a sum over images with weights.

    The last micro-batch is filled up with zeros, weights among them. On a CPU pieces that fit the
    cache are two to three times faster than the whole batch.
    """
    pieces, size = micro_pieces(arrays[0].shape[0], micro)
    if pieces == 1:
        return function(*arrays)
    parts = tuple(cut(x, pieces, size) for x in arrays)
    shapes = jax.eval_shape(function, *(part[0] for part in parts))
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def add(total: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(*part)), None

    return jax.lax.scan(add, zero, parts)[0]


def cross_entropy(
    net: Net, params: Variables, x: Array, label: Array, weights: Array
) -> tuple[Array, Array]:
    """(weighted sum of -log softmax(f)[label], weighted share of hits); label () or (n,)."""
    f: Any = net.apply({"params": params}, x, train=True)
    labels = jnp.broadcast_to(label, (x.shape[0],))
    each = -at_label(jax.nn.log_softmax(f), labels)
    return jnp.sum(weights * each), jnp.sum(weights * (jnp.argmax(f, -1) == labels))


def gradient_distance(kind: str, real: Variables, synthetic: Variables) -> Float[Array, ""]:
    """How far apart two gradients are.

    rows: the sum over weight tensors and their output units of 1 - cos(g_real, g_syn), a unit's
    gradient being a vector; tensors of one dimension (biases, scales and shifts of norms) count
    nothing. A weight of a layer norm over whole maps is taken channel by channel.
    cosine: 1 - cos of the whole gradient as one vector. squared: squared norm of the difference.
    (Zhao, Mopuri & Bilen 2021, section 3.3, in the form of the authors' program.)
    """
    pairs = list(zip(jax.tree.leaves(real), jax.tree.leaves(synthetic), strict=True))
    if kind == "squared":
        squares = [jnp.sum((a - b) ** 2) for a, b in pairs]
        return jnp.sum(jnp.stack(squares))
    if kind == "cosine":
        flat = [
            jnp.concatenate([leaf.reshape(-1, 1) for leaf in side])
            for side in zip(*pairs, strict=True)
        ]
        return jnp.sum(one_minus_cosine(*flat))
    # The last axis of every tensor is the output unit.
    tensors = [
        (a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])) for a, b in pairs if a.ndim > 1
    ]
    return jnp.sum(jnp.stack([jnp.sum(one_minus_cosine(a, b)) for a, b in tensors]))


def one_minus_cosine(a: Float[Array, "d unit"], b: Float[Array, "d unit"]) -> Float[Array, " unit"]:
    """1 - <a, b> / (|a| |b| + 1e-6) of each column."""
    return 1 - jnp.sum(a * b, 0) / (norms(a) * norms(b) + EPSILON)


def norms(a: Float[Array, "d unit"]) -> Float[Array, " unit"]:
    """Norms of the columns, with gradient 0 at the zero vector (a unit that is never active)."""
    squares = jnp.sum(a**2, 0)
    return jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)


def matching_net(setting: Setting) -> Net:
    """The network of method.network; UserError where the matching methods cannot use it."""
    config = setting.config.method
    if config.norm == "batch":
        raise UserError(
            f"method.norm=batch: method={config.name} takes classes one by one, whose statistics "
            "batch norm would give away; choose instance, layer, group or none"
        )
    return build(
        config.network, setting.classes, setting.image_shape,
        width=config.width, depth=config.depth, norm=config.norm,
    )  # fmt: skip


def fresh(net: Net, key: Array, shape: tuple[int, ...]) -> Variables:
    """Random weights of a network for images of this shape (h, w, c)."""
    return net.init(key, jnp.zeros((1, *shape), jnp.float32))["params"]


def strategy_of(setting: Setting) -> str:
    """The DSA strategy in force: the published one for the dataset where it is `auto`."""
    strategy = setting.config.method.augmentation
    if strategy == "auto":
        return siamese.default_strategy(setting.config.dataset.name)
    return strategy


def momentum_sgd(config: Any, schedule: Schedule) -> optax.GradientTransformation:
    """v <- momentum v + g,   S <- S - rate v."""
    return optax.sgd(schedule(config.learning_rate), momentum=config.momentum)


def forward_flops(net: Net, shape: tuple[int, ...]) -> float:
    """Arithmetic of one image through the network, as XLA counts it before it optimises."""

    def run(params: Variables, x: Array) -> Any:
        return net.apply({"params": params}, x)

    image = jnp.zeros((1, *shape), jnp.float32)
    params = jax.eval_shape(lambda key: fresh(net, key, shape), jax.random.key(0))
    analysis = jax.jit(run).lower(params, image).cost_analysis() or {}
    return float(analysis.get("flops", 0.0))


def score_by_regression(setting: Setting, key: Array, images: Array, labels: Array) -> Validator:
    """Kernel regression on random features, squared error: a score that needs no training.

    It orders coresets of very different quality; what it cannot see is how well a network trains
    on them, which is why the published methods, and the YAML files here, keep the last coreset.
    """
    config = setting.config
    kernel = RandomFeatureKernel(
        setting.architecture, setting.image_shape, config.validation.networks
    )
    return feature_validator(
        kernel, key, images, labels,
        loss=LOSSES["mse"], reg=setting.reg, micro=setting.micro,
    )  # fmt: skip


def check_common(config: Any) -> None:
    """Ranges of the parameters that dc, dsa and dm have in common."""
    for key in ("learning_rate", "momentum"):
        at_least(f"method.{key}", getattr(config, key), 0)
    if not config.momentum < 1:
        raise UserError(f"method.momentum={config.momentum}: must be below 1")
    if not config.ridge > 0:
        raise UserError(f"method.ridge={config.ridge}: must be above 0")
    if config.augmentation != "auto":
        siamese.strategies.parse(config.augmentation, siamese.FAMILIES, "method.augmentation")
    if getattr(config, "distance", "rows") not in DISTANCES:
        raise choice_error("method.distance", config.distance, DISTANCES)
