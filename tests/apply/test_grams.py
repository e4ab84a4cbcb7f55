"""Diagonals and random kernels against whole matrices."""

import numpy as np
import pytest

from distill_cli.apply.grams import diagonal, exact_grams, mean_grams, random_grams
from distill_cli.arch.convnet import Config as ConvNet
from distill_cli.arch.convnet import build
from distill_cli.kernels.exact import gram

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(9, 8, 8, 1)).astype(np.float32)
ARCHITECTURE = build(ConvNet(width=4, depth=2))


@pytest.mark.parametrize("engine", ["band", "neural_tangents"])
@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
def test_the_diagonal_is_that_of_the_whole_matrix(engine, kernel):
    whole = gram(ARCHITECTURE, IMAGES, get=(kernel,), engine=engine)[kernel]
    found = diagonal(ARCHITECTURE, kernel, IMAGES, engine)
    np.testing.assert_allclose(found, np.diag(whole), rtol=1e-5)


def test_exact_grams_are_blocks_of_one_matrix():
    whole = gram(ARCHITECTURE, IMAGES, get=("nngp",))["nngp"]
    found = exact_grams(ARCHITECTURE, "nngp", IMAGES[:3], IMAGES[3:5], IMAGES[5:])
    np.testing.assert_allclose(found.ss, whole[:3, :3], rtol=1e-5)
    np.testing.assert_allclose(found.xs, whole[3:5, :3], rtol=1e-5)
    np.testing.assert_allclose(found.ts, whole[5:, :3], rtol=1e-5)
    np.testing.assert_allclose(found.t, np.diag(whole)[5:], rtol=1e-5)


def test_random_kernels_come_near_the_exact_one_and_differ_between_draws():
    wide = build(ConvNet(width=128, depth=2))
    parts = IMAGES[:3], IMAGES[3:5], IMAGES[5:]
    draws = [random_grams(wide, *parts, networks=8, seed=0, draw=draw, micro=4) for draw in (0, 1)]
    exact = exact_grams(ARCHITECTURE, "nngp", *parts)
    for mean, one, true in zip(mean_grams(draws), draws[0], exact, strict=True):
        np.testing.assert_allclose(mean, true, rtol=0.15)
        assert (mean != one).any()
    np.testing.assert_allclose(draws[0].ss, draws[0].ss.T)
