"""format frepo: checkpoints of FRePo and RCIG, and FRePo's step<k>.npz.

FRePo writes npz files with the keys image and label, and Flax checkpoints (msgpack) whose `params`
hold x_proto and y_proto. RCIG's checkpoints hold x_proto, y_proto and log_temp in `params` and,
averaged over the steps, in `ema_average`; the average is the result (RCIG section 3). Images are
(n, h, w, c), preprocessed. msgpack carries numbers and names only, nothing that could be executed.
(Programs yongchao97/FRePo and yolky/RCIG.)
"""

from pathlib import Path
from typing import Any

import numpy as np

from distill_cli.core.coreset_io import CoresetFile, checked, read_arrays, require
from distill_cli.errors import UserError


def read(path: Path, index: int = 0) -> CoresetFile:
    """UserError where the file is none of the layouts above."""
    del index
    if path.is_dir():
        raise UserError(
            f"coreset={path}: format frepo needs a file, checkpoint_<step> or step<k>.npz; folders "
            "of Orbax or TensorFlow checkpoints cannot be read without the program that wrote them"
        )
    if path.suffix == ".npz":
        arrays = read_arrays(path)
        require(path, "frepo", arrays, ("image", "label"))
        return checked(
            path, "frepo", arrays["image"], arrays["label"], note="FRePo npz", origin="FRePo"
        )
    return from_checkpoint(path, msgpack(path))


def msgpack(path: Path) -> dict[str, Any]:
    """The tree of a Flax checkpoint file."""
    from flax.serialization import msgpack_restore

    try:
        tree = msgpack_restore(path.read_bytes())
    except Exception as error:  # msgpack and NumPy raise every kind there is
        reason = " ".join(str(error).split())
        raise UserError(f"coreset={path}: not a Flax checkpoint (msgpack): {reason}") from None
    if not isinstance(tree, dict):
        raise UserError(f"coreset={path}: a Flax file without named parts; not FRePo's or RCIG's")
    return tree


def from_checkpoint(path: Path, tree: dict[str, Any]) -> CoresetFile:
    """The coreset in a checkpoint's tree."""
    params, average = (part(tree, name) for name in ("params", "ema_average"))
    rcig = "log_temp" in params or "log_temp" in average
    source = average if rcig and "x_proto" in average else params
    if not {"x_proto", "y_proto"} <= source.keys():
        names = ", ".join(sorted(map(str, tree))[:12]) or "nothing"
        raise UserError(
            f"coreset={path}: no x_proto and y_proto under params or ema_average; found {names}. "
            "Only the checkpoints of FRePo and RCIG are known"
        )
    images, labels = (np.asarray(source[key]) for key in ("x_proto", "y_proto"))
    if images.ndim == 5:
        raise UserError(
            f"coreset={path}: images {images.shape} carry an axis of devices; save an unreplicated "
            "state"
        )
    temperature = np.asarray(source.get("log_temp", 0.0))
    if temperature.size != 1 or not np.isfinite(temperature.astype(np.float64)).all():
        raise UserError(f"coreset={path}: log_temp must be one finite number")
    note = "RCIG, averaged weights" if source is average else "RCIG" if rcig else "FRePo"
    return checked(
        path, "frepo", images, labels, log_temperature=float(temperature.reshape(())), note=note,
        origin="RCIG" if rcig else "FRePo",
    )  # fmt: skip


def part(tree: dict[str, Any], name: str) -> dict[str, Any]:
    """A sub-tree, through a further level named params where there is one."""
    found = tree.get(name)
    if isinstance(found, dict) and isinstance(found.get("params"), dict):
        found = found["params"]
    return found if isinstance(found, dict) else {}
