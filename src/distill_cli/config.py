"""The configuration of a run: composed by Hydra, parsed here into frozen dataclasses.

YAML holds choices and values, dataclasses hold types and meanings. Each component (method,
dataset, kernel, ...) brings the dataclass of its own parameters; `parse` finds it by name, so a new
method is one module and one YAML file. Nothing here imports jax; component modules are imported
only when a run is parsed, never for --help or --cfg.
"""

import dataclasses
import importlib
import importlib.util
import pkgutil
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from distill_cli.errors import UserError, choice_error, shown
from distill_cli.typed import build

# Component key -> (module pattern, attribute). {name} is the component's `name` in the YAML.
COMPONENTS: dict[str, tuple[str, str]] = {
    "method": ("distill_cli.methods.{name}", "Config"),
    "dataset": ("distill_cli.data.config", "DatasetConfig"),
    "preprocess": ("distill_cli.data.config", "PreprocessConfig"),
    "architecture": ("distill_cli.arch.{name}", "Config"),
    "kernel": ("distill_cli.kernels.{name}", "Config"),
    "init": ("distill_cli.init.{name}", "Config"),
    "sampler": ("distill_cli.train.samplers.{name}", "Config"),
}
PROTOCOL_MODULE = "distill_cli.evaluation.{name}"
LOGGER_MODULE = "distill_cli.train.loggers.{name}"


@dataclass(frozen=True)
class BatchConfig:
    """A step's target batch: `number` draws of `size` images, each draw without replacement.

    micro: images whose activations are in memory at once (None: chosen for the device).
    """

    size: int = 1280
    number: int = 4
    micro: int | None = None

    def __post_init__(self) -> None:
        at_least("batch.size", self.size, 1)
        at_least("batch.number", self.number, 1)
        if self.micro is not None:
            at_least("batch.micro", self.micro, 1)


@dataclass(frozen=True)
class ValidationConfig:
    """Choice of the best coreset, on images of the training split only.

    every: steps between validations; patience: steps after the best until the run stops;
    networks: random networks of the validation kernel, fixed through the run; per_class: images of
    each class (None: RFAD's rule, 500 for ten classes, else 100); disjoint: hold them out of
    training instead of sharing them with it as RFAD does;
    keep: the coreset with the smallest validation loss, or the last one (no choice is made, and
    patience does not count).
    """

    every: int = 40
    patience: int = 1000
    networks: int = 16
    per_class: int | None = None
    disjoint: bool = False
    keep: Literal["best", "last"] = "best"

    def __post_init__(self) -> None:
        for key in ("every", "patience", "networks"):
            at_least(f"validation.{key}", getattr(self, key), 1)
        if self.per_class is not None:
            at_least("validation.per_class", self.per_class, 1)


@dataclass(frozen=True)
class PruneConfig:
    """Images left out before anything is distilled, by their loss under the full training set.

    keep: none (all images stay), smallest or largest losses; ratio: share of each class that stays
    (at least ipc images); networks: random networks of the regression whose leave-one-out loss
    decides; lam: its ridge, relative to the kernel's trace. ratio None: one half.
    """

    keep: Literal["none", "smallest", "largest"] = "none"
    ratio: float | None = None
    networks: int = 2
    lam: float = 1e-5

    def __post_init__(self) -> None:
        if self.ratio is not None and not 0 < self.ratio <= 1:
            raise UserError(f"prune.ratio={self.ratio}: must be above 0 and at most 1")
        if self.ratio is not None and self.keep == "none":
            raise UserError(f"prune.ratio={self.ratio}: needs prune.keep=smallest or largest")
        at_least("prune.networks", self.networks, 1)
        if not self.lam > 0:
            raise UserError(f"prune.lam={self.lam}: must be above 0")


@dataclass(frozen=True)
class TuningConfig:
    """Stopping the bad trials of a sweep early, by their validation accuracy.

    prune: median stops a trial whose best score so far is below the median of the best scores that
    the other trials had by the same step (Golovin et al., KDD 2017); startup: other trials that
    must have got there; warmup: share of the steps that every trial makes.
    """

    prune: Literal["none", "median"] = "none"
    startup: int = 4
    warmup: float = 0.1

    def __post_init__(self) -> None:
        at_least("tuning.startup", self.startup, 1)
        within("tuning.warmup", self.warmup, 0, 1)


