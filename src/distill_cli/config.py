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
from distill_cli.sections import (
    GROWING,
    BatchConfig,
    CheckpointConfig,
    EvaluationConfig,
    GrowthConfig,
    PruneConfig,
    TuningConfig,
    ValidationConfig,
    at_least,
    auto_or_number,
    within,
)
from distill_cli.typed import build, out_folder

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
NO_STEPS = ("random",)  # methods that make none, whatever is asked for
PROTOCOL_MODULE = "distill_cli.evaluation.{name}"
LOGGER_MODULE = "distill_cli.train.loggers.{name}"


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
    schedule: Literal["constant", "cosine", "warmup_cosine"] = "constant"
    schedule_warmup: float = 0.05
    schedule_final: float = 0.01
    average: Literal["none", "ema"] = "none"
    average_decay: float = 0.99
    growth: GrowthConfig = field(default_factory=GrowthConfig)
    snapshots: tuple[int, ...] = ()
    prune: PruneConfig = field(default_factory=PruneConfig)
    tuning: TuningConfig = field(default_factory=TuningConfig)
    logger: dict[str, Any] = field(default_factory=dict)
    rerun: Literal["never", "changed", "always"] | None = None

    def __post_init__(self) -> None:
        at_least("ipc", self.ipc, 0 if self.init.name == "full" else 1)
        within("seed", self.seed, 0, 2**32 - 1)
        within("steps", self.steps, 0, 10**9)
        out_folder(self.out)
        check_course(self)
        check_held_out(self)
        for index, step in enumerate(self.snapshots):
            at_least(f"snapshots[{index}]", step, 0)
            if step > self.steps:
                raise UserError(
                    f"snapshots[{index}]={step}: the run makes at most steps={self.steps}"
                )


def check_course(config: Config) -> None:
    """UserError for a schedule, an average or a growth that the run cannot have."""
    within("schedule_warmup", config.schedule_warmup, 0, 1)
    within("schedule_final", config.schedule_final, 0, 1)
    if not 0 < config.average_decay < 1:
        raise UserError(f"average_decay={config.average_decay}: must be above 0 and below 1")
    growth, method = config.growth, config.method
    growth.starts(config.steps)
    grows = getattr(importlib.import_module(type(method).__module__), "GROWS", ("batch",))
    for key in GROWING:
        if (values := getattr(growth, key)) and key not in grows:
            allowed = " or ".join(f"growth.{name}" for name in grows) or "no growth"
            raise UserError(f"growth.{key}={shown(values)}: method={method.name} takes {allowed}")


def check_held_out(config: Config) -> None:
    """UserError where a protocol measures on validation images that were trained on."""
    for name, protocol in config.evaluation.protocols.items():
        module = importlib.import_module(type(protocol).__module__)
        held_out = getattr(module, "SPLIT", "test") == "validation"
        if held_out and not config.validation.disjoint:
            raise UserError(
                f"evaluation={name}: measures on validation images, which take part in distilling; "
                "add validation.disjoint=true"
            )


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
    if tree["method"].name in NO_STEPS:
        tree["steps"] = 0
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
