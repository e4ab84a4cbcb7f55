"""Hydra's, OmegaConf's and argparse's complaints as one line that names key, value and choices."""

import re
import sys
from collections.abc import Iterable
from typing import Any

from hydra.errors import HydraException

from distill_cli.errors import UserError, choice_error, shown

NOTHING = object()
OF_SEVERAL = ("evaluation", "logger")  # groups of which a run takes a list
# Config groups of plugins, and the extra that brings them.
EXTRAS = {
    "joblib": "parallel", "submitit_slurm": "slurm", "submitit_local": "slurm", "optuna": "tuning",
}  # fmt: skip


def one_line(
    error: BaseException, config_name: str = "config", given: Iterable[str] | None = None
) -> str:
    """Hydra's and OmegaConf's messages, shortened to the line that matters.

    config_name: the command's primary configuration; given: its overrides, those of the command
    line unless said. The keys that are suggested are those of the choices among them.
    """
    given = list(sys.argv[1:] if given is None else given)
    text = str(error)
    if "Ambiguous value for argument" in text:
        argument = next((word for word in given if word in text), text.split("'")[1])
        key, _, value = argument.partition("=")
        if takes_list(config_name, key, given):
            said = f'a list is written "{key}=[{value}]"'
            return f"{argument}: {said}; a bare comma is a sweep and needs -m"
        return f"{argument}: one value; several, one run each, are a sweep: distill -m {argument}"
    if "override_grammar" in text:
        return unreadable(given, text.splitlines()[0])
    choice = re.search(r"Could not (?:find|load) '([\w/]+)/([^'/]*)'", text)
    if choice:
        from distill_cli.config import group_choices

        group, name = choice.group(1), choice.group(2)
        if name in EXTRAS and group.startswith("hydra/"):
            extra = f'the extra {EXTRAS[name]} brings it, pip install ".[{EXTRAS[name]}]"'
            return f"{group}={name}: its package is not installed; {extra}"
        return str(choice_error(group, name, group_choices(group)))
    override = re.search(r"Could not override '([\w.@/]+)'", text)
    if override:
        from distill_cli.config import group_choices

        key = override.group(1)
        section, _, rest = key.partition(".")
        protocol = rest.partition(".")[0]
        if section == "evaluation" and protocol in group_choices("evaluation"):
            if f"'{protocol}'" in str(error.__cause__):
                return (
                    f"{key}: belongs to evaluation={protocol}, which is not chosen; "
                    f'add it: "evaluation=[...,{protocol}]"'
                )
            given = [f"evaluation=[{protocol}]"]
            return str(choice_error("key", key, keys_beside(config_name, key, given)))
        if others := choices_with(section, rest):
            return f"{key}: unknown here; {section}={' or '.join(others)} has it"
        return str(choice_error("key", key, keys_beside(config_name, key, given)))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (" ".join(lines) if len(lines) < 4 else lines[0]) or type(error).__name__


def unreadable(given: Iterable[str], otherwise: str) -> str:
    """The line for the first word that Hydra's grammar refuses; `otherwise` where none is found."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    for word in given:
        try:
            OverridesParser.create().parse_overrides([] if word.startswith("-") else [word])
        except HydraException:
            if "=" not in word:
                return f"{word}: not understood; settings are key=value"
            if word.endswith(","):
                return f"{word}: a value is missing behind the comma"
            return f"{word}: cannot be read; put the value in quotes inside quotes: \"key='value'\""
    return otherwise


def keys_beside(config_name: str, key: str, given: Iterable[str]) -> list[str]:
    """Keys beside `key` under the choices among the overrides."""
    from distill_cli.cli.compose import known_keys

    try:
        return known_keys(config_name, key, *choices_among(given))
    except UserError:  # choices that do not go together
        return known_keys(config_name, key)


def choices_among(given: Iterable[str]) -> list[str]:
    """The overrides that choose from a config group, such as method=kip; not those of a sweep."""
    from distill_cli.config import group_choices

    found = []
    for word in given:
        key, _, value = word.partition("=")
        names = value.strip("[]").split(",") if key in OF_SEVERAL else [value]
        if key and set(names) <= set(group_choices(key)):
            found.append(word)
    return found


def takes_list(config_name: str, key: str, given: Iterable[str]) -> bool:
    """Whether a key's value is a list."""
    from distill_cli.cli.compose import value_of

    if key in OF_SEVERAL:
        return True
    try:
        return isinstance(value_of(config_name, key, *choices_among(given)), list)
    except UserError:
        return False


def unknown_option(words: Iterable[str]) -> UserError | None:
    """The error for a word that begins with a dash and is none of Hydra's options, for which
    argparse prints its whole usage; None where there is none."""
    from hydra._internal.utils import get_args_parser

    actions = [action for action in get_args_parser()._actions if action.option_strings]
    known = {name for action in actions for name in action.option_strings}
    for word in words:
        name, equals, value = word.partition("=")
        if not word.startswith("-") or word == "-" or name in known:
            continue
        key = name.lstrip("-")
        hint = f"{key}={value}" if equals else f"{key}=VALUE"
        return UserError(
            f"{word}: no such option; settings are typed without dashes, e.g. {hint}; options are "
            "-m, --cfg job, --help"
        )
    return None


def choices_with(group: str, key: str) -> list[str]:
    """Choices of a config group whose file sets a key, e.g. sampler, gamma: loss_importance."""
    import yaml

    from distill_cli.config import config_dir

    found = []
    for path in sorted((config_dir() / group).glob("*.yaml")):
        tree = yaml.safe_load(path.read_text())
        for part in key.split("."):
            tree = tree.get(part, NOTHING) if isinstance(tree, dict) else NOTHING
        if key and tree is not NOTHING:
            found.append(path.stem)
    return found


def no_name(words: Iterable[str]) -> UserError | None:
    """The error for a choice that is not a name, such as method=null, among overrides: Hydra's own
    has Python's types and no key. None where there is no such choice."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from distill_cli.config import config_dir, group_choices

    try:
        given = OverridesParser.create().parse_overrides([w for w in words if w[:1] != "-"])
    except HydraException:
        return None
    for one in given:
        key = one.key_or_group
        group = key.startswith("hydra/") or (key and (config_dir() / key).is_dir())
        if not group or one.is_sweep_override() or one.is_delete():
            continue
        value: Any = one.value()
        names = value if isinstance(value, list) and key in OF_SEVERAL else [value]
        if not all(isinstance(name, str) for name in names):
            if choices := group_choices(key):
                return choice_error(key, value, choices)
            return UserError(f"{key}={shown(value)}: must be a name")
    return None
