"""card.md: what a coreset is, how it was made, how to use it, and what it is not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from distill_cli.report import words
from distill_cli.report.citations import cited, reference
from distill_cli.report.coreset_files import (
    CoresetFiles,
    read_coreset,
    transform_formula,
    transform_steps,
)
from distill_cli.report.published import published_for
from distill_cli.report.results import write_text
from distill_cli.report.run_result import RunResult

UNDISTILLED = ("random", "full")  # methods whose images are the training set's own
_LICENCES = {
    "mnist": "MNIST is commonly passed on under CC BY-SA 3.0.",
    "split_mnist": "MNIST is commonly passed on under CC BY-SA 3.0.",
    "kmnist": "Kuzushiji-MNIST is published under CC BY-SA 4.0.",
    "fashion_mnist": "Fashion-MNIST is published under the MIT licence.",
    "cifar10": "CIFAR-10 is published without a stated licence; its author asks to be cited.",
    "cifar100": "CIFAR-100 is published without a stated licence; its author asks to be cited.",
    "svhn": "SVHN is offered for non-commercial use only.",
    "celeba": "CelebA is offered for non-commercial research only, and shows real people's faces.",
    "digits": "The UCI digits are published under CC BY 4.0.",
    "tiny_imagenet": "Tiny ImageNet derives from ImageNet, offered for non-commercial research.",
    "tiny_imagenet10": "Tiny ImageNet derives from ImageNet, offered for non-commercial research.",
}


def write_card(folder: str | Path, result: RunResult, files: CoresetFiles | None = None) -> Path:
    """Write `folder`/coreset/card.md; `folder` is that of the run, result its result.json.

    files is the coreset where it has been read already.
    """
    text = card(result, files or read_coreset(folder))
    return write_text(Path(folder) / "coreset" / "card.md", text)


def card(result: RunResult, files: CoresetFiles | None) -> str:
    """The card as Markdown. Facts that the result does not hold are left out."""
    parts = [
        f"# {words.coreset_title(result)}: {words.run_title(result)}",
        _what(result, files),
        "## How it was made",
        _made(result),
        "## How good it is",
        _evaluations(result),
        "## How to load it",
        _load(),
        "## Preprocessing",
        _preprocessing(files),
        "## Licence",
        _licence(result),
        "## Limits",
        _limits(result, files),
        "## What to cite",
        "\n".join(f"* {reference(key)} ({reason})" for key, reason in cited(result)),
        "BibTeX entries stand in `citations.bib`, in the folder above.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _what(result: RunResult, files: CoresetFiles | None) -> str:
    names = f"{words.method_title(result.method)}, {words.dataset_title(words.data_of(result))}"
    synthetic = (
        "A few synthetic images with labels, optimised so that a model fitted on them alone does "
        f"well on real test images of the data set they stand in for ({names})."
    )
    real = f"Real images of the training set with their labels, nothing distilled ({names})."
    lines = [real if result.method in UNDISTILLED else synthetic, ""]
    stored = result.coreset
    if files:
        n, (_, h, w, c) = files.total, files.coreset.images.shape
        labels = files.coreset.labels
        centred = np.eye(labels.shape[1])[files.coreset.hard_labels] - 1 / labels.shape[1]
        plain = np.allclose(labels, centred, atol=1e-4)
        kind = "one-hot minus 1/classes" if plain else "learned"
        lines += [
            f"* {words.plural(n, 'image')} of {h} x {w} x {c} (height, width, channel), float32, "
            "in preprocessed space, not pixels",
            f"* labels: {n} x {labels.shape[1]}, float32 regression targets, {kind}",
            f"* log_temperature: {files.coreset.log_temperature:.4f} (outputs are multiplied by "
            "its exponential before a softmax)",
            f"* classes: {', '.join(files.coreset.class_names)}",
        ]
    if stored.stored_floats is not None:
        lines.append(f"* stored numbers: {words.count(stored.stored_floats)}")
    if stored.sha256:
        lines.append(f"* SHA-256 of coreset.npz: `{stored.sha256}`")
    return "\n".join(lines)


def _made(result: RunResult) -> str:
    rows = [
        ("distill_cli version", result.version),
        ("configuration digest", result.digest),
        ("method", words.method_title(result.method)),
        ("initial images", result.init),
        ("loss", result.loss),
        ("labels", result.labels),
        ("seed", result.seed),
        ("steps", result.steps),
        ("step kept", result.best_step),
        ("stopped", result.stop_reason),
        ("device", result.device),
        ("distillation time", words.duration(result.seconds.get("distill"))),
    ]
    listed = [
        f"| {name} | {_cell(value)} |"
        for name, value in rows
        if value not in (None, "", words.NONE)
    ]
    shown = f"```sh\n{result.command}\n```\n\n" if result.command else ""
    return shown + "\n".join(["| | |", "|---|---|", *listed])


def _evaluations(result: RunResult) -> str:
    rows = []
    for e in result.evaluations:
        known = published_for(result, e)
        cells = (
            words.protocol_title(e.protocol),
            words.percent(e.accuracy, e.std),
            words.percent(e.real.accuracy, e.real.std),
            words.points(e.gain, e.clear_gain),
            known.text() if known else words.NONE,
            f"{e.split}, {words.count(e.images)} images",
            words.count(e.n),
        )
        rows.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    if not rows:
        return "Not evaluated."
    head = "| protocol | accuracy | random real | gain, points | published | measured on | runs |"
    sources = {known.source for e in result.evaluations if (known := published_for(result, e))}
    note = (
        "± is the standard deviation over runs or draws. Random real: the same protocol on as many "
        "real training images."
    )
    if not all(e.clear_gain for e in result.evaluations):
        note += f" {words.UNCLEAR.capitalize()}."
    if result.shows_balanced:
        said = [
            f"{e.protocol} {words.percent(e.balanced_accuracy)}, random real "
            f"{words.percent(e.real.balanced_accuracy)}"
            for e in result.evaluations
            if e.balanced_accuracy is not None
        ]
        note += f" Classes are tested on unequally many images; mean over them: {'; '.join(said)}."
    if sources:
        note += (
            f" Published: {'; '.join(sorted(sources))}, same method, size, labels and protocol; "
            "the kind of spread is not stated there."
        )
    return "\n".join([head, "|---|---|---|---|---|---|---|", *rows, "", note])


def _load() -> str:
    return """With `load.py` beside this file, which needs Python and NumPy only; `python load.py`
