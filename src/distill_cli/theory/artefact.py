"""The distilled data as a file: everything that a fresh process needs to train the student.

An npz without pickles. Numbers that are stored: d1_inputs, d1_labels (left out where all are 1),
d1_centre (of pairs, of which d1_inputs holds the first half), d2_labels, alpha, beta, and a scale
per array of 8-bit integers. Everything else (initial network,
biases, inputs of D2) comes back from the seed; `meta` is a line of JSON that holds it, with the
sizes and the name of the target, which only the test needs.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from distill_cli.core.coreset_io import read_arrays
from distill_cli.core.files import write_npz
from distill_cli.core.keys import named_key
from distill_cli.errors import UserError
from distill_cli.theory import network, readout
from distill_cli.theory.config import CellConfig
from distill_cli.theory.data import Affine
from distill_cli.typed import build

# Settings of a cell that training the student, or drawing its test points, depends on.
META = (
    "d", "r", "link", "L", "noise", "lam2", "readout_steps", "bias", "row_norm", "test",
)  # fmt: skip
NUMBERS = {
    "d1": ("d1_inputs", "d1_centre", "d1_labels"),
    "d2": ("d2_labels",),
    "affine": ("alpha", "beta"),
}


class Artefact(NamedTuple):
    """Arrays as they are stored, by name, and the meta data."""

    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]

    def numbers(self, name: str) -> np.ndarray:
        """A stored array as float32; 8-bit integers times their scale."""
        values = np.asarray(self.arrays[name], np.float32)
        return values * self.arrays.get(f"{name}_scale", np.float32(1.0))

    def floats(self, part: str) -> int:
        """Stored numbers of a part (d1, d2, affine), counted from the arrays."""
        names = [key for name in NUMBERS[part] for key in (name, f"{name}_scale")]
        return sum(self.arrays[name].size for name in names if name in self.arrays)

    @property
    def bytes(self) -> int:
        """Bytes of the stored numbers."""
        return sum(array.nbytes for array in self.arrays.values())

    def d1(self) -> tuple[np.ndarray, np.ndarray]:
        """(inputs, labels) of D1, the second half of antithetic pairs put back."""
        x = self.numbers("d1_inputs")
        if self.meta["antithetic_half"]:
            x = np.concatenate([x, self.numbers("d1_centre") - x])
        if "d1_labels" in self.arrays:
            return x, self.numbers("d1_labels")
        return x, np.ones(len(x), np.float32)

    @property
    def affine(self) -> Affine:
        return Affine(jnp.asarray(self.numbers("alpha")), jnp.asarray(self.numbers("beta")))


class Student(NamedTuple):
    """A first layer with its biases; features maps points to relu(W x + b)."""

    w: jax.Array
    b: jax.Array

    def features(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(_features(self.w, self.b, jnp.asarray(x)))


_features = jax.jit(network.features)
_first_layer_gradient = jax.jit(network.first_layer_gradient)


def quantised(name: str, values: np.ndarray, precision: str) -> dict[str, np.ndarray]:
    """The array in its stored precision; int8 with one scale, max |x| / 127."""
    if precision != "int8":
        return {name: np.asarray(values, precision)}
    scale = np.float32(np.max(np.abs(values)) / 127) or np.float32(1.0)
    whole = np.clip(np.rint(np.asarray(values) / scale), -127, 127).astype(np.int8)
    return {name: whole, f"{name}_scale": np.asarray(scale)}


def without_data(config: CellConfig, seed: int, line: Affine) -> Artefact:
    """The affine part alone, for students that saw no D1."""
    meta = {key: getattr(config, key) for key in META}
    arrays = {"alpha": np.asarray(line.alpha), "beta": np.asarray(line.beta)}
    return Artefact(arrays, meta | {"seed": seed})


def pack(
    config: CellConfig, seed: int, inputs: np.ndarray, labels: np.ndarray, line: Affine
) -> Artefact:
    """An artefact of D1 and the affine part; with_labels adds D2."""
    base, precision, arrays = without_data(config, seed, line), config.precision_d1, {}
    half = config.antithetic_half and config.control != "undistilled"
    if half:
        # Pairs add up to one centre, also after linear edits of D1 (controls).
        first, second = np.split(np.asarray(inputs, np.float64), 2)
        arrays = quantised("d1_centre", (first + second).mean(0).astype(np.float32), precision)
        inputs = inputs[: len(first)]
    arrays |= quantised("d1_inputs", inputs, precision)
    if not np.all(labels == 1):
        arrays |= quantised("d1_labels", labels, precision)
    return Artefact(arrays | base.arrays, base.meta | {"m1": len(labels), "antithetic_half": half})


def with_labels(artefact: Artefact, labels: np.ndarray, precision: str) -> Artefact:
    """The artefact with the labels of D2."""
    arrays = artefact.arrays | quantised("d2_labels", labels, precision)
    return Artefact(arrays, artefact.meta | {"m2": len(labels)})


def save(path: Path, artefact: Artefact) -> None:
    """Write the file whole."""
    write_npz(path, artefact.arrays | {"meta": np.array(json.dumps(artefact.meta))})


def load(path: str | Path) -> Artefact:
    """Read a file. UserError where it is not a file of this program, or damaged."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"artefact={path}: no such file")
    arrays = read_arrays(file, "artefact")
    try:
        meta = json.loads(str(arrays.pop("meta", None)))
    except ValueError:
        meta = None
    keys = meta if isinstance(meta, dict) else {}
    wanted = [key for key in (*META, "seed", "m1", "antithetic_half") if key not in keys]
    names = ["d1_inputs", "alpha", "beta"] + ["d1_centre"] * bool(keys.get("antithetic_half"))
    missing = [name for name in names if name not in arrays] + (wanted if keys else ["meta"])
    if missing:
        raise UserError(
            f"artefact={path}: not a file of distill-theory; missing {', '.join(missing)}"
        )
    found = Artefact(arrays, keys)
    check_arrays(path, found)
    return found


