"""Names in words and numbers in one format, shared by every report.

A value that is missing, null or NaN shows as a dash.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from distill_cli.errors import first_of
from distill_cli.report.json_values import number
from distill_cli.report.run_result import Evaluation, RunResult

NONE = "\u2013"  # en dash
MINUS = "\u2212"

_DATASETS = {
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "svhn": "SVHN",
    "celeba": "CelebA",
    "digits": "8 x 8 digits",
    "kmnist": "Kuzushiji-MNIST",
    "split_mnist": "split MNIST",
    "tiny_imagenet": "Tiny ImageNet",
    "tiny_imagenet10": "Tiny ImageNet, 10 classes",
}
_DATASET_ALIASES = {"svhn_cropped": "svhn", "fashion": "fashion_mnist", "celeb_a": "celeba"}
_METHODS = {
    "rfad": "RFAD",
    "random": "No distillation",
    "full": "The whole training set",
    "kip": "KIP",
    "frepo": "FRePo",
    "dc": "DC",
    "dsa": "DSA",
    "dm": "DM",
    "label_solve": "Label Solve",
}
_PROTOCOLS = {
    "krr_nngp": "Kernel regression, exact NNGP",
    "krr_ntk": "Kernel regression, exact NTK",
    "held_out": "On held-out training images (no test images)",
    "network": "Network of finite width",
    "frepo": "FRePo's protocol: networks trained on the coreset",
    "dc": "DC's protocol: networks trained without augmentation",
    "dsa": "DSA's protocol: networks trained with siamese augmentation",
    "kip_finite": "KIP's protocol: one wide network trained on the coreset",
}


def dataset_key(dataset: object) -> str:
    """A data set's name in one spelling: lower case, underscores, aliases resolved."""
    key = str(dataset or "").lower().replace("-", "_")
    return _DATASET_ALIASES.get(key, key)


def data_of(result: RunResult) -> str:
    """A result's data set in one spelling, with what was done to its training images:
    "digits (label_noise)"."""
    key = dataset_key(result.dataset)
    return f"{key} ({result.corruption})" if result.corruption else key


def dataset_title(dataset: object) -> str:
    """A data set in words; what stands in brackets behind it stays."""
    name, bracket, rest = str(dataset or "unknown data").partition(" (")
    return _DATASETS.get(dataset_key(name), name) + bracket + rest.replace("_", " ")


def coreset_title(result: RunResult) -> str:
    """What a run's coreset is."""
    return "Real images" if result.method in ("random", "full") else "Distilled coreset"


def method_title(method: object) -> str:
    return _METHODS.get(str(method), str(method or "unknown method"))


def protocol_key(protocol: object) -> str:
    """A protocol in one spelling: every training of a finite network counts as "network"."""
    key = str(protocol or "").lower()
    return "network" if key.startswith(("network", "finite", "net_")) else key


def protocol_title(protocol: object) -> str:
    """A protocol in words; the plain name where it has none."""
    key = str(protocol or "unknown")
    return _PROTOCOLS.get(key, _PROTOCOLS["network"] if protocol_key(key) == "network" else key)


def run_title(result: RunResult) -> str:
    """ "RFAD on CIFAR-10, 1 image per class"; no number where it is all images; a coreset file of
    unknown origin goes by its name."""
    counts = result.per_class
    size = f", {plural(result.ipc, 'image')} per class" if result.ipc else ""
    if counts:
        images = plural(sum(counts), "image")
        size = f", {images}, {min(counts)} to {max(counts)} per class"
    return f"{run_maker(result)} on {dataset_title(data_of(result))}{size}"


def run_maker(result: RunResult) -> str:
    """The method, or "Coreset <file name>" where it is not known."""
    if not result.method and result.coreset.path:
        return f"Coreset {PurePath(result.coreset.path).name}"
    return method_title(result.method)


def percent(value: object, spread: object = None, digits: int = 2) -> str:
    """0.7312 -> "73.12 %"; with a spread "73.12 ± 0.10 %"; a dash where it is no number."""
    accuracy, width = number(value), number(spread)
    if accuracy is None:
        return NONE
    tail = "" if width is None else f" ± {100 * width:.{digits}f}"
    return f"{100 * accuracy:.{digits}f}{tail} %"


def points(gain: float | None, clear: bool = True) -> str:
    """A difference of two accuracies in percentage points, with its sign; in brackets where it is
    not clear of its error (Evaluation.clear_gain)."""
    text = NONE if gain is None else f"{100 * gain:+.2f}".replace("-", MINUS)
    return text if clear or gain is None else f"({text})"


UNCLEAR = "gain in brackets: less than twice its standard error"


def balanced_note(evaluation: Evaluation | None) -> str:
    """What balanced accuracy is, with the smallest and the largest class of the images that were
    measured on."""
    seen = evaluation and evaluation.classes
    counts = [] if seen is None else seen.images[seen.tested].tolist()
    sizes = f", which have {min(counts):,} to {max(counts):,} images" if counts else ""
    return f"balanced: mean over the classes{sizes}"


def untested_note(evaluation: Evaluation) -> str | None:
    """Which classes have no images among those that were measured on, so that accuracy says nothing
    of them; None where all have some."""
    seen = evaluation.classes
    if seen is None or seen.images.all():
        return None
    names = [name for name, images in zip(seen.names, seen.images, strict=True) if not images]
    return f"no test images of class {first_of(names, 5)}: not measured"


def decimal(value: object, digits: int = 4) -> str:
    """A number with `digits` significant digits, a dash where it is none."""
    found = number(value)
    return NONE if found is None else f"{found:.{digits}g}"


def duration(value: object) -> str:
    """Seconds as "8.40 s", "12 min 5 s", "3 h 07 min" or "46 days"."""
    seconds = number(value)
    if seconds is None:
        return NONE
    if seconds < 100:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole >= 2 * 86400:
        return f"{round(whole / 86400):,} days"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def megabytes(value: object) -> str:
    """MiB as "512 MiB" or "3.4 GiB"."""
    found = number(value)
    if found is None:
        return NONE
    return f"{found / 1024:.1f} GiB" if found >= 1024 else f"{found:.0f} MiB"


def count(value: object) -> str:
    """A whole number in groups of thousands, "10,000"."""
    found = number(value)
    return NONE if found is None else f"{round(found):,}"


def plural(amount: int, noun: str) -> str:
    """ "1 image", "2 images", "2 classes"."""
    ending = "es" if noun.endswith("s") else "s"
    return f"{amount:,} {noun}" + ("" if amount == 1 else ending)


def slug(text: str) -> str:
    """A file name: letters, digits, dots, underscores and hyphens."""
    return re.sub(r"[^\w.-]+", "-", text)


def flatten(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested configuration as (dotted key, text) pairs, in its own order."""
    pairs: list[tuple[str, str]] = []
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            pairs += flatten(value, f"{name}.")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            pairs.append((name, ", ".join(str(v) for v in value) or NONE))
        else:
            pairs.append((name, NONE if value is None or value == {} else str(value)))
    return pairs
