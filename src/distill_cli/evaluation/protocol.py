"""What the protocols that train finite networks share: settings, the transfer table, the Metric.

Each protocol trains `networks` fresh networks of each architecture on the whole coreset and tests
each once, after its last update. Nothing is selected: neither a step nor a hyper-parameter looks at
test images, and validation images are not used for training.
"""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Array

from distill_cli import nets
from distill_cli.config import at_least
from distill_cli.core.keys import named_key, step_key
from distill_cli.core.sharing import Tell, share_out
from distill_cli.core.stats import mean_std
from distill_cli.core.types import Coreset, Metric
from distill_cli.errors import UserError, choice_error, shown
from distill_cli.evaluation.base import Problem
from distill_cli.evaluation.by_class import confusion_counts, share_correct
from distill_cli.evaluation.kept_networks import Tested, kept_networks
from distill_cli.evaluation.sizes import parameters
from distill_cli.evaluation.trainer import Recipe, Variables, predicted_classes, train


@dataclass(frozen=True)
class Networks:
    """Which networks a protocol trains.

    networks: how many of each architecture; architectures: names of nets.build, the first one is
    the Metric's; width: filters of the first layer of the first architecture (None: as published),
    the others become wider or narrower in the same ratio; depth: blocks of those that have a depth
    (None: a last map of about 4x4); norm: of all architectures (None: their own); seed.
    """

    networks: int = 5
    architectures: tuple[str, ...] = ("convnet",)
    width: int | None = None
    depth: int | None = None
    norm: str | None = None
    seed: int = 0

    def check(self, protocol: str) -> None:
        """Raise UserError for what no protocol can do; `protocol` names the keys."""
        at_least(f"evaluation.{protocol}.networks", self.networks, 1)
        at_least(f"evaluation.{protocol}.seed", self.seed, 0)
        for key in ("width", "depth"):
            if getattr(self, key) is not None:
                at_least(f"evaluation.{protocol}.{key}", getattr(self, key), 1)
        if not self.architectures:
            raise UserError(f"evaluation.{protocol}.architectures=[]: name at least one network")
        for name in self.architectures:
            if name not in nets.NETWORKS:
                raise choice_error(f"evaluation.{protocol}.architectures", name, nets.NETWORKS)


def refuse_norm(config: Networks, protocol: str) -> None:
    """UserError unless norm is none."""
    if config.norm != "none":
        raise UserError(
            f"evaluation.{protocol}.norm={shown(config.norm)}: {protocol} trains networks without "
            "normalisation; choose none"
        )


def build_net(
    config: Networks, name: str, classes: int, shape: tuple[int, ...], compat: bool = False
) -> nets.Net:
    """The network of a name with its width in ratio to the first architecture's."""
    first = config.architectures[0]
    options: dict[str, Any] = {"depth": config.depth, "norm": config.norm, "compat": compat}
    height, width, channel = shape
    net = nets.build(name, classes, (height, width, channel), **options)
    if config.width is None:
        return net
    filters = config.width
    if name != first:
        usual: Any = nets.build(first, classes, (height, width, channel), **options).body
        body: Any = net.body
        # A multiple of 4, for norm=group.
        filters = max(4, round(body.width * config.width / usual.width / 4) * 4)
    return nets.build(name, classes, (height, width, channel), width=filters, **options)


def check_coreset(protocol: str, coreset: Coreset, problem: Problem) -> int:
    """The number of classes; UserError where coreset and data do not belong together."""
    classes = int(coreset.labels.shape[1])
    known = [labels for _, labels in (problem.valid, problem.test) if len(labels)]
    if not len(problem.test[1]):
        raise UserError(f"evaluation.{protocol}: needs at least one test image")
    found = max(int(np.max(labels)) for labels in known) + 1
    if found != classes:
        raise UserError(
            f"evaluation.{protocol}: the coreset's labels have {classes} columns, "
            f"{problem.dataset} has {found} classes; use the coreset's own dataset"
        )
    if tuple(coreset.images.shape[1:]) != tuple(problem.test[0].shape[1:]):
        raise UserError(
            f"evaluation.{protocol}: the coreset's images are {tuple(coreset.images.shape[1:])}, "
            f"those of {problem.dataset} {tuple(problem.test[0].shape[1:])}"
        )
    return classes


