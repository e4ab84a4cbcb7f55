"""Named studies: YAML files that list cells, and the summary of what they gave. Imports no jax."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from distill_cli.config import config_dir
from distill_cli.core.stats import mean_std
from distill_cli.errors import UserError, choice_error
from distill_cli.theory.config import CellConfig
from distill_cli.typed import build

LISTS = ("seed", "measure")  # keys whose values are lists in themselves
# What tells the cells of a study apart; the rest of a summary are metrics.
KEYS = (
    "d", "r", "link", "L", "n", "variant", "m1", "m2", "control", "bias", "row_norm", "start",
    "label_start", "pairs", "precision_d1", "precision_labels", "lam2", "readout_steps", "subset",
)  # fmt: skip
Cell = dict[str, Any]


@dataclass(frozen=True)
class Study:
    """A study as its file says. x, group: the columns of its curves; section: of the reference
    whose figures `expected` holds; alignment: keep where each distilled point lies."""

    title: str
    section: str
    base: dict[str, Any]
    cells: tuple[dict[str, Any], ...]
    expected: tuple[dict[str, Any], ...] = ()
    x: str = ""
    group: str = ""
    alignment: bool = False


def names() -> list[str]:
    """Studies there are, in the order in which study=all runs them."""
    found = sorted(path.stem for path in (config_dir() / "theory").glob("*.yaml"))
    first = ("m1_d", "m1_r", "m2", "new_init", "samples", "controls", "precision")
    return sorted(found, key=lambda name: first.index(name) if name in first else len(first))


def load(name: str) -> Study:
    """Read configs/theory/<name>.yaml."""
    if name not in names():
        raise choice_error("study", name, [*names(), "all"])
    tree = OmegaConf.to_container(OmegaConf.load(config_dir() / "theory" / f"{name}.yaml"))
    if not isinstance(tree, dict):
        raise UserError(f"study={name}: its file must hold keys and values")
    return build(Study, {str(key): value for key, value in tree.items()}, f"study {name}: ")


def expand(study: Study, slow: bool, seeds: Any = None) -> list[CellConfig]:
    """Its cells: the product of each entry's lists over the base; m2_per_L and n_per_d2 give m2
    and n. Cells marked slow only where asked for. seeds: other ones than its file names."""
    found: dict[CellConfig, None] = {}
    own = {} if seeds is None else {"seed": seeds}
    for entry in study.cells:
        given = study.base | entry | own
        if given.pop("slow", False) and not slow:
            continue
        lists = {k: v if isinstance(v, list) and k not in LISTS else [v] for k, v in given.items()}
        for values in itertools.product(*lists.values()):
            found[cell(dict(zip(lists, values, strict=True)))] = None
    # Cells of one task follow each other, so that its real gradients are computed once.
    return sorted(found, key=lambda c: (c.d, c.r, c.link, c.n, c.L))


def cell(tree: Mapping[str, Any]) -> CellConfig:
    """A typed cell from keys and values; a seed may be one number."""
    given = dict(tree)
    if isinstance(given.get("seed"), int):
        given["seed"] = [given["seed"]]
    share, per_d2 = given.pop("m2_per_L", None), given.pop("n_per_d2", None)
    if share is not None:
        given["m2"] = max(1, round(share * given.get("L", CellConfig.L)))
    if per_d2 is not None:
        given["n"] = max(1, round(per_d2 * given.get("d", CellConfig.d) ** 2))
    return build(CellConfig, given)


def command(config: CellConfig) -> str:
    """The command that runs a cell: the keys that differ from the defaults."""
    default, parts = CellConfig(), []
    for field in dataclasses.fields(CellConfig):
        value = getattr(config, field.name)
        if value != getattr(default, field.name):
            text = f"[{','.join(map(str, value))}]" if isinstance(value, tuple) else value
            part = f"{field.name}={text}"
            parts.append(f'"{part}"' if isinstance(value, tuple) else part)
    return " ".join(["distill-theory", *parts])


def summary(config: CellConfig, rows: Sequence[Mapping[str, Any]]) -> Cell:
    """One cell of a study: its keys and, per metric, mean, spread (n - 1) and values over seeds."""
    keys = {key: getattr(config, key) for key in KEYS}
    keys |= {
        "m2": config.labels if "d2" in config.measure else None,
        "subset": config.subset,
        "m2_per_L": config.labels / config.L if "d2" in config.measure else None,
        "n_per_d2": config.n / config.d**2,
    }
    names_ = [name for name in rows[0] if name not in (*KEYS, "seed", "seconds")]
    metrics = {name: spread([row[name] for row in rows]) for name in names_}
    return keys | {"metrics": metrics, "seeds": list(config.seed), "command": command(config)}


def spread(values: Iterable[float]) -> dict[str, Any]:
    """Mean, standard deviation (n - 1; null for one value), n and the values."""
    found = [float(v) for v in values]
    return {**mean_std(found)._asdict(), "values": found}


def mean(cell: Mapping[str, Any], metric: str) -> float | None:
    """Mean of a metric of a summary; None where it was not measured."""
    return cell["metrics"].get(metric, {}).get("mean")


def select(cells: Iterable[Cell], **at: Any) -> list[Cell]:
    """Cells whose keys have these values; numbers are compared with a little room."""
    return [cell for cell in cells if all(same(cell.get(k), v) for k, v in at.items())]


def same(a: Any, b: Any) -> bool:
    """Equal, for numbers up to 2 % (a share of L is rounded to whole labels)."""
    if isinstance(a, int | float) and isinstance(b, int | float):
        return abs(a - b) <= 0.02 * abs(b)
    return a == b
