"""The table of keys says what the program does: against Hydra, the dataclasses and their checks."""

import dataclasses
import importlib
import re
import shlex
import types
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from omegaconf import OmegaConf

from distill_cli.apply.config import APPLICATIONS, parse_apply
from distill_cli.cli.compose import compose
from distill_cli.cli.help import entries, one_group, one_key, overview, values
from distill_cli.config import (
    COMPONENTS,
    LOGGER_MODULE,
    PROTOCOL_MODULE,
    Config,
    group_choices,
    parse,
    plain,
)
from distill_cli.errors import UserError, shown
from distill_cli.tasks import export
from distill_cli.tasks import report as report_task
from distill_cli.theory.config import CellConfig
from distill_cli.theory.subspace import SubspaceConfig
from distill_cli.typed import WORDS, build
from extras import needs_optuna

DISTILL = entries.page("distill")
PROTOCOLS = [name for name in group_choices("evaluation") if name not in ("all", "none")]
LOGGERS = [name for name in group_choices("logger") if name != "none"]
COMPOSITIONS: list[Any] = [
    *(("config", {"method": name}) for name in group_choices("method")),
    *(("config", {"dataset": name}) for name in ("celeba", "folder", "split_mnist")),
    ("config", {"method": "kip", "dataset": "mnist", "hardware": "cpu_long"}),
    ("config", {"dataset": "cifar10", "hardware": "gpu15"}),
    ("config", {"evaluation": PROTOCOLS, "logger": LOGGERS, "hardware": "cpu"}),
    ("config", {"evaluation": "all", "init": "krr_sensitivity", "sampler": "kmeans_batch"}),
    pytest.param("config", {"search": "optuna", "method": "kip"}, marks=needs_optuna),
    ("apply", {"apply": "membership"}),
    *((name, {}) for name in ("evaluate", "export", "theory", "theory_subspace")),
]  # fmt: skip
# Values that only the data can refuse, when they are there.
WITH_DATA = re.compile(
    r"dataset\.(image_size|zca|corrupt_\w+)|preprocess\.zca|method\.(width|depth)"
)


@pytest.mark.parametrize(("name", "typed"), COMPOSITIONS)
def test_values_are_those_that_hydra_composes(name, typed):
    words = [f"{key}={shown(value)}" for key, value in typed.items()]
    path = ["coreset.path=any"] if name in ("evaluate", "theory_subspace") else []
    given = {"coreset.path": "any"} if path else {}
    assert values.composed(name, typed, given).tree == plain(compose(name, [*words, *path]))


def compositions() -> Iterator[tuple[str, dict[str, Any]]]:
    """(file of keys, tree) of every command under every choice of every group."""
    for page, config in overview.CONFIGS.items():
        groups = [group for group in entries.page(page).groups if not group.internal]
        yield page, values.composed(config).tree
        for group in groups:
            for name in group_choices(group.group):
                yield page, values.composed(config, {group.group: name}).tree


def test_every_key_has_an_entry_and_every_entry_a_key():
    found: dict[str, set[str]] = {}
    for name, tree in compositions():
        page = entries.page(name)
        known = {entry.key for one in overview.with_inherited(page) for entry in one.entries}
        found.setdefault(name, set()).update(values.leaves(tree, known))
    for name, keys in found.items():
        page = entries.page(name)
        own = {entry.key for entry in page.entries}
        inherited = {entry.key for entry in DISTILL.entries} if page.inherits else set()
        assert keys - own - inherited == set(), name
        assert own - keys == set(), name
    for name in overview.CLASSES:
        fields = set(overview.class_defaults(name)) - {"more"}
        assert {entry.key for entry in entries.page(name).entries} == fields


def test_a_key_of_several_components_is_told_for_each_of_them_once():
    for name in overview.CONFIGS:
        listed: dict[str, list[entries.Entry]] = {}
        for entry in entries.page(name).entries:
            listed.setdefault(entry.key, []).append(entry)
        for key, same in listed.items():
            of = [choice for entry in same for choice in entry.of]
            assert len(set(of)) == len(of)
            if not of:
                assert len(same) == 1, key
                continue
            assert all(entry.of for entry in same)
            found = values.in_files(same[0].group, key)  # sections of other choices do not count
            assert set(of) == {name for name, v in found.items() if not isinstance(v, dict)}, key