def check_arrays(path: str | Path, artefact: Artefact) -> None:
    """UserError for an array that is unknown, of another shape or type than the settings ask for,
    or not finite."""
    config, keys, arrays = cell_of(artefact), artefact.meta, artefact.arrays
    rows = config.m1 // 2 if keys["antithetic_half"] else config.m1
    shapes = {
        "d1_inputs": (rows, config.d), "d1_centre": (config.d,), "d1_labels": (config.m1,),
        "d2_labels": (keys.get("m2"),), "alpha": (), "beta": (config.d,),
    }  # fmt: skip
    for name, array in arrays.items():
        if name.removesuffix("_scale") not in shapes:
            raise UserError(f"artefact={path}: unknown array {name}")
        shape = () if name.endswith("_scale") else shapes[name]
        scaled = array.dtype == np.int8 and f"{name}_scale" in arrays
        if array.shape != shape or not (scaled or array.dtype in (np.float32, np.float16)):
            raise UserError(
                f"artefact={path}: {name} is {array.dtype} {array.shape}, must be float32, float16 "
                f"or scaled int8 {shape}"
            )
        if not np.all(np.isfinite(array)):
            raise UserError(f"artefact={path}: {name} holds NaN or infinity")


def cell_of(artefact: Artefact) -> CellConfig:
    """The settings of a file, checked: those of META, m1, m2, seed; the rest at its default."""
    meta = artefact.meta
    given = {key: meta[key] for key in (*META, "m1")} | {"seed": [meta["seed"]]}
    given |= {"m2": meta.get("m2"), "pairs": "independent"}  # m1 is odd where they were
    return build(CellConfig, given, "artefact: ")


def student(artefact: Artefact, fresh: bool = False) -> Student:
    """Train the first layer on D1: one step from the seed's network; fresh: from another one."""
    meta, name = artefact.meta, " fresh" if fresh else ""
    half, signs = network.initial(
        named_key(meta["seed"], f"theory network{name}"), meta["L"], meta["d"]
    )
    x, y = artefact.d1()
    gradient = _first_layer_gradient(half, jnp.asarray(x), jnp.asarray(y))
    b = network.biases(named_key(meta["seed"], f"theory biases{name}"), meta["L"], meta["bias"])
    return Student(network.trained_rows(signs, gradient, meta["row_norm"]), b)


def second_inputs(artefact: Artefact, count: int) -> np.ndarray:
    """Inputs of D2 (count, d), from the seed: nothing of them is stored."""
    key = named_key(artefact.meta["seed"], "theory second inputs")
    return np.asarray(jax.random.normal(key, (count, artefact.meta["d"]), jnp.float32))


def second_features(artefact: Artefact, trained: Student, count: int) -> np.ndarray:
    """Features of D2's inputs under a student, (count, L) float64."""
    return np.asarray(trained.features(second_inputs(artefact, count)), np.float64)


def second_layer(artefact: Artefact, trained: Student) -> np.ndarray:
    """The readout that the student learns from D2 alone, (L,) float64."""
    labels = artefact.numbers("d2_labels").astype(np.float64)
    phi = second_features(artefact, trained, len(labels))
    meta = artefact.meta
    return readout.student_map(phi, meta["lam2"], meta["readout_steps"]) @ labels


def predict(artefact: Artefact, trained: Student, a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """alpha + <beta, x> + phi(x) a."""
    line = np.asarray(artefact.affine.of(jnp.asarray(x)), np.float64)
    return line + readout.predict(trained.features, a, x)
