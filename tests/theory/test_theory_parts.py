"""Links, readouts, metrics, slopes, studies: each against a closed form or a property."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from distill_cli.errors import UserError
from distill_cli.theory import artefact, bench, compare, links, metrics, readout, slopes, study
from distill_cli.theory.config import LINKS, CellConfig
from distill_cli.theory.data import Affine

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("r", [1, 2, 3])
def test_links_are_normalised_and_their_hessians_are_those_of_stein(name, r):
    link = links.resolve(name, r)
    z = np.random.default_rng(r).standard_normal((400_000, r)).astype(np.float32)
    values = np.asarray(link.value(z), np.float64)
    assert values.mean() == pytest.approx(0, abs=0.02)
    assert values.var() == pytest.approx(1, abs=0.05)
    assert np.allclose(links.stein_hessian(link.value, r), link.matrix, atol=0.03)


def test_a_link_without_signal_is_named(caplog):
    assert links.warn_without_signal(links.resolve("mix", 3)) is None
    text = links.warn_without_signal(links.resolve("cubic", 2))
    assert text is not None and "link=cubic" in text and "study=controls" in text
    assert text in caplog.text


def test_a_users_link_is_normalised(tmp_path, caplog):
    file = tmp_path / "mine.py"
    file.write_text("import jax.numpy as jnp\ndef f(z):\n    return 5 + 3 * z[:, 0] ** 2\n")
    link = links.resolve(f"{file}:f", 2)
    z = RNG.standard_normal((100_000, 2)).astype(np.float32)
    assert np.std(link.value(z)) == pytest.approx(1, abs=0.02)
    assert np.allclose(link.matrix, np.diag([math.sqrt(2), 0]), atol=0.03)
    text = links.warn_without_signal(link)
    assert text is not None and "rank 1 of 2" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def g(z): return z", "no function f"),
        ("def f(z): return z", "must map"),
        ("def f(z): return z[:, 0] * 0", "must map"),
        ("def f(z): raise ValueError('boom')", "boom"),
        ("import nothing_such", "nothing_such"),
    ],
)
def test_a_users_link_that_is_none(tmp_path, text, message):
    file = tmp_path / "bad.py"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        links.resolve(f"{file}:f", 3)


def test_ridge_and_labels_against_a_direct_solution():
    phi, y = RNG.standard_normal((500, 12)), RNG.standard_normal(500)
    found = readout.moments(lambda x: x, phi, y)
    a = readout.ridge(found, 0.1)
    stacked = np.vstack([phi / math.sqrt(500), math.sqrt(0.1) * np.eye(12)])
    expected = np.linalg.lstsq(stacked, np.r_[y / math.sqrt(500), np.zeros(12)], rcond=None)[0]
    assert np.allclose(a, expected)
    student = readout.student_map(RNG.standard_normal((12, 12)), 1e-6, None)
    labels = readout.distilled_labels(student, found, 0.1)
    assert np.allclose(student @ labels, a, atol=1e-4)  # M2 = L: the readout itself
    few = readout.student_map(RNG.standard_normal((3, 12)), 1e-6, None)

    def loss(labels):
        b = few @ labels
        return np.mean((phi @ b - y) ** 2) + 0.1 * b @ b

    best = readout.distilled_labels(few, found, 0.1)
    for _ in range(20):
        assert loss(best) <= loss(best + 0.1 * RNG.standard_normal(3)) + 1e-9


def test_of_many_labels_that_solve_the_nearest_to_the_values_are_taken():
    phi, y, values = (RNG.standard_normal(s) for s in ((500, 4), 500, 20))
    found = readout.moments(lambda x: x, phi, y)
    student = readout.student_map(RNG.standard_normal((20, 4)), 1e-6, None)  # 20 labels for 4
    labels = readout.distilled_labels(student, found, 0.1, values, 1e-8)
    expected = values + np.linalg.pinv(student) @ (readout.ridge(found, 0.1) - student @ values)
    assert np.allclose(labels, expected, atol=1e-5)


def test_gradient_descent_readout_is_gradient_descent():
    phi, y = RNG.standard_normal((9, 5)), RNG.standard_normal(9)
    gram = phi.T @ phi / 9
    a, rate = np.zeros(5), 1 / np.linalg.eigvalsh(gram)[-1]
    for _ in range(37):
        a -= rate * (gram @ a - phi.T @ y / 9)
    assert np.allclose(readout.student_map(phi, 1.0, 37) @ y, a)


def test_overlap_and_energy():
    theta = np.eye(6)[:, :2]
    inside = RNG.standard_normal((5, 2)) @ theta.T
    assert metrics.overlap(inside, theta) == pytest.approx(1)
    assert metrics.energy(inside, theta) == pytest.approx(1)
    mixed = inside + 1e-3 * RNG.standard_normal((5, 6))
    assert 0.999 < metrics.energy(mixed, theta) < 1
    wide = RNG.standard_normal((20_000, 6))
    assert metrics.energy(wide, theta) == pytest.approx(2 / 6, abs=0.01)
    found = metrics.coordinates(mixed, theta)
    total = np.sum(np.square(found["inside"]), 1) + np.square(found["outside"])
    assert np.allclose(total, np.sum(mixed**2, 1))


@pytest.mark.parametrize("control", ["none", "removed", "projected"])
def test_pairs_come_back_from_their_first_halves_and_their_centre(control):
    config = CellConfig(variant="one_step", m1=6, d=7, control=control, measure=())
    first, centre = RNG.standard_normal((3, 7)), RNG.standard_normal(7)
    pairs = np.concatenate([first, centre - first]).astype(np.float32)
    theta = np.linalg.qr(RNG.standard_normal((7, 2)))[0]
    points = bench.edited(config, pairs, theta).astype(np.float32)
    line = Affine(jnp.zeros(()), jnp.zeros(7))
    file = artefact.pack(config, 0, points, np.ones(6), line)
    assert np.allclose(file.d1()[0], points, atol=1e-6)
    assert file.floats("d1") == 4 * 7 and file.meta["m1"] == 6


def test_eight_bits_round_to_half_a_level_and_count_their_scale():
    values = RNG.standard_normal((4, 7)).astype(np.float32)
    found = artefact.Artefact(artefact.quantised("d1_inputs", values, "int8"), {})
    assert np.abs(found.numbers("d1_inputs") - values).max() <= np.abs(values).max() / 254 * 1.001
    assert found.floats("d1") == 29 and found.bytes == 28 + 4


def test_needed_interpolates_and_must_hold_from_there_on():
    assert slopes.needed([2, 4, 8], [0.01, 0.01, 0.01], 0.02) == 2
    assert math.isnan(slopes.needed([2, 4], [0.1, 0.03], 0.02))
    assert slopes.needed([2, 4, 8], [0.01, 0.08, 0.005], 0.02) == pytest.approx(4 * 2**0.5)


def curves_of(power, noise=0.0):
    """Excess (x / g^power)^-2 * 0.02: needed x is g^power."""
    rng = np.random.default_rng(0)
    xs = [1, 2, 4, 8, 16, 32, 64, 128]
    return {
        float(g): [
            (x, 0.02 * (x / g**power) ** -2.0 * np.exp(noise * rng.standard_normal(3))) for x in xs
        ]
        for g in (1, 2, 4, 8)
    }


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0])
def test_slopes_recover_a_power_law(power):
    fit = slopes.fitted(curves_of(power), lambda _: 0.02)
    assert fit["slope"] == pytest.approx(power, abs=0.05)
    noisy = slopes.fitted(curves_of(power, 0.2), lambda _: 0.02)
    low, high = noisy["interval"]
    assert low <= noisy["slope"] <= high and high - low < 0.6 and low < power + 0.1
    assert noisy == slopes.fitted(curves_of(power, 0.2), lambda _: 0.02)


@pytest.mark.parametrize("name", study.names())
def test_every_study_is_readable_and_expects_only_cells_it_has(name):
    found = study.load(name)
    cells = study.expand(found, slow=True)
    assert len(cells) == len(set(cells)) > 3
    assert all(cell.seed == tuple(range(10)) for cell in cells)
    assert {cell.seed for cell in study.expand(found, False, seeds=[4])} == {(4,)}
    metrics_ = {m for t in found.expected for m in [t["metric"]]}
    row = dict.fromkeys([*metrics_, "floats"], 0.5)
    summaries = [study.summary(cell, [row, row]) for cell in cells]
    compared = compare.compare(found, summaries)
    assert compared and all(item["measured"] == 0.5 for item in compared)


def test_bands():
    tables = (
        {"metric": "mse_d1_ridge", "rows": "d", "values": {10: 0.1}},
        {"metric": "overlap", "rows": "d", "values": {10: 0.9}},
        {"metric": "mse_d1_ridge", "rows": "d", "bound": "at_least", "values": {10: 0.7}},
    )
    judged = study.Study("t", "0", {}, (), tables)
    rows = [{"mse_d1_ridge": 0.155, "overlap": 0.885}]
    found = compare.compare(judged, [study.summary(CellConfig(d=10), rows)])
    assert [item["within"] for item in found] == [True, False, False]


def test_a_figure_outside_says_how_often_as_few_seeds_as_its_own_are_within():
    table = {"metric": "mse_d1_ridge", "rows": "d", "values": {10: 0.1}}  # at most 0.16
    values = [0.1, 0.1, 0.1, 0.5]  # one choice of three of them is without the last
    rows = [{"mse_d1_ridge": value} for value in values]
    cells = [study.summary(CellConfig(d=10), rows)]
    for seeds, share in ((3, 1 / 4), (1, 3 / 4)):
        judged = study.Study("t", "0", {}, (), (table | {"seeds": seeds},))
        (item,) = compare.compare(judged, cells)
        assert item["within"] is False and item["few"] == seeds
        assert item["share_within"] == pytest.approx(share)
        error = 0.2 * math.sqrt(1 / 4 + 1 / seeds)
        assert item["standard_errors"] == pytest.approx(0.1 / error)
        assert f"within for {share:.0%} of" in compare.chance(item)


def test_a_command_gives_its_cell_back():
    config = CellConfig(d=12, m1=4, seed=(0, 1), measure=("d2",), lam2=1e-4)
    text = study.command(config)
    assert text.startswith("distill-theory d=12") and '"seed=[0,1]"' in text
    row = {"mse_d1_ridge": 0.1}
    cell = study.summary(config, [row, {"mse_d1_ridge": 0.3}])
    assert cell["metrics"]["mse_d1_ridge"]["mean"] == pytest.approx(0.2)
    assert cell["metrics"]["mse_d1_ridge"]["std"] == pytest.approx(math.sqrt(0.02))