def test_every_group_is_told_and_every_file_has_a_heading():
    folders = {path.name for path in values.config_dir().iterdir() if path.is_dir()}
    others = {"table", "theory"}  # no group of a run
    told = {group.group for name in ("distill", "apply") for group in entries.page(name).groups}
    assert told == folders - others
    for group in entries.page("distill").groups:
        for name in () if group.internal else group_choices(group.group):
            assert one_group.header(group.group, name)


def fields_of(cls: type, prefix: str) -> Iterator[tuple[str, Any]]:
    """Dotted keys of a dataclass with their hints."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            yield from fields_of(typing.cast(type, hint), f"{prefix}{field.name}.")
        elif hint is not Any:
            yield f"{prefix}{field.name}", hint


def hints() -> Iterator[tuple[str, str, str, Any]]:
    """(file of keys, choice or "", key, hint)."""
    for key, hint in fields_of(Config, ""):
        yield "distill", "", key, hint
    for group, (module, attribute) in COMPONENTS.items():
        for choice in group_choices(group):
            name = values.composed("config", {group: choice}).tree[group]["name"]
            cls = getattr(importlib.import_module(module.format(name=name)), attribute)
            for key, hint in fields_of(cls, f"{group}."):
                yield "distill", choice, key, hint
    for pattern, group, names in (
        (PROTOCOL_MODULE, "evaluation", PROTOCOLS), (LOGGER_MODULE, "logger", LOGGERS),
    ):  # fmt: skip
        for name in names:
            cls = importlib.import_module(pattern.format(name=name)).Config
            for key, hint in fields_of(cls, f"{group}.{name}."):
                yield "distill", "", key, hint
    for name, cls in APPLICATIONS.items():
        for key, hint in fields_of(cls, "apply."):
            yield "apply", name, key, hint
    for page, cls, prefix in (
        ("theory", CellConfig, ""), ("subspace", SubspaceConfig, "subspace."),
        ("export", export.Config, ""), ("report", report_task.Config, ""),
    ):  # fmt: skip
        for key, hint in fields_of(cls, prefix):
            yield page, "", key, hint


def words_of(hint: Any) -> tuple[str, list[str] | None]:
    """(type in words, allowed names or None) of a hint."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        (inner,) = [arg for arg in args if arg is not type(None)]
        text, names = words_of(inner)
        return (f"{text} or null", None) if names is None else ("", [*names, "null"])
    if origin is typing.Literal:
        return "", list(map(shown, args))
    if origin in (tuple, list):
        return {int: "a list of whole numbers", float: "a list of numbers"}.get(
            args[0], "a list of names"
        ), None
    return ("a section" if origin is dict else WORDS[hint]), None


# Wider than the field: a scalar for a list, one word of a fixed set where the field is text.
WIDER = {"runs", "seed"}


def test_types_and_choices_are_those_of_the_dataclasses():
    checked = set()
    for page, choice, key, hint in hints():
        for entry in entries.page(page).entries:
            if (
                entry.key != key
                or entry.of_group
                or (entry.of and choice and choice not in entry.of)
            ):
                continue
            text, names = words_of(hint)
            if names is not None:
                assert entry.choices is not None and sorted(entry.choices) == sorted(names), key
            elif entry.choices is None and not (key in WIDER and page in ("theory", "report")):
                assert entry.type == text, key
            checked.add((page, key))
    assert len(checked) > 200


def test_every_entry_says_what_is_allowed():
    """Either names, or a type; and numbers have a range or say what null is."""
    for name in [file for files in entries.FILES.values() for file in files]:
        for entry in entries.page(name).entries:
            assert entry.meaning and not entry.meaning.removesuffix("...").endswith(".")
            assert entry.of_group or (entry.choices is None) == bool(entry.type), entry.key
            if "null" in entry.type and name != "theory":
                assert "null" in entry.allowed or entry.key in MAY_BE_MISSING, entry.key


