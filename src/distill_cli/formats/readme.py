"""README.md of an exported coreset: what lies there and how to load it."""

from collections.abc import Mapping
from typing import Any

LOADING = {
    "npz": """\
```python
import numpy as np
data = np.load("coreset.npz")
images, labels = data["images"], data["labels"]   # (n, h, w, c), (n, classes), float32
```
""",
    "safetensors": """\
```python
from safetensors.numpy import load_file       # or safetensors.torch
data = load_file("coreset.safetensors")
images, labels = data["images"], data["labels"]   # (n, h, w, c), (n, classes), float32
```
The file's metadata holds `class_names`, `log_temperature` and `ridge` as JSON.
""",
    "torch": """\
```python
import torch
data = torch.load("coreset.pt", weights_only=True)
dataset = torch.utils.data.TensorDataset(data["images"], data["labels"])
images, labels = data["images"], data["labels"]   # (n, c, h, w), (n, classes), float32
hard = data["hard_labels"]                        # (n,) int64, the largest entry of each row
```
""",
    "images": """\
One folder per class, `<label>_<class>/<row>.png`, which `torchvision.datasets.ImageFolder` reads.
`labels.npz` keeps the order of the rows (`files`) and the labels as numbers (`labels`).
""",
}
TRANSFORM = """\
## Preprocessing

The images live in the preprocessed space. A model fitted on them must see new images through
exactly the transform in `preprocess.npz`, and must not standardise them again:

    x = (pixel / pixel_max - mean) / std              mean, std of each channel (or a mean image)
    x = (x - mean(x)) / |x - mean(x)|                 per image, only where per_image is true
    x = flatten(x) W,  W = U diag(s)^(-1/2) U^T       only where U = zca_vectors, s = zca_values

`flatten` goes row by row with the channels last (height, width, channel), for torch too. `load.py`
does it with NumPy alone: `import load; x = load.preprocess(pixels)`, pixels (n, h, w, c).
"""
PICTURES = """\
## Preprocessing

The pictures are pixels: the inverse of `preprocess.npz` where the coreset came with one, clipped to
[0, 1] and rounded to 8 bits. They are for viewing and for programs that read nothing else.
"""
UNKNOWN = """\
## Preprocessing

The images live in a preprocessed space. The source carried no `preprocess.npz`, so the exact
transform is not known here; what the source's format says: {declared}.
"""


def readme(manifest: Mapping[str, Any], transform: bool) -> str:
    """The text for one export. transform: whether preprocess.npz lies beside it."""
    shape, names = manifest["images"], manifest["class_names"]
    lines = [
        f"# Coreset: {shape[0]} images, {len(names)} classes",
        "",
        f"Written by distill-export {manifest['version']} from `{manifest['source']['path']}` "
        f"(format {manifest['source']['format']}"
        + (f", {manifest['source']['note']}" if manifest["source"]["note"] else "")
        + f"). Images are {shape[1]}x{shape[2]}x{shape[3]}.",
        "",
        LOADING[manifest["format"]],
        "Labels are regression targets: one-hot minus 1/classes unless they were learned. Kernel",
        f"regression gives probabilities softmax(exp({manifest['log_temperature']:.6g}) f(x)).",
        "",
    ]
    if manifest["format"] == "images":
        lines += [PICTURES, *(f"- {line}" for line in manifest["warnings"])]
    elif transform:
        lines += [TRANSFORM]
    else:
        command = str(manifest["command"] or "")
        lines += [UNKNOWN.format(declared=command.partition(" ")[2] or "nothing")]
    lines += [f"Made by: `{manifest['command']}`", ""] if manifest["command"] else []
    return "\n".join(lines)
