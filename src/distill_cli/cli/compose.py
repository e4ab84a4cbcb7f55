"""Composing configurations, for the commands and for Python. Imports no jax."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from distill_cli.cli.messages import no_name, one_line
from distill_cli.config import config_dir, parse, plain
from distill_cli.errors import UserError
from distill_cli.naming import digest, register_resolvers


def as_override(key: str, value: Any) -> str:
    """One Hydra override; Python lists, None and booleans become YAML's."""
    if isinstance(value, list | tuple):
        return f"{key}=[{','.join(map(str, value))}]"
    if value is None or isinstance(value, bool):
        return f"{key}={str(value).lower().replace('none', 'null')}"
    if isinstance(value, Path) or (isinstance(value, str) and not plain_word(value)):
        quoted = str(value).replace("\\", "\\\\").replace("'", "\\'")
        return f"{key}='{quoted}'"
    return f"{key}={value}"


def coreset_override(value: str) -> str:
    """`coreset=VALUE` as typed, as an override of coreset.path; quotes around it are taken away."""
    path = value.strip("'\"")
    return as_override("coreset.path", Path(path) if path else path)


def with_coreset_paths(arguments: Iterable[str]) -> list[str]:
    """`coreset=PATH` becomes coreset.path=PATH, quoted for Hydra where needed; so does a lone word
    that is neither an option nor the value of one."""
    arguments = list(arguments)
    lone = [
        word
        for before, word in zip(["", *arguments], arguments, strict=False)
        if "=" not in word and not word.startswith(("-", "~")) and not before.startswith("-")
    ]
    if len(lone) == 1 and not any(word.startswith("coreset") for word in arguments):
        arguments = [f"coreset={word}" if word in lone else word for word in arguments]
    pairs = ((argument, argument.partition("=")) for argument in arguments)
    return [
        coreset_override(value) if equals and key == "coreset" else argument
        for argument, (key, equals, value) in pairs
    ]


def plain_word(value: str) -> bool:
    """Whether Hydra's grammar takes the text as it stands."""
    return bool(value) and all((c.isascii() and c.isalnum()) or c in "_-./:+%@?*[]," for c in value)


def compose(name: str, overrides: Iterable[str]) -> DictConfig:
    """Compose configs/<name>.yaml with overrides, as the command line does.

    Raises UserError for unknown choices and keys.
    """
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    register_resolvers()
    overrides = list(overrides)
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
            return hydra.compose(name, overrides, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise no_name(overrides) or UserError(one_line(error, name, overrides)) from error
    except (ValueError, TypeError) as error:
        if found := no_name(overrides):
            raise found from error
        raise
    finally:
        GlobalHydra.instance().clear()


def run_folder(composed: DictConfig) -> tuple[str, Path]:
    """(digest, folder) of a composed run; the same rule as hydra.run.dir in config.yaml."""
    return digest(plain(composed)), Path(composed.hydra.run.dir)


def known_keys(config_name: str, key: str, *chosen: str) -> list[str]:
    """Keys beside `key` in a default configuration with these choices, for suggestions."""
    tree, prefix = default(config_name, *chosen), ""
    for part in key.split(".")[:-1]:
        if not isinstance(tree, dict) or part not in tree or tree[part] is None:
            break
        tree, prefix = tree[part], f"{prefix}{part}."
    return [f"{prefix}{name}" for name in tree] if isinstance(tree, dict) else []


def value_of(config_name: str, key: str, *chosen: str) -> Any:
    """A key's value in a default configuration with these choices; None where it has none."""
    tree = default(config_name, *chosen)
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def default(config_name: str, *chosen: str) -> Any:
    """A default configuration with these choices as nested dicts."""
    given = ["coreset.path=any"] if config_name in ("evaluate", "theory_subspace") else []
    return plain(compose(config_name, [*given, *chosen]))


__all__ = [
    "as_override",
    "compose",
    "coreset_override",
    "known_keys",
    "parse",
    "run_folder",
    "with_coreset_paths",
]
