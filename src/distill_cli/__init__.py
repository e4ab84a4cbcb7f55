"""Dataset distillation: compress a training set into a few synthetic images per class.

    from distill_cli import distill, evaluate, load_coreset
    result = distill("dataset=digits", "ipc=1")
    rows = evaluate(result["folder"], "evaluation=[krr_nngp]")
    images, labels, k = load_coreset(result["folder"]).coreset

Options are those of the commands. Importing this package imports neither jax nor hydra.
"""

from typing import Any

from distill_cli.errors import UserError
from distill_cli.version import __version__

__all__ = ["UserError", "__version__", "distill", "evaluate", "load_coreset"]


def __getattr__(name: str) -> Any:
    if name in ("distill", "evaluate"):
        from distill_cli.cli import api

        return getattr(api, name)
    if name == "load_coreset":
        from distill_cli.core.coreset_io import load_coreset

        return load_coreset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
