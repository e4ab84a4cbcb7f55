"""held_out: another protocol, with the validation images in the place of the test images."""

import dataclasses
import importlib
from typing import Any

import numpy as np
import pytest

from distill_cli.arch.layers import fully_connected
from distill_cli.core.types import Coreset
from distill_cli.errors import UserError
from distill_cli.evaluation import held_out
from distill_cli.evaluation.base import Problem

RNG = np.random.default_rng(0)
SMALL = {"networks": 2, "architectures": ["mlp"], "width": 8}
SETTINGS: dict[str, dict[str, Any]] = {
    "krr_nngp": {"ridge": 1e-2}, "krr_ntk": {}, "frepo": {"steps": 5} | SMALL,
    "dc": {"epochs": 3} | SMALL, "dsa": {"epochs": 3} | SMALL,
    "kip_finite": {"steps": 5, "kernel_images": 6} | SMALL,
}  # fmt: skip


def images_and_labels(n: int) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(n) % 3
    images = labels[:, None, None, None] + RNG.normal(size=(n, 8, 8, 1))
    return images.astype(np.float32), labels.astype(np.int32)


@pytest.mark.parametrize("protocol", SETTINGS)
def test_a_protocol_on_validation_images(protocol):
    images, labels = images_and_labels(12)
    coreset = Coreset(images, np.eye(3)[labels] - 1 / 3, np.zeros((), np.float64))
    given = Problem(
        fully_connected(1, 1), "blobs", 4, images_and_labels(30), images_and_labels(40), 1e-3, 0,
        limit=20,
    )  # fmt: skip
    config = held_out.Config(protocol, SETTINGS[protocol])  # type: ignore[arg-type]
    found = held_out.evaluate(config, coreset, given)
    module = importlib.import_module(f"distill_cli.evaluation.{protocol}")
    moved = dataclasses.replace(given, test=given.valid, limit=None)
    wanted = module.evaluate(config.inner, coreset, moved)
    assert (found.protocol, found.images) == ("held_out", 30)
    assert (found.accuracy, found.std, found.n) == (wanted.accuracy, wanted.std, wanted.n)
    assert found.detail["measured_by"] == protocol and held_out.SPLIT == "validation"
    if protocol.startswith("krr"):  # a number that no other images give
        assert found.detail["half_mse"] == wanted.detail["half_mse"]
        others = dataclasses.replace(moved, test=images_and_labels(30), _grams={})
        other = module.evaluate(config.inner, coreset, others)
        assert found.detail["half_mse"] != other.detail["half_mse"]


@pytest.mark.parametrize("key", ["ridges", "calibrate"])
def test_no_choice_by_the_images_that_are_measured_on(key):
    with pytest.raises(UserError, match=f"settings.{key}=.*leave it out"):
        held_out.Config(settings={key: {"ridges": [1e-3], "calibrate": True}[key]})
