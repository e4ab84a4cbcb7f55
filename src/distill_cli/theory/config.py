"""What defines one cell of the study. Imports no jax."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from distill_cli.config import at_least, within
from distill_cli.errors import UserError, choice_error

LINKS = ("quad", "saddle", "mix", "cubic")
# What one machine can hold or finish; L and m2 are the sides of dense solves.
MOST = {
    "d": 100_000, "L": 20_000, "m2": 20_000, "n": 10**10, "m1": 100_000, "pool": 10**6,
    "steps": 10**7, "readout": 10**7, "test": 10**7, "subset": 10**7, "readout_steps": 10**9,
}  # fmt: skip
LARGE = 1e6  # of positive real numbers, far below what float32 holds squared
MEASURES = ("d2", "new_init", "equal_memory")
Precision = Literal["float32", "float16", "int8"]


@dataclass(frozen=True)
class CellConfig:
    """One cell: a task, a network, a way to distil, and what is measured.

    d, r: input and intrinsic dimension; link: a name of LINKS or FILE.py:FUNCTION; L: width, even,
    because neurons come in pairs that cancel at the start; n: real points behind the first-layer
    gradient, noise: standard deviation of their label noise; seed: one number or several, which
    are run together and reported with their spread.

    m1: first-layer points (distilled data set D1); variant: one_step or multi_step; pairs: start
    points x, -x, or all independent; pool: random neurons whose gradients are matched, batch: of
    them per Adam step; steps, learning_rate: Adam with a cosine to 0; start, label_start: ablations
    of multi_step (random points; all labels +1); row_norm: RMS norm of a trained first-layer row.

    m2: second-layer labels (D2), null for L; readout_steps: null for a ridge readout fitted on D2,
    else so many steps of gradient descent; ridge: of readouts on real data, lam2: of the readout
    on D2; label_pull: weight, relative to the mean eigenvalue, with which D2's labels are drawn
    towards the values of the real readout there, null for 1e-5, or 1e-8 with readout_steps, whose
    labels have to be large; readout: real points behind the readout, test: points of the error;
    subset: real points that stand beside the result, null for as many as take the same memory.

    control: none, undistilled (D1 are the start points), shuffled (real labels permuted before
    distilling), removed (D1 without its part in the true subspace), projected (D1 on its own
    leading r directions); bias: of the second stage; precision_d1, precision_labels: of the stored
    arrays; measure: more than the first layer.
    """

    d: int = 30
    r: int = 2
    link: str = "mix"
    L: int = 512
    n: int = 100_000
    noise: float = 0.1
    seed: tuple[int, ...] = (0,)
    m1: int = 16
    variant: Literal["one_step", "multi_step"] = "multi_step"
    pairs: Literal["antithetic", "independent"] = "antithetic"
    pool: int = 4096
    batch: int = 512
    steps: int = 600
    learning_rate: float = 0.02
    start: Literal["one_step", "random"] = "one_step"
    label_start: Literal["sign", "ones"] = "sign"
    row_norm: float = 1.0
    m2: int | None = None
    readout_steps: int | None = None
    ridge: float = 1e-4
    lam2: float = 1e-6
    label_pull: float | None = None
    readout: int = 20_000
    test: int = 20_000
    subset: int | None = None
    control: Literal["none", "undistilled", "shuffled", "removed", "projected"] = "none"
    bias: Literal["normal", "zero", "uniform"] = "normal"
    precision_d1: Precision = "float32"
    precision_labels: Precision = "float32"
    measure: tuple[str, ...] = MEASURES

    def __post_init__(self) -> None:
        for key in ("d", "r", "n", "m1", "pool", "batch", "steps", "readout"):
            at_least(key, getattr(self, key), 1)
        at_least("L", self.L, 2)
        at_least("test", self.test, 2)
        for key, most in MOST.items():
            if (getattr(self, key) or 0) > most:
                raise UserError(f"{key}={getattr(self, key)}: must be at most {most}")
        if self.r > self.d:
            raise UserError(f"r={self.r}: must be at most d={self.d}")
        if self.L % 2:
            raise UserError(f"L={self.L}: must be even, neurons come in pairs that cancel")
        if self.m1 % 2 and self.pairs == "antithetic":
            raise UserError(
                f"m1={self.m1}: must be even with pairs=antithetic; or give pairs=independent"
            )
        if self.batch > self.pool:
            raise UserError(f"batch={self.batch}: must be at most pool={self.pool}")
        for key in ("m2", "readout_steps", "subset"):
            if getattr(self, key) is not None:
                at_least(key, getattr(self, key), 1)
        for key in ("ridge", "lam2", "row_norm", "learning_rate"):
            if not 0 < getattr(self, key) <= LARGE:
                raise UserError(f"{key}={getattr(self, key)}: must be above 0, at most {LARGE:g}")
        within("noise", self.noise, 0, LARGE)
        within("label_pull", self.pull, 0, 1)
        for seed in self.seed:
            within("seed", seed, 0, 2**32 - 1)
        if len(set(self.seed)) < max(1, len(self.seed)):
            raise UserError(f"seed={list(self.seed)}: must be one or more different numbers")
        if len(set(self.measure)) < len(self.measure):
            raise UserError(f"measure={list(self.measure)}: names one twice")
        for name in self.measure:
            if name not in MEASURES:
                raise choice_error("measure", name, MEASURES)
        if self.link not in LINKS:
            link_file(self.link)

    @property
    def labels(self) -> int:
        """M2, the number of second-layer labels."""
        return self.L if self.m2 is None else self.m2

    @property
    def pull(self) -> float:
        """label_pull, or its default for this readout."""
        default = 1e-5 if self.readout_steps is None else 1e-8
        return default if self.label_pull is None else self.label_pull

    @property
    def antithetic_half(self) -> bool:
        """Whether D1 is stored as its first half and the centre that gives back the second."""
        return self.variant == "one_step" and self.pairs == "antithetic"


def link_file(link: str) -> tuple[Path, str]:
    """(file, function) of a link FILE.py:FUNCTION. UserError where there is no such file."""
    path, colon, function = link.rpartition(":")
    if not colon or not path.endswith(".py"):
        raise choice_error("link", link, (*LINKS, "FILE.py:FUNCTION"))
    file = Path(path).expanduser().resolve()
    if not file.is_file():
        raise UserError(f"link={link}: no such file {file}")
    return file, function


def identity(config: CellConfig) -> dict[str, Any]:
    """Everything that decides a cell's result, for its digest; a user's file by its content."""
    tree = dict(vars(config))
    tree |= {"m2": config.labels, "label_pull": config.pull}
    if config.link not in LINKS:
        file, function = link_file(config.link)
        tree["link"] = f"{hashlib.sha256(file.read_bytes()).hexdigest()[:16]}:{function}"
    return tree
