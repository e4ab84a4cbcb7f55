"""Reading a run's result files, and writing files whole or not at all.

Everything here tolerates gaps: a key that is missing, a value that is null or NaN, a log line cut
short by a kill. A report of an unfinished or failed run is still a report.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill_cli.core import files
from distill_cli.errors import UserError
from distill_cli.report.class_results import class_damage


def read_result(folder: str | Path) -> dict[str, Any]:
    """result.json of a run folder. UserError where it is absent or not a JSON object."""
    path = Path(folder) / "result.json"
    if not path.is_file():
        raise UserError(f"{path}: not found; a run writes it when it ends, give a run's own folder")
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(result, dict):
        raise UserError(f"{path}: holds a {type(result).__name__}, expected an object")
    return result


def of_another_task(result: object) -> bool:
    """Whether a result is one of distill-theory or distill-apply: ours, but no distilled set's."""
    command = result.get("command") if isinstance(result, dict) else None
    return str(command).startswith(("distill-theory ", "distill-apply "))


def read_metrics(folder: str | Path) -> list[dict[str, float]]:
    """Lines of metrics.jsonl merged by step, in the order of steps; numbers only.

    A resumed run may log a step twice (the later line wins), and a killed one may end in
    half a line.
    """
    path = Path(folder) / "metrics.jsonl"
    steps: dict[float, dict[str, float]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        step = number(entry.get("step")) if isinstance(entry, dict) else None
        if step is not None:
            values = {key: number(value) for key, value in entry.items()}
            steps.setdefault(step, {}).update({k: v for k, v in values.items() if v is not None})
    return [steps[step] for step in sorted(steps)]


def evaluations(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The evaluations of a result that are objects; an empty list where there are none."""
    found = result.get("evaluations")
    return [e for e in found if isinstance(e, dict)] if isinstance(found, list) else []


RANGES = {
    "accuracy": (0, 1), "balanced_accuracy": (0, 1), "ece": (0, 1), "std": (0, math.inf),
    "nll": (0, math.inf), "images": (1, math.inf), "n": (1, math.inf),
}  # fmt: skip


def damage(evaluation: Mapping[str, Any]) -> str | None:
    """What in an evaluation cannot have been measured, in words; None where nothing is wrong."""
    protocol = evaluation.get("protocol")
    if number(evaluation.get("accuracy")) is None:
        return f"accuracy of {protocol} is {evaluation.get('accuracy')}, not in [0, 1]"
    parts = {"": evaluation, "baseline_random.": baseline(evaluation)}
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


def measured_what(evaluation: Mapping[str, Any]) -> tuple[Any, ...]:
    """Protocol, settings and conditions: equal for two measurements that repeat one another."""
    settings = json.dumps(evaluation.get("settings"), sort_keys=True, default=str)
    return evaluation.get("protocol"), settings, evaluation.get("conditions")


def baseline(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """baseline_random of an evaluation: the same protocol on the real images of the start."""
    found = evaluation.get("baseline_random")
    return found if isinstance(found, dict) else {}


def other_baselines(evaluation: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Further baselines of an evaluation by name: its keys baseline_herding and the like."""
    found = {
        k.removeprefix("baseline_"): v for k, v in evaluation.items() if k.startswith("baseline_")
    }
    return {k: v for k, v in found.items() if k != "random" and isinstance(v, dict)}


def reliability(evaluation: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """(mean confidence, accuracy) of the confidence bins that hold images; [] where not recorded.

    They stand in detail.calibration.bins of exact kernel regression (evaluation/krr.py).
    """
    bins = section(section(evaluation, "detail"), "calibration").get("bins")
    found = [b for b in bins if isinstance(b, dict)] if isinstance(bins, list) else []
    pairs = [(number(b.get("confidence")), number(b.get("accuracy"))) for b in found]
    full = [(x, y) for x, y in pairs if x is not None and y is not None]
    return [x for x, _ in full], [y for _, y in full]


def section(result: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A nested object of the result, or an empty one."""
    found = result.get(key)
    return found if isinstance(found, dict) else {}


def number(value: object) -> float | None:
    """A finite number as float, else None: booleans, text, NaN and infinities are no numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def class_names(result: Mapping[str, Any]) -> list[str]:
    """Names of the classes, where the result carries them."""
    names = result.get("class_names")
    return [str(name) for name in names] if isinstance(names, list | tuple) else []


def gain(evaluation: Mapping[str, Any]) -> float | None:
    """Accuracy of the coreset minus that of the initial real images."""
    after, before = number(evaluation.get("accuracy")), number(baseline(evaluation).get("accuracy"))
    return None if after is None or before is None else after - before


def clear_gain(evaluation: Mapping[str, Any]) -> bool:
    """Whether the gain is at least twice its standard error, or the error is not known.

    Of each accuracy: that of drawing its test images, and where several networks were trained that
    of their mean. The two were measured on the same images, which makes the true error smaller.
    """
    change = gain(evaluation)
    both = (evaluation, {"images": evaluation.get("images"), **baseline(evaluation)})
    errors = [error for one in both if (error := accuracy_error(one)) is not None]
    return change is None or len(errors) < 2 or abs(change) >= 2 * math.hypot(*errors)


def accuracy_error(evaluation: Mapping[str, Any]) -> float | None:
    """Standard error of an accuracy over test images and, where it is a mean, over networks."""
    drawn, std, n = (
        sampling_error(evaluation), number(evaluation.get("std")), number(evaluation.get("n")),
    )  # fmt: skip
    return None if drawn is None else math.hypot(drawn, std / math.sqrt(n) if std and n else 0.0)


def sampling_error(evaluation: Mapping[str, Any]) -> float | None:
    """Standard error of one accuracy from the number of test images: sqrt(p (1 - p) / n)."""
    p, n = number(evaluation.get("accuracy")), number(evaluation.get("images"))
    return math.sqrt(p * (1 - p) / n) if p is not None and n and 0 <= p <= 1 else None


def shows_balanced(result: Mapping[str, Any]) -> bool:
    """Whether balanced accuracy says something else than accuracy in some evaluation: the two, of
    the coreset or of the random real images, differ by more than one standard error of accuracy
    (`sampling_error`). With equally many test images of every class they are the same number."""
    for e in evaluations(result):
        for part in (e, {"images": e.get("images"), **baseline(e)}):
            plain, balanced = number(part.get("accuracy")), number(part.get("balanced_accuracy"))
            error = sampling_error(part)
            if plain is None or balanced is None or error is None:
                continue
            if abs(plain - balanced) > error:
                return True
    return False


def write_bytes(path: str | Path, data: bytes) -> Path:
    """core.files.write_bytes, returning the path."""
    files.write_bytes(Path(path), data)
    return Path(path)


def write_text(path: str | Path, text: str) -> Path:
    """write_bytes of UTF-8 text with newlines as they are."""
    return write_bytes(path, text.encode("utf-8"))


def seen_in_training(result: Mapping[str, Any]) -> bool:
    """Whether the images of the validation score were distilled from as well."""
    return section(result, "validation").get("disjoint") is False and bool(result.get("steps"))


def kept_step(result: Mapping[str, Any]) -> str:
    """Which coreset the run kept: "best" (on validation images) or "last"."""
    keep = section(section(result, "config"), "validation").get("keep", "best")
    return "last" if keep == "last" else "best"
