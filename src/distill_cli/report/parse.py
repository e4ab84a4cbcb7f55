"""The one place that looks into the JSON of result.json and evaluation.json.

It tolerates gaps, because a report of an unfinished or damaged run is still a report.
report/damage.py says what is wrong with a file.
"""

import json
from collections.abc import Mapping
from typing import Any

from distill_cli.report.json_values import number, numbers, section, text, whole
from distill_cli.report.run_result import (
    Evaluation,
    Measured,
    RunResult,
    StoredCoreset,
    Validation,
)


def parse_result(raw: Mapping[str, Any]) -> RunResult:
    """The JSON object of result.json or evaluation.json."""
    validation, coreset = section(raw, "validation"), section(raw, "coreset")
    names, rows = raw.get("class_names"), raw.get("evaluations")
    words = ("method", "dataset", "labels", "loss", "init", "stop_reason", "digest", "version",
             "command")  # fmt: skip
    plain: dict[str, Any] = {key: text(raw.get(key)) for key in words}
    plain |= {key: whole(raw.get(key)) for key in ("ipc", "seed", "steps", "best_step")}
    return RunResult(
        **plain,
        per_class=_counts(raw.get("per_class")),
        device=_device(raw.get("device")),
        class_names=tuple(map(str, names)) if isinstance(names, list | tuple) else (),
        evaluations=tuple(
            parse_evaluation(row)
            for row in (rows if isinstance(rows, list) else [])
            if isinstance(row, dict)
        ),
        validation=Validation(
            number(validation.get("accuracy")), number(validation.get("loss")),
            whole(validation.get("images")), validation.get("disjoint"),
        ),
        coreset=StoredCoreset(
            text(coreset.get("path")), text(coreset.get("sha256")),
            whole(coreset.get("stored_floats")),
        ),
        training=section(raw, "training"),
        seconds=numbers(section(raw, "seconds")),
        peak_memory_mb=numbers(section(raw, "peak_memory_mb")),
        cpu_seconds=number(raw.get("cpu_seconds")),
        config=section(raw, "config"),
        environment=section(raw, "environment"),
    )  # fmt: skip


def parse_evaluation(row: Mapping[str, Any]) -> Evaluation:
    """One object of `evaluations`."""
    images = whole(row.get("images"))
    real = {
        key.removeprefix("baseline_"): Measured(**_measured(value, images))
        for key, value in row.items()
        if key.startswith("baseline_") and isinstance(value, dict)
    }
    protocol = row.get("protocol")
    return Evaluation(
        **_measured(row, images),
        protocol=None if protocol is None else str(protocol),
        split=text(row.get("split")) or "test",
        nll=number(row.get("nll")),
        ece=number(row.get("ece")),
        seconds=number(row.get("seconds")),
        real=real.pop("random", Measured(images=images)),
        other_real=real,
        detail=section(row, "detail"),
        what=measured_what(row),
    )


def measured_what(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Protocol, settings and conditions of an evaluation as JSON has it."""
    settings = json.dumps(row.get("settings"), sort_keys=True, default=str)
    return row.get("protocol"), settings, row.get("conditions")


def _measured(part: Mapping[str, Any], images: int | None) -> dict[str, Any]:
    return {
        "accuracy": number(part.get("accuracy")),
        "std": number(part.get("std")),
        "n": whole(part.get("n")),
        "balanced_accuracy": number(part.get("balanced_accuracy")),
        "images": images,
        "by_class": {key: part.get(key) for key in ("per_class", "confusion", "accuracy", "n",
                                                    "balanced_accuracy")},
    }  # fmt: skip


def _counts(found: object) -> tuple[int, ...]:
    whole_ = isinstance(found, list) and all(isinstance(one, int) for one in found)
    return tuple(found) if whole_ else ()  # pyright: ignore[reportArgumentType]


def _device(found: object) -> str:
    if isinstance(found, Mapping):
        return ", ".join(f"{key} {text(value)}" for key, value in found.items())
    return text(found)
