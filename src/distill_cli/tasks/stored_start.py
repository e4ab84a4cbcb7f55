"""init=coreset: a stored coreset in the preprocessed space of a run that begins from it."""

import contextlib
import dataclasses
import logging
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from distill_cli.core.coreset_io import CoresetFile, load_coreset
from distill_cli.data.preprocess import Preprocess, to_arrays
from distill_cli.data.standalone_load import to_pixels
from distill_cli.errors import UserError
from distill_cli.formats.detect import declared_preprocess
from distill_cli.tasks.coreset_fits import (
    Target,
    check_fits,
    doubt,
    with_all_classes,
    with_images,
)
from distill_cli.tasks.problem import Problem

log = logging.getLogger(__name__)


def stored_start(problem: Problem, settings: Any) -> CoresetFile:
    """The coreset of `settings` (path, format, index; init/coreset.py) as the run sees images.

    A coreset with its own transform goes back to pixels and through the run's, unless the two are
    the same; pictures go through the run's. A foreign one without either has to be in the run's
    space: UserError where its format or name says another, a warning where only its statistics do.
    """
    with named_as_typed():
        file = load_coreset(settings.path, settings.format, settings.index)
        file = with_all_classes(file, problem.dataset)
        check_fits(Target(file, problem.config), problem)
    if file.pixels:
        return with_images(problem, file, np.asarray(file.coreset.images))
    if file.transform is not None:
        its, mine = to_arrays(Preprocess.load(file.transform)), to_arrays(problem.preprocess)
        if its.keys() == mine.keys() and all(np.array_equal(its[key], mine[key]) for key in its):
            return file
        log.info("init.path=%s: taken back to pixels, then preprocessed as the run does", file.path)
        return with_images(problem, file, to_pixels(np.asarray(file.coreset.images), its))
    said = declared_preprocess(file.path, file.format, problem.dataset.name)
    if wrong := contradiction(said, dataclasses.asdict(problem.config.preprocess)):
        raise UserError(
            f"init.path={settings.path}: by its format or name it was made with {' '.join(said)}, "
            f"but the run has {wrong}; give {' '.join(said)}"
        )
    if not said and (reason := doubt(file, problem)):
        log.warning("init.path=%s: %s", file.path, reason)
    return file


@contextlib.contextmanager
def named_as_typed() -> Iterator[None]:
    """Errors of reading a coreset with the keys of init= in place of distill-evaluate's."""
    try:
        yield
    except UserError as error:
        text = re.sub(r"\bcoreset\.(format|index|force)\b", r"init.\1", str(error))
        raise UserError(text.replace("coreset=", "init.path=")) from error


def contradiction(said: list[str], settings: dict[str, Any]) -> str | None:
    """The first setting of the run that differs from overrides `said`, as key=value."""
    import yaml

    for item in said:
        key, _, value = item.partition("=")
        name = key.partition(".")[2] or "name"
        mine = settings.get(name)
        mine = list(mine) if isinstance(mine, tuple) else mine
        if mine != yaml.safe_load(value):
            return f"{key}={mine}"
    return None
