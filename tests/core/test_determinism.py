"""core/determinism.py: the flag, and who wins."""

import pytest

from distill_cli.core import determinism
from distill_cli.core.determinism import FLAG, VARIABLE, prefer_deterministic


@pytest.fixture
def plugin(monkeypatch):
    monkeypatch.setattr(determinism, "has_gpu_plugin", lambda: True)


@pytest.mark.parametrize("platforms", [None, "", "cuda", "cuda,cpu", " GPU , cpu"], ids=repr)
def test_the_flag_is_set_where_a_gpu_may_be_used(plugin, platforms):
    environment = {} if platforms is None else {"JAX_PLATFORMS": platforms}
    assert prefer_deterministic(environment)
    assert environment[VARIABLE] == f"{FLAG}=true"
    assert not prefer_deterministic(environment)  # once
    assert environment[VARIABLE] == f"{FLAG}=true"


def test_the_users_flags_stay(plugin):
    environment = {VARIABLE: "--xla_dump_to=/tmp/x --xla_gpu_autotune_level=2"}
    assert prefer_deterministic(environment)
    flags = environment[VARIABLE].split()
    assert flags == ["--xla_dump_to=/tmp/x", "--xla_gpu_autotune_level=2", f"{FLAG}=true"]


@pytest.mark.parametrize(
    "own", [f"{FLAG}=false", f"--xla_dump_to=x {FLAG}", "--xla_gpu_deterministic_ops=true"]
)
def test_the_users_decision_wins(plugin, own):
    environment = {VARIABLE: own}
    assert not prefer_deterministic(environment)
    assert environment[VARIABLE] == own


def test_nothing_changes_on_a_cpu(plugin, monkeypatch):
    environment = {"JAX_PLATFORMS": "cpu"}
    assert not prefer_deterministic(environment)
    monkeypatch.setattr(determinism, "has_gpu_plugin", lambda: False)
    other: dict[str, str] = {}
    assert not prefer_deterministic(other)
    assert environment == {"JAX_PLATFORMS": "cpu"} and other == {}
