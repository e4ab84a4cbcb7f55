"""Strategies: operations by name, joined by underscores, of which one is drawn at a time."""

from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from distill_cli.errors import choice_error

Operation = Callable[[PRNGKeyArray, Array], Array]


def parse(strategy: str, allowed: Iterable[str], key: str = "augmentation") -> tuple[str, ...]:
    """The names in a strategy string; empty or "none": no operation.

    Raises UserError for an unknown name; `key` says in the message where it was given.
    """
    if strategy in ("", "none"):
        return ()
    allowed = tuple(allowed)
    names = tuple(strategy.lower().split("_"))
    for name in names:
        if name not in allowed:
            raise choice_error(key, name, [*allowed, "none"])
    return names


def one_per_call(key: PRNGKeyArray, images: Array, operations: Sequence[Operation]) -> Array:
    """Apply one operation, drawn uniformly, to the whole batch."""
    if not operations:
        return images
    which, parameters = jax.random.split(key)
    chosen = jax.random.randint(which, (), 0, len(operations), "int32")
    return jax.lax.switch(chosen, list(operations), parameters, images)


def one_per_image(key: PRNGKeyArray, images: Array, operations: Sequence[Operation]) -> Array:
    """Apply to each image one operation, drawn uniformly for it."""
    if not operations:
        return images
    which, parameters = jax.random.split(key)
    chosen = jax.random.randint(which, (images.shape[0],), 0, len(operations), "int32")
    result = images
    for index, operation in enumerate(operations):
        changed = operation(jax.random.fold_in(parameters, index), images)
        result = jnp.where((chosen == index)[:, None, None, None], changed, result)
    return result