@dataclass(frozen=True)
class CheckpointConfig:
    """seconds: least time between two checkpoints; keep: how many stay on disk."""

    seconds: float = 30.0
    keep: int = 2

    def __post_init__(self) -> None:
        at_least("checkpoint.seconds", self.seconds, 0)
        at_least("checkpoint.keep", self.keep, 1)


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured at the end: protocols by name, each with its own parameters.

    limit: number of test images for the exact kernels (None: all); engine: auto, band or
    neural_tangents; memory_mb: bound on their working memory; networks, architecture, epochs: of
    every protocol that has them, in place of its own values (the first architecture gives the
    result, all of them the transfer table); baseline: also evaluate real images, as many as the
    coreset has; width,
    valid_limit: channels and validation images of networks that are trained (protocols refer to
    them, so that recipes can set them for all).
    """

    limit: int | None = None
    engine: Literal["auto", "band", "neural_tangents"] = "auto"
    memory_mb: float = 512.0
    networks: int | None = None
    architecture: tuple[str, ...] | None = None
    epochs: int | None = None
    baseline: bool = True
    width: int = 1024
    valid_limit: int | None = None
    protocols: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.limit is not None:
            at_least("evaluation.limit", self.limit, 1)
        at_least("evaluation.memory_mb", self.memory_mb, 1)
        for key in ("networks", "epochs"):
            if (value := getattr(self, key)) is not None:
                at_least(f"evaluation.{key}", value, 1)
        if self.architecture == ():
            raise UserError("evaluation.architecture=[]: name at least one, or null")


@dataclass(frozen=True)
class Config:
    """Everything that defines a run. See configs/config.yaml for what each key does."""

    ipc: int
    seed: int
    steps: int
    labels: Literal["fixed", "learned"]
    loss: Literal["platt", "mse"]
    out: str
    hardware: str
    progress: Literal["auto", "rich", "plain", "none"]
    devices: str
    batch: BatchConfig
    validation: ValidationConfig
    checkpoint: CheckpointConfig
    evaluation: EvaluationConfig
    method: Any
    dataset: Any
    preprocess: Any
    architecture: Any
    kernel: Any
    init: Any
    sampler: Any
    snapshots: tuple[int, ...] = ()
    prune: PruneConfig = field(default_factory=PruneConfig)
    tuning: TuningConfig = field(default_factory=TuningConfig)
    logger: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        at_least("ipc", self.ipc, 0 if self.init.name == "full" else 1)
        within("seed", self.seed, 0, 2**32 - 1)
        within("steps", self.steps, 0, 10**9)
        for index, step in enumerate(self.snapshots):
            at_least(f"snapshots[{index}]", step, 0)
            if step > self.steps:
                raise UserError(
                    f"snapshots[{index}]={step}: the run makes at most steps={self.steps}"
                )


def at_least(key: str, value: float, low: float) -> None:
    """Raise UserError unless value >= low."""
    if not value >= low:
        raise UserError(f"{key}={value}: must be at least {low}")


def auto_or_number(key: str, value: Any) -> str:
    """auto, or a whole number of at least 1 as text. UserError for anything else."""
    text = str(value)
    number = not isinstance(value, float) and text.isdecimal() and int(text) >= 1
    if text != "auto" and not number:
        raise UserError(f"{key}={shown(value)}: give auto or a number, at least 1")
    return text


def within(key: str, value: float, low: float, high: float) -> None:
    """Raise UserError unless low <= value <= high."""
    if not low <= value <= high:
        raise UserError(f"{key}={value}: must lie in [{low}, {high}]")


def config_dir() -> Path:
    """The folder of YAML files: inside the installed package, else the repository's configs/."""
    packaged = Path(__file__).parent / "configs"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "configs"


def parse(composed: DictConfig) -> Config:
    """Turn a composed Hydra config into a typed Config; wrong types and keys raise UserError."""
    tree = plain(composed)
    tree.pop("coreset", None)  # distill-evaluate's own section
    tree.pop("search", None)  # a group that sets other keys only
    check_combination(tree)
    for key in COMPONENTS:
        tree[key] = component(key, tree.get(key))
    tree["evaluation"] = parse_evaluation(tree.get("evaluation") or {})
    tree["logger"] = parse_loggers(tree.get("logger") or {})
    tree["devices"] = auto_or_number("devices", tree.get("devices"))
    return build(Config, tree)