def draw(net: nn.Module, key: Array, shape: tuple[int, ...]) -> Variables:
    """Fresh variables of a network."""
    return _init(net, key, np.zeros((1, *shape), np.float32))


@partial(jax.jit, static_argnums=0)
def _init(net: nn.Module, key: Array, images: Array) -> Any:
    return net.init(key, images)


def run_protocol(
    protocol: str,
    description: str,
    config: Networks,
    coreset: Coreset,
    problem: Problem,
    recipe: Recipe,
    *,
    compat: bool = False,
    initial: Callable[[nn.Module, Array, tuple[int, ...]], Variables] = draw,
    rate: Callable[[nn.Module, Variables], float] | None = None,
    learning_rate: float = 0.0,
    settings: dict[str, Any] | None = None,
) -> Metric:
    """Train and test `config.networks` networks of every architecture, shared out over devices.

    compat: networks as FRePo's released program builds them;
    initial: fresh variables; rate: the learning rate of a network with these initial variables,
    in place of `learning_rate`; settings: values in force, for the detail.
    std is the sample standard deviation over the networks (n - 1), None for one network.
    """
    begun = time.perf_counter()
    classes = check_coreset(protocol, coreset, problem)
    shape = tuple(coreset.images.shape[1:])
    images, targets = np.asarray(coreset.images), np.asarray(coreset.labels)
    built = {name: build_net(config, name, classes, shape, compat) for name in config.architectures}
    table: dict[str, dict[str, Any]] = {}
    confusion = None
    for number, (name, net) in enumerate(built.items()):
        clock = time.perf_counter()

        def one(index: int, tell: Tell, name: str = name, net: nets.Net = net) -> Tested:
            key = network_key(config.seed, name, index)
            variables = initial(net, jax.random.fold_in(key, 0), shape)
            chosen = rate(net, variables) if rate else learning_rate
            trained = train(
                net, recipe, images, targets, variables, jax.random.fold_in(key, 1), chosen,
                lambda message, fraction: tell(0.95 * fraction),
            )  # fmt: skip
            guesses = predicted_classes(net, trained.variables, problem.test[0])
            tell(1.0)
            finite, size = bool(trained.finite), parameters(variables)
            return Tested(guesses, {"rate": float(chosen), "finite": finite, "parameters": size})

        def report(message: str, fraction: float, number: int = number) -> None:
            problem.report(f"evaluation.{protocol}", (number + fraction) / len(built))

        work = kept_networks(
            one, problem.partial, protocol, name, config, recipe, compat, learning_rate,
            images, targets, *problem.valid, *problem.test,
        )  # fmt: skip
        found = share_out(work, config.networks, report)
        accuracies = [share_correct(row.guesses, problem.test[1]) for row in found]
        if name == config.architectures[0]:
            guesses = [row.guesses for row in found]
            confusion = confusion_counts(guesses, problem.test[1], classes)
        warnings = [
            f"network {index}: loss or weights not finite"
            for index, row in enumerate(found)
            if not row.facts["finite"]
        ]
        mean, std, _ = mean_std(accuracies)
        table[name] = {
            "mean": mean,
            "std": std,
            "parameters": found[0].facts["parameters"],
            "accuracies": accuracies,
            "seconds": round(time.perf_counter() - clock, 2),
            **({"learning_rates": [row.facts["rate"] for row in found]} if rate else {}),
            **({"warnings": warnings} if warnings else {}),
        }
    best = table[config.architectures[0]]
    return Metric(
        protocol=protocol,
        accuracy=best["mean"],
        std=best["std"],
        n=config.networks,
        images=len(problem.test[1]),
        seconds=time.perf_counter() - begun,
        confusion=confusion,
        detail={
            "description": description,
            "settings": {**dataclasses.asdict(config), **(settings or {})},
            "spread": "standard deviation over networks, n - 1",
            "parameters": best["parameters"],
            "architectures": table,
            "warnings": [f"{name}: {w}" for name in table for w in table[name].get("warnings", ())],
        },
    )


def network_key(seed: int, architecture: str, index: int) -> Array:
    """Key of one network: its initial weights, batches and augmentations."""
    return step_key(named_key(seed, f"protocol {architecture}"), index)
