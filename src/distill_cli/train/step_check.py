"""Whether a method's step keeps its contract, before the first step and before any long work.

Inside `lax.scan` a state that changes its types ends in a message about scan's carry, and a scalar
that is none in a wrong curve. The chunk is traced here, which is kept for its first call, and what
is wrong is named.
"""

from typing import Any

import jax
import numpy as np

from distill_cli.config import Config
from distill_cli.core.types import Coreset
from distill_cli.errors import UserError, first_of
from distill_cli.methods.base import Distiller
from distill_cli.train.batches import TrainingSet
from distill_cli.train.chunks import Program, steps_until_stop

NEEDED = ("loss", "accuracy")


def check_step(
    config: Config, distiller: Distiller[Any], program: Program, state: Any, sampling: Any,
    train: TrainingSet, start: int,
) -> None:  # fmt: skip
    """UserError where the method's step() changes the structure, a shape or a type of the state,
    where its info lacks loss or accuracy or has anything but scalars, or where coreset() does not
    give a Coreset."""
    name, length = config.method.name, steps_until_stop(start, program.length, config)
    made = jax.eval_shape(distiller.coreset, state)
    if not isinstance(made, Coreset):
        raise UserError(f"method={name}: coreset() gives {type(made).__name__}, not a Coreset")
    try:
        traced = program.chunk.trace(state, sampling, train, np.uint32(start), length=length)  # type: ignore[attr-defined]
    except Exception:
        batch = jax.eval_shape(program.sampler.draw, sampling, train, state, jax.random.key(0))
        found = jax.eval_shape(distiller.step, state, batch, jax.random.key(0))
        if wrong := wrong_result(state, found):
            raise UserError(f"method={name}: {wrong}") from None
        raise
    _, (info, _) = traced.out_info
    if wrong := wrong_info({key: value.shape[1:] for key, value in info.items()}):
        raise UserError(f"method={name}: {wrong}")


def wrong_result(state: Any, found: Any) -> str | None:
    """What is wrong with what step() returned for `state`; None where nothing is."""
    if not isinstance(found, tuple) or len(found) != 2:
        return f"step() returns {type(found).__name__}; it has to return (state, info)"
    before, after = (dict(jax.tree_util.tree_leaves_with_path(tree)) for tree in (state, found[0]))
    missing, new = before.keys() - after.keys(), after.keys() - before.keys()
    if missing or new:
        said = " and ".join(
            f"{verb} {first_of(sorted(jax.tree_util.keystr(path) or '.' for path in paths), 3)}"
            for verb, paths in (("lacks", missing), ("adds", new))
            if paths
        )
        return f"the state that step() returns {said}; its structure must not change"
    for path, leaf in before.items():
        if (was := described(leaf)) != (now := described(after[path])):
            return (
                f"step() changes state{jax.tree_util.keystr(path)} from {was} to {now}; shapes and "
                "types must not change (under 64 bits a jax.numpy function without dtype= gives "
                "float64)"
            )
    if jax.tree.structure(state) != jax.tree.structure(found[0]):
        return f"step() returns a state of {type(found[0]).__name__}, init() {type(state).__name__}"
    if not isinstance(found[1], dict):
        return f"step() returns {type(found[1]).__name__} as info; it has to be a dict of scalars"
    return wrong_info({key: np.shape(value) for key, value in found[1].items()})


def wrong_info(shapes: dict[str, tuple[int, ...]]) -> str | None:
    """What is wrong with the shapes of a step's info; None where nothing is."""
    if absent := [key for key in NEEDED if key not in shapes]:
        return f"info of step() lacks {' and '.join(absent)}"
    for key, shape in shapes.items():
        if shape:
            return f"info[{key!r}] of step() has shape {shape}; it has to be a scalar"
    return None


def described(leaf: Any) -> str:
    """Type and shape of an array, e.g. float32 (10, 8, 8, 1)."""
    return f"{jax.dtypes.result_type(leaf)} {tuple(np.shape(leaf))}"