def check_combination(tree: dict[str, Any]) -> None:
    """UserError for choices that the method cannot use: its module says in ALLOWS what it takes."""
    name = str((tree.get("method") or {}).get("name"))
    cls = component_class(f"distill_cli.methods.{name}", "Config", "method", name)
    allows = getattr(importlib.import_module(cls.__module__), "ALLOWS", {})
    others = {
        "sampler": [name for name in group_choices("sampler") if name != "sequential"],
        "init": [name for name in group_choices("init") if name != "full"],
    }
    allows = others | allows
    for key, allowed in allows.items():
        value = tree[key].get("name") if isinstance(tree.get(key), dict) else tree.get(key)
        choices = group_choices(key)
        if value not in allowed and (not choices or value in choices):
            wanted = " or ".join(map(str, allowed))
            raise UserError(f"{key}={value}: method={name} needs {key}={wanted}")


def parse_evaluation(tree: dict[str, Any]) -> EvaluationConfig:
    """Split the evaluation section into common settings and protocols with their dataclasses."""
    common = {f.name for f in dataclasses.fields(EvaluationConfig)} - {"protocols"}
    protocols = {}
    for name in tree.keys() - common:
        cls = component_class(PROTOCOL_MODULE.format(name=name), "Config", "evaluation", name)
        protocols[name] = build(cls, tree[name] or {}, f"evaluation.{name}.")
    order = [name for name in tree if name in protocols]
    given = {key: tree[key] for key in common & tree.keys()}
    settings = build(EvaluationConfig, given, "evaluation.")
    if settings.architecture is not None and not any(map(trains_networks, protocols.values())):
        raise UserError(
            f"evaluation.architecture={','.join(settings.architecture)}: no protocol of "
            f"evaluation=[{','.join(order)}] trains networks by name"
        )
    ordered = {name: with_common(protocols[name], settings) for name in order}
    return dataclasses.replace(settings, protocols=ordered)


def trains_networks(protocol: Any) -> bool:
    """Whether a protocol's networks can be chosen."""
    return any(f.name == "architectures" for f in dataclasses.fields(protocol))


def with_common(protocol: Any, settings: EvaluationConfig) -> Any:
    """A protocol's settings with evaluation.networks, .architecture and .epochs where it has such
    a field and they are given."""
    given = {"architectures": settings.architecture}
    given |= {key: getattr(settings, key) for key in ("networks", "epochs")}
    fields = {f.name for f in dataclasses.fields(protocol)}
    changes = {k: v for k, v in given.items() if k in fields and v is not None}
    return dataclasses.replace(protocol, **changes)


def parse_loggers(tree: dict[str, Any]) -> dict[str, Any]:
    """Loggers by name with their dataclasses; UserError where a package is missing."""
    found = {}
    for name in tree:
        cls = component_class(LOGGER_MODULE.format(name=name), "Config", "logger", name)
        found[name] = build(cls, tree[name] or {}, f"logger.{name}.")
    return found


def component(key: str, tree: Any) -> Any:
    """The typed parameters of one component, from its section of the tree."""
    pattern, attribute = COMPONENTS[key]
    if not isinstance(tree, dict) or "name" not in tree:
        raise UserError(f"{key}: missing; choose one of {', '.join(group_choices(key))}")
    cls = component_class(pattern.format(name=tree["name"]), attribute, key, tree["name"])
    # Recipes may say "null" about a key that only some choices of a group have.
    names = {f.name for f in dataclasses.fields(cls)}
    tree = {name: value for name, value in tree.items() if value is not None or name in names}
    return build(cls, tree, f"{key}.")


def component_class(module: str, attribute: str, key: str, name: str) -> type:
    """Import the dataclass that types a component; an unknown name lists the known ones."""
    package, _, leaf = module.rpartition(".")
    modules = {m.name for m in pkgutil.iter_modules(importlib.import_module(package).__path__)}
    found = getattr(importlib.import_module(module), attribute, None) if leaf in modules else None
    if found is None:
        raise choice_error(key, name, group_choices(key))
    return found


def group_choices(group: str) -> list[str]:
    """Names of the YAML files of a group."""
    return sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))


def plain(composed: DictConfig) -> dict[str, Any]:
    """Resolved nested dicts without the hydra section."""
    without = {key: composed._get_node(key) for key in composed if key != "hydra"}
    tree = OmegaConf.to_container(OmegaConf.create(without), resolve=True, throw_on_missing=True)
    return typing.cast(dict[str, Any], tree)
