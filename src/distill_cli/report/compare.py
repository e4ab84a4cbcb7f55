"""Runs side by side: measurements, variants (configurations apart from seeds), mean and spread."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, NamedTuple

from distill_cli.core.stats import mean_std
from distill_cli.naming import DATASET_NOT_IN_DIGEST, NOT_IN_DIGEST
from distill_cli.report import words
from distill_cli.report.collect import Run
from distill_cli.report.json_values import section
from distill_cli.report.published import Published, published_for
from distill_cli.report.run_result import Evaluation

DIFFERENCES = 3  # settings that are named where more tells two variants apart


class Cell(NamedTuple):
    """What is compared with one another: one data set, size and protocol."""

    dataset: str
    ipc: int | None
    protocol: str

    def title(self) -> str:
        size = "" if self.ipc is None else f", {words.plural(self.ipc, 'image')} per class"
        return f"{words.dataset_title(self.dataset)}{size}, {self.protocol}"

    def slug(self) -> str:
        return words.slug(f"{self.dataset}_ipc{self.ipc}_{self.protocol}")


class Measurement(NamedTuple):
    """One evaluation of one run. run: its number in the list of runs; variant: likewise."""

    run: int
    variant: int
    cell: Cell
    row: Evaluation
    known: Published | None

    @property
    def accuracy(self) -> float:
        assert self.row.accuracy is not None  # collect takes no other
        return self.row.accuracy


class Summary(NamedTuple):
    """A variant in a cell: accuracies of its runs, mean, std (n - 1; None for one run)."""

    variant: int
    measurements: tuple[Measurement, ...]
    mean: float
    std: float | None
    random: float | None
    known: Published | None

    @property
    def n(self) -> int:
        return len(self.measurements)


def variants(runs: Sequence[Run]) -> tuple[list[int], list[str]]:
    """(each run's variant, the variants' names): runs that differ in their seed alone are one.

    A name is method, then what differs between the runs of one data set and size: labels, initial
    images, sampler; then up to DIFFERENCES further settings where that does not tell two apart.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, run in enumerate(runs):
        groups.setdefault((words.data_of(run.result), run.result.ipc), []).append(i)
    each, names = [0] * len(runs), list[str]()
    for group in groups.values():
        settings = [settings_of(runs[i]) for i in group]
        unique = [s for k, s in enumerate(settings) if s not in settings[:k]]
        for i, own in zip(group, settings, strict=True):
            each[i] = len(names) + unique.index(own)
        names += names_of([runs[group[settings.index(s)]] for s in unique], unique)
    return each, names


def names_of(runs: Sequence[Run], settings: list[dict[str, str]]) -> list[str]:
    """Names that tell runs apart, one of each variant of a data set and size."""
    told = [told_of(run) for run in runs]
    varied = [len(set(column)) > 1 for column in zip(*told, strict=True)]
    names = [
        ", ".join(
            [
                words.run_maker(run.result),
                *(p for p, v in zip(parts, varied, strict=True) if v and p),
            ]
        )
        for run, parts in zip(runs, told, strict=True)
    ]
    return [
        name + told_apart(k, [j for j, other in enumerate(names) if other == name], settings)
        for k, name in enumerate(names)
    ]


def told_of(run: Run) -> tuple[str, ...]:
    """Labels, initial images, sampler, and the file where a coreset file was measured."""
    result = run.result
    sampler = result.option("sampler", "name")
    return (
        f"{result.labels} labels" if result.labels else "",
        f"init {result.init}" if result.init else "",
        f"{sampler} batches" if sampler else "",
        "" if result.digest else f"file {PurePath(result.coreset.path).name}",
    )


def settings_of(run: Run) -> dict[str, str]:
    """Everything that decides the coreset except data set, size and seed, flattened."""
    left, result = (*NOT_IN_DIGEST, "seed", "ipc"), run.result
    config = {k: v for k, v in result.config.items() if k not in left}
    data = section(config, "dataset")
    config["dataset"] = {k: v for k, v in data.items() if k not in DATASET_NOT_IN_DIGEST}
    plain = {"method": result.method, "labels": result.labels, "init": result.init}
    flat = dict(words.flatten(config)) | plain
    if not result.digest:  # an evaluation of a file, which is what it is
        flat["coreset"] = result.coreset.sha256
    return flat


def told_apart(own: int, alike: list[int], settings: list[dict[str, str]]) -> str:
    """ " (width 64, ridge 0.005)": settings in which variants of one name differ."""
    if len(alike) == 1:
        return ""
    keys = sorted({key for k in alike for key in settings[k]})
    differ = [k for k in keys if len({settings[i].get(k) for i in alike}) > 1 and k != "coreset"]
    shown = [f"{key} {settings[own].get(key, words.NONE)}" for key in differ[:DIFFERENCES]]
    return f" ({', '.join(shown) or f'no. {alike.index(own) + 1}'})"


def measurements(runs: Sequence[Run], each: Sequence[int]) -> list[Measurement]:
    """Every evaluation of every run; of one coreset file, which may lie in several places, each
    measurement once."""
    found, seen = [], set()
    for i, run in enumerate(runs):
        for row in run.result.evaluations:
            if not run.result.digest:
                key = run.result.coreset.sha256, row.what
                if key in seen:
                    continue
                seen.add(key)
            cell = Cell(words.data_of(run.result), run.result.ipc, str(row.protocol))
            found.append(Measurement(i, each[i], cell, row, published_for(run.result, row)))
    return found


def summaries(found: Iterable[Measurement]) -> dict[Cell, list[Summary]]:
    """By cell, the variants from the best mean accuracy down."""
    groups: dict[Cell, dict[int, list[Measurement]]] = {}
    for m in found:
        groups.setdefault(m.cell, {}).setdefault(m.variant, []).append(m)
    return {
        cell: sorted((summary(v, ms) for v, ms in groups[cell].items()), key=lambda s: -s.mean)
        for cell in sorted(groups, key=lambda c: (c.dataset, c.ipc or 0, c.protocol))
    }


def summary(variant: int, found: Sequence[Measurement]) -> Summary:
    """Mean and spread over the runs of one variant."""
    mean, std, _ = mean_std(m.accuracy for m in found)
    random = [a for m in found if (a := m.row.real.accuracy) is not None]
    known = next((m.known for m in found if m.known), None)
    real = mean_std(random).mean if random else None
    return Summary(variant, tuple(found), mean, std, real, known)


@dataclass(frozen=True)
class Comparison:
    """Runs with everything that compares them. each: the variant of each run; names of variants;
    colours: a number for each variant, the same for the same name; found: all measurements; cells:
    `summaries` of them."""

    runs: tuple[Run, ...]
    each: list[int]
    names: list[str]
    colours: list[int]
    found: list[Measurement]
    cells: dict[Cell, list[Summary]]

    def title(self, run: int) -> str:
        """ "RFAD on MNIST, 1 image per class, seed 0"."""
        result = self.runs[run].result
        seed = "" if result.seed is None else f", seed {result.seed}"
        own, maker = self.names[self.each[run]], words.run_maker(result)
        return f"{words.run_title(result)}{own.removeprefix(maker)}{seed}"


def compare(runs: Sequence[Run]) -> Comparison:
    """Variants, measurements and summaries of runs."""
    each, names = variants(runs)
    found = measurements(runs, each)
    distinct = list(dict.fromkeys(names))
    colours = [distinct.index(name) for name in names]
    return Comparison(tuple(runs), each, names, colours, found, summaries(found))