MAY_BE_MISSING = ("dataset.path", "dataset.tfds_name", "coreset.path")


def of_distill(entry: entries.Entry, value: Any) -> Any:
    """The parsed configuration with a key set, under a choice that has it."""
    own = [name for name in one_key.own_default(DISTILL, entry) if name]
    several = entry.group in ("evaluation", "logger")
    typed: dict[str, Any] = {entry.group: own[:1] if several else own[0]} if own else {}
    if entry.group == "kernel" and own[0] != "random_features":
        typed["method"] = "kip"
    if entry.key.startswith("logger."):
        pytest.importorskip({"tensorboard": "tensorboardX"}.get(own[0], own[0]))
    return parse(OmegaConf.create(values.composed("config", typed, {entry.key: value}).tree))


def refused_values(entry: entries.Entry) -> list[float]:
    """Values just outside what `allowed` says."""
    for pattern, outside in (
        (r"(?:each )?at least (\d+)", lambda low: [low - 1]),
        (r"above (\d+)", lambda low: [low]),
        (r"(?:each |even, )?(\d+) to (\d+)(?!\^)\b", lambda low, high: [low - 1, high + 1]),
    ):
        if found := re.match(pattern, entry.allowed):
            return outside(*map(int, found.groups()))
    return []


BOUNDED = [entry for entry in DISTILL.entries if refused_values(entry)]


def test_values_outside_the_stated_range_are_refused():
    assert len(BOUNDED) > 80
    for entry in BOUNDED:
        if WITH_DATA.fullmatch(entry.key) or entry.group == "logger":
            continue
        for value in refused_values(entry):
            with pytest.raises(UserError, match=entry.key.rpartition(".")[2]):
                of_distill(entry, [value] if entry.type.startswith("a list") else value)


@pytest.mark.parametrize(
    ("page", "check"),
    [
        ("apply", lambda tree: parse_apply(tree["apply"])),
        ("subspace", lambda tree: build(SubspaceConfig, tree["subspace"], "subspace.")),
        ("theory", lambda tree: build(CellConfig, tree)),
    ],
)
def test_ranges_of_the_other_commands(page, check):
    count = 0
    for entry in entries.page(page).entries:
        names = one_key.own_default(entries.page(page), entry)
        typed = {"apply": next(iter(names))} if page == "apply" and "" not in names else {}
        tree = values.composed(overview.CONFIGS[page], typed).tree
        if page == "theory":
            tree = {key: tree[key] for key in (f.name for f in dataclasses.fields(CellConfig))}
            tree["seed"] = [tree["seed"]]
        if entry.key.startswith("coreset."):
            continue
        for value in refused_values(entry):
            given = [value] if "list" in entry.type else value
            wrong = tree | {}
            values.merge(wrong, values.nested(entry.key, given))
            with pytest.raises(UserError, match=entry.key.rpartition(".")[2]):
                check(wrong)
            count += 1
    assert count > 5


def test_examples_can_be_typed():
    """Every example that help KEY shows for distill composes and parses."""
    where = one_key.Where("distill", DISTILL, 80)
    shown_examples = {entry.key: one_key.example(where, entry) for entry in DISTILL.entries}
    assert sum(bool(text) for text in shown_examples.values()) > 180
    for key, text in shown_examples.items():
        if not text or key.startswith("logger."):
            continue
        program, *words = shlex.split(text)
        assert program == "distill"
        tree = overview.state(DISTILL, words).tree
        typed = [word.partition("=")[0] for word in words]
        assert key in typed or any(key.startswith(f"{one}.") for one in typed)
        assert values.has(tree, key), text
        parse(OmegaConf.create(tree))


def test_examples_of_choices_can_be_typed():
    for group in DISTILL.groups:
        for name in (
            ()
            if group.internal or group.group in ("logger", "search")
            else group_choices(group.group)
        ):
            where = one_key.Where("distill", DISTILL, 80)
            words = shlex.split(one_group.choice_example(where, group, name))[1:]
            assert f"{group.group}={name}" in words
            parse(OmegaConf.create(overview.state(DISTILL, words).tree))