prints a summary:

```python
import load
coreset = load.load()            # .images .labels .hard_labels .log_temperature .class_names
x_new = load.preprocess(pixels)  # new images: integers as raw values, floats in [0, 1]
x_new = load.preprocess(["a.jpg"])  # picture files, read and resized as the run's (needs Pillow)
pixels = load.to_pixels(coreset.images)  # for looking at them; clip to [0, 1]
```

With NumPy alone:

```python
import numpy as np
with np.load("coreset.npz", allow_pickle=False) as data:
    images, labels = data["images"], data["labels"]
```

With PyTorch, channels first:

```python
import torch, load
coreset = load.load()
x = torch.from_numpy(coreset.images).permute(0, 3, 1, 2).contiguous()
y = torch.from_numpy(coreset.labels)  # soft targets: mean squared error; or coreset.hard_labels
```"""


def _preprocessing(files: CoresetFiles | None) -> str:
    if files is None:
        return "Not recorded."
    first = _reading(files.transform)
    listed = enumerate([*first, *transform_steps(files.transform)], 1)
    steps = "\n".join(f"{i}. {step}" for i, step in listed)
    formula = "\n".join(transform_formula(files.transform))
    return (
        f"{steps}\n\n```\n{formula}\n```\n\n"
        "The numbers are those of `preprocess.npz`. A model fitted on the coreset has to see new "
        "images through the same transform: `load.preprocess`. The picture `images.png` shows the "
        f"coreset through its inverse. {files.distilled.note()}"
    )


def _reading(transform: Mapping[str, Any]) -> list[str]:
    """How the run made its raw images from files, where it resized them."""
    if not transform.get("resized"):
        return []
    height, width = (int(n) for n in transform["image_shape"][:2])
    return [
        f"Images are resized straight to {width} x {height} (Pillow's bilinear filter with "
        "antialiasing, aspect ratio not kept); picture files are turned upright by the camera's "
        f"mark, transparent pixels lie on {tuple(int(n) for n in transform['background'])}."
    ]


def _licence(result: RunResult) -> str:
    known = _LICENCES.get(words.dataset_key(result.dataset), "")
    origin = "were computed from the training set and may carry parts of it"
    if result.method in UNDISTILLED:
        origin = "are those of the training set"
    return (
        f"The images {origin}, so treat "
        f"them as under the terms of the data set. {known} Check the terms at the source before "
        "passing the coreset on. The licence of the program that made it does not extend to it."
    ).replace("  ", " ")


def _limits(result: RunResult, files: CoresetFiles | None) -> str:
    biases = (
        "* Biases and label errors of the training set are carried over; rare cases may be lost."
    )
    if result.method in UNDISTILLED:
        return f"* These are real images, with whatever privacy questions the data raise.\n{biases}"
    method = words.method_title(result.method)
    lines = [
        f"* It was fitted to one model family ({method}'s kernel or networks). Other "
        "architectures, optimisers or augmentations may do clearly worse on it; measure first.",
        "* The images are no samples of the data: they are not realistic, and statistics taken "
        "from them say nothing about the data set.",
        "* Labels are regression targets, not probabilities: rows need not sum to one.",
        "* It is no privacy guarantee. Images that started from real ones can still show them.",
        biases,
    ]
    if files and files.distilled.clipped:
        share = 100 * files.distilled.clipped
        lines.append(
            f"* {share:.1f} % of its values lie outside the range of pixels: storing it as "
            "ordinary image files changes it, and the accuracies above would not hold."
        )
    return "\n".join(lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
