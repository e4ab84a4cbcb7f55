"""Marks of tests that need an optional package."""

import importlib.util

import pytest


def _extra(name: str, module: str) -> pytest.MarkDecorator:
    parent = module.rpartition(".")[0]
    there = (not parent or importlib.util.find_spec(parent)) and importlib.util.find_spec(module)
    return pytest.mark.skipif(there is None, reason=f"needs the extra {name}")


needs_joblib = _extra("parallel", "hydra_plugins.hydra_joblib_launcher")
needs_optuna = _extra("tuning", "hydra_plugins.hydra_optuna_sweeper")
