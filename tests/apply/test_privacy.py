"""Noise pixels that must stay noise, and nearest images against a brute search."""

import numpy as np
import pytest

from distill_cli.apply import privacy

RNG = np.random.default_rng(0)


def test_the_mask_is_drawn_from_the_seed_with_the_share_asked_for():
    images = np.zeros((50, 8, 8, 3), np.float32)
    mask = privacy.frozen_mask(3, images, 0.8)
    np.testing.assert_array_equal(mask, privacy.frozen_mask(3, images, 0.8))
    assert (mask != privacy.frozen_mask(4, images, 0.8)).any()
    assert abs(mask.mean() - 0.8) < 0.02
    assert not privacy.frozen_mask(3, images, 0.0).any()
    assert privacy.frozen_mask(3, images, 1.0).all()


def test_a_pixel_that_leaves_its_noise_is_found():
    noise = RNG.normal(size=(20, 6, 6, 1)).astype(np.float32)
    mask = privacy.frozen_mask(0, noise, 0.5)
    made = np.where(mask, noise, 7.0).astype(np.float32)
    assert privacy.check_frozen(made, noise, mask, 0.5) == pytest.approx(mask.mean())
    made[tuple(np.argwhere(mask)[3])] += 1e-3
    with pytest.raises(ValueError, match="1 pixels that must stay noise"):
        privacy.check_frozen(made, noise, mask, 0.5)
    with pytest.raises(ValueError, match="share of noise pixels"):
        privacy.check_frozen(noise, noise, mask, 0.9)


def test_the_control_shows_real_pixels_only_outside_the_mask():
    noise, real = RNG.normal(size=(2, 4, 5, 5, 1)).astype(np.float32)
    mask = RNG.random((4, 5, 5, 1)) < 0.3
    found = privacy.behind_mask(real, noise, mask)
    np.testing.assert_array_equal(found[mask], noise[mask])
    np.testing.assert_array_equal(found[~mask], real[~mask])


def test_nearest_over_blocks_is_the_brute_search():
    queries, others = (privacy.unit(RNG.normal(size=(n, 12))) for n in (9, 40))
    found = privacy.nearest(queries, np.split(others, [7, 20]))
    distances = np.linalg.norm(queries[:, None] - others[None], axis=2)
    np.testing.assert_array_equal(found.rows, distances.argmin(1))
    np.testing.assert_allclose(found.distances, distances.min(1), rtol=1e-5)


def test_distances_do_not_see_brightness_and_contrast():
    images = RNG.random((5, 30))
    near = privacy.nearest(privacy.standardised(0.2 * images + 0.5), [privacy.standardised(images)])
    np.testing.assert_array_equal(near.rows, np.arange(5))
    assert near.distances.max() < 2e-3
    assert not privacy.standardised(np.ones((1, 4))).any()


def test_nearest_in_the_free_pixels_is_the_brute_search_and_finds_copies_behind_noise():
    others = RNG.random((40, 30))
    free = RNG.random((6, 30)) < 0.4
    queries = RNG.normal(size=(6, 30))
    queries[:3][free[:3]] = (2 * others[[5, 17, 30]] + 1)[free[:3]]  # copies, brighter
    found = privacy.nearest_free(queries, free, np.split(others, [11]))
    for i in range(6):
        rows = [np.corrcoef(queries[i, free[i]], other[free[i]])[0, 1] for other in others]
        assert found.rows[i] == np.argmax(rows)
        assert found.distances[i] == pytest.approx(np.sqrt(2 - 2 * max(rows)), abs=1e-6)
    assert found.rows[:3].tolist() == [5, 17, 30]
    assert found.distances[:3].max() < 1e-6
    hidden = privacy.nearest_free(queries, np.zeros_like(free), [others])
    np.testing.assert_allclose(hidden.distances, np.sqrt(2))
