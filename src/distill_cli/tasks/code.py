"""Which code made a result, and what becomes of a result that other code made (`rerun`)."""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill_cli.config import PROTOCOL_MODULE, Config
from distill_cli.core.fingerprint import changed, code_of, digest_of
from distill_cli.core.lock import UNUSED
from distill_cli.errors import UserError, first_of
from distill_cli.train.checkpoint import newest_record

Code = Mapping[str, str]
FORMER = "former"  # subfolder with what was there before a run was made again
NAMED = 6  # changed modules that a line names


def code_of_run(config: Config) -> dict[str, str]:
    """Fingerprints of the modules that decide a run's coreset."""
    parts = (config.method, config.architecture, config.kernel, config.init, config.sampler)
    source = f"distill_cli.data.{config.dataset.source}"
    loop = ("distill_cli.tasks.problem", "distill_cli.train.loop")
    return code_of([*(type(part).__module__ for part in parts), source, *loop])


def code_of_protocol(protocol: Any) -> str:
    """Digest of the modules that decide what a protocol measures."""
    roots = [type(protocol).__module__]
    if inner := getattr(protocol, "protocol", None):  # held_out measures as another one does
        roots.append(PROTOCOL_MODULE.format(name=inner))
    return digest_of(code_of(roots))


def usable(
    folder: Path, done: dict[str, Any] | None, config: Config, code: Code
) -> dict[str, Any] | None:
    """The finished result `done`, or None where the run has to be made, or to be gone on with.

    rerun=null: a finished result of other code is returned with a note, a half-finished run of
    other code raises UserError. never: both are taken, with a note. changed: both are made again.
    always: so is a finished result of the same code. What is made again is set aside first.
    """
    record = done if done is not None else newest_record(folder / "checkpoints") or {}
    differs = differing(record, code)
    again = config.rerun == "always" and done is not None
    if again or (differs and config.rerun in ("changed", "always")):
        set_aside(folder)
        return None
    if differs and done is None and config.rerun != "never":
        raise UserError(
            f"{folder}: begun with other code ({first_of(differs, NAMED)} changed); rerun=never "
            "goes on with the code as it is now, rerun=changed begins anew"
        )
    note_changed(folder, differs, "rerun=changed runs it again")
    if done is not None:
        done["evaluations"] = measured_alike(folder, done["evaluations"], config)
    return done


def measured_alike(folder: Path, rows: list[Any], config: Config) -> list[Any]:
    """Evaluations to keep: with rerun=changed those alone that today's code measured."""
    protocols = config.evaluation.protocols
    other = [
        row
        for row in rows
        if row.get("code") and row["protocol"] in protocols
        and row["code"] != code_of_protocol(protocols[row["protocol"]])
    ]  # fmt: skip
    if other and config.rerun == "changed":
        return [row for row in rows if row not in other]
    if other:
        names = ", ".join(row["protocol"] for row in other)
        print(
            f"note: {folder}: other code measured {names}; rerun=changed measures again",
            file=sys.stderr, flush=True,
        )  # fmt: skip
    return rows


def differing(record: Mapping[str, Any], code: Code) -> list[str]:
    """Modules whose code is not that of a record; none where it does not say."""
    known = record.get("code")
    return changed(known, code) if isinstance(known, dict) and known else []


def note_changed(folder: Path, modules: Sequence[str], way_out: str) -> None:
    """Say that a result shown was made by other code, where modules are named."""
    if modules:
        said = first_of(modules, NAMED)
        text = f"note: {folder}: made by other code ({said} changed); {way_out}"
        print(text, file=sys.stderr, flush=True)


def set_aside(folder: Path) -> None:
    """Move what a run left to former/, which keeps the last such state. A kill in between leaves a
    run that is not finished, never a mixture that looks finished."""
    place = folder / FORMER
    if place.exists() and not place.is_dir():
        raise UserError(f"{place}: a file is where a folder is needed; move it away")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    names = {path.name for path in folder.iterdir()} - UNUSED - {FORMER}
    for name in sorted(names, key=lambda name: (name != "checkpoints", name != "result.json")):
        os.replace(folder / name, place / name)
