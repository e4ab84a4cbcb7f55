"""What in result.json cannot have been measured: checked before anything of it is shown."""

import math
from collections.abc import Mapping
from typing import Any

from distill_cli.report.class_results import class_damage
from distill_cli.report.json_values import number, section

RANGES = {
    "accuracy": (0, 1), "balanced_accuracy": (0, 1), "ece": (0, 1), "std": (0, math.inf),
    "nll": (0, math.inf), "images": (1, math.inf), "n": (1, math.inf),
}  # fmt: skip


def damage(evaluation: Mapping[str, Any]) -> str | None:
    """What in an evaluation cannot have been measured, in words; None where nothing is wrong."""
    protocol = evaluation.get("protocol")
    if number(evaluation.get("accuracy")) is None:
        return f"accuracy of {protocol} is {evaluation.get('accuracy')}, not in [0, 1]"
    parts = {"": evaluation, "baseline_random.": section(evaluation, "baseline_random")}
    for prefix, part in parts.items():
        for key, (low, high) in RANGES.items():
            value = number(part.get(key))
            if part.get(key) is not None and (value is None or not low <= value <= high):
                within = f"in [{low}, {high}]" if high < math.inf else f"at least {low}"
                return f"{prefix}{key} of {protocol} is {part[key]}, not {within}"
        if found := class_damage(part, evaluation.get("images")):
            return f"{prefix}{found[0]} of {protocol} {found[1]}"
    return None


def run_damage(result: Mapping[str, Any]) -> str | None:
    """What of the run itself, besides its evaluations, cannot be; None where nothing is wrong."""
    steps, best = (number(result.get(key)) for key in ("steps", "best_step"))
    if steps is None or steps < 0:
        return f"steps is {result.get('steps')}, not at least 0"
    if best is None or not 0 <= best <= steps:
        return f"best_step is {result.get('best_step')}, not in [0, {steps:g}]"
    accuracy = section(result, "validation").get("accuracy")
    score = number(accuracy)
    if accuracy is not None and (score is None or not 0 <= score <= 1):
        return f"validation.accuracy is {accuracy}, not in [0, 1]"
    return None


def rows_of(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The evaluations that are objects; an empty list where there are none."""
    found = result.get("evaluations")
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def of_another_task(result: object) -> bool:
    """Whether a result is one of distill-theory or distill-apply: ours, but no distilled set's."""
    command = result.get("command") if isinstance(result, dict) else None
    return str(command).startswith(("distill-theory ", "distill-apply "))
