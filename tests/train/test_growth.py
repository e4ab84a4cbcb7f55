"""Parts of a run: where they begin, what they are, and that a killed run goes on alike."""

import itertools

import jax
import numpy as np
import pytest
from test_sampler_resume import run

from distill_cli.errors import RunStopped, UserError
from distill_cli.sections import GrowthConfig
from distill_cli.train.chunks import steps_until_stop
from distill_cli.train.growth import Part, part_at, part_configs
from sampler_problem import distiller, parsed

GROWING = [
    "steps=16", "growth.shares=[0.3,0.4]", "growth.networks=[2,3]", "growth.batch=[6,12]",
    "kernel.networks=4", "checkpoint.seconds=1000", "batch.size=24",
]  # fmt: skip


def test_configurations_of_the_parts():
    config = parsed(*GROWING, "growth.width=[2,3]")
    starts, configs = zip(*part_configs(config), strict=True)
    assert starts == (0, 5, 11)
    sizes = [(c.kernel.networks, c.architecture.width, c.batch.size) for c in configs]
    assert sizes == [(2, 2, 6), (3, 3, 12), (4, 4, 24)]
    assert configs[2] is config
    assert part_configs(parsed("steps=16")) == [(0, parsed("steps=16"))]


def test_every_step_belongs_to_one_part_and_no_chunk_crosses():
    config = parsed(*GROWING, "snapshots=[13]")
    parts = [Part(at, part, None) for at, part in part_configs(config)]  # type: ignore[arg-type]
    step, cuts = 0, []
    while step < config.steps:
        cuts.append(step)
        step += steps_until_stop(step, 4, config)
    assert cuts == [0, 4, 5, 8, 11, 12, 13]
    assert [part_at(parts, step) for step in (0, 4, 5, 10, 11, 15)] == [0, 0, 1, 1, 2, 2]
    for a, b in itertools.pairwise([*cuts, 16]):
        assert part_at(parts, a) == part_at(parts, b - 1)


def test_sums_of_shares():
    for shares, wrong in [((0.5, 0.5), "less than 1"), ((0.0,), "above 0"), ((1.0,), "below 1")]:
        with pytest.raises(UserError, match=wrong):
            GrowthConfig(shares=shares, networks=(1,) * len(shares))
    with pytest.raises(UserError, match=r"growth.networks=\[1\]: needs one value for each"):
        GrowthConfig(shares=(0.1, 0.2), networks=(1,))
    with pytest.raises(UserError, match=r"needs growth\.networks"):
        GrowthConfig(shares=(0.1,))
    with pytest.raises(UserError, match="part 2 would have none of the steps=10"):
        GrowthConfig(shares=(0.5, 0.01), batch=(1, 2)).starts(10)


def test_resumes_bit_for_bit_in_every_part(tmp_path):
    """With a schedule and an average, killed in the first part and in the second."""
    config = parsed(*GROWING, "schedule=cosine", "average=ema", "method.jackknife=0.5")
    parts = [Part(at, part, distiller(part)) for at, part in part_configs(config)]
    for part in ("whole", "cut"):
        (tmp_path / part).mkdir()
    whole = run(tmp_path / "whole", config, 1000, parts)
    for looks, at in ((1, 4), (1, 5), (2, 11)):
        with pytest.raises(RunStopped, match=f"at step {at};"):
            run(tmp_path / "cut", config, looks, parts)
    cut = run(tmp_path / "cut", config, 1000, parts)
    assert (whole.step, cut.step) == (16, 16)
    jax.tree.map(np.testing.assert_array_equal, whole.best, cut.best)
