"""Checkpoints with Orbax: atomic, verified on reading, never of another run.

A checkpoint holds a pytree of arrays and a small JSON record: who wrote it (format, package
version, configuration digest, dataset fingerprint) and a checksum of the arrays. Orbax renames a
finished folder into place, so a kill while writing leaves the previous checkpoint untouched.
"""

import contextlib
import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from distill_cli.core import hosts
from distill_cli.errors import StorageError, UserError

FORMAT = 1  # raise when the layout of the saved tree changes
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Identity:
    """What must agree between a checkpoint and the run that resumes from it."""

    version: str
    digest: str
    dataset: str

    def record(self) -> dict[str, Any]:
        return {"format": FORMAT, **vars(self)}


class Checkpoints:
    """The checkpoints of one run in `folder`; at most `keep` stay."""

    def __init__(
        self, folder: Path, identity: Identity, keep: int, code: Mapping[str, str] | None = None
    ) -> None:
        """code: fingerprints of the modules that decide the run, for the record."""
        import orbax.checkpoint as ocp  # slow import, only where needed

        logging.getLogger("absl").setLevel(logging.CRITICAL)  # what it logs, it raises
        self._ocp = ocp
        self.folder = folder.absolute()
        self.identity = identity
        self.keep = keep
        self.code = dict(code or {})
        self.notes: dict[str, Any] = {}  # of the checkpoint that was restored

    def steps(self) -> list[int]:
        """Steps of the finished checkpoints, newest first."""
        return steps_in(self.folder)

    def save(self, step: int, tree: Any, **notes: Any) -> None:
        """Write a checkpoint, then remove all but the newest `keep`; notes: for the record.

        Every process of a run calls it: Orbax has process 0 write what all of them have, and the
        others wait until it is written.
        Raises StorageError when it cannot be written; earlier checkpoints are untouched then.
        """
        host = jax.tree.map(np.asarray, tree)
        record = {
            **self.identity.record(),
            "code": self.code,
            "step": step,
            "checksum": checksum(host),
            "notes": notes,
        }
        ocp = self._ocp
        target = self.folder / str(step)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as writer:
                content = ocp.args.Composite(
                    state=ocp.args.PyTreeSave(dict(enumerate_leaves(host))),
                    record=ocp.args.JsonSave(record),
                )
                writer.save(target, args=content, force=True)
        except (OSError, ValueError, RuntimeError) as error:
            if hosts.lost(error):
                raise
            reason = " ".join(str(error).split())[:200]
            left = self.steps()
            kept = f"the last good checkpoint is step {left[0]}" if left else "there is none yet"
            raise StorageError(f"cannot write checkpoint {target}: {reason}; {kept}") from error
        for old in self.steps()[self.keep :] if hosts.first() else ():
            shutil.rmtree(self.folder / str(old), ignore_errors=True)

    def restore(self, like: Any) -> tuple[int, Any] | None:
        """The newest intact checkpoint as (step, tree in the shape of `like`), or None.

        A damaged one is skipped with a warning. One of another configuration, dataset or
        version raises UserError. Of several processes the first reads, and the others get what it
        found: they need not see its folder.
        """
        found = self._newest(like) if hosts.first() else None
        step = hosts.told(None if found is None else found[0])
        if step is None or hosts.count() == 1:
            return found
        tree = jax.tree.map(np.asarray, like) if found is None else found[1]
        return step, hosts.share(tree)

    def _newest(self, like: Any) -> tuple[int, Any] | None:
        steps = self.steps()
        for step in steps:
            folder = self.folder / str(step)
            try:
                record = read_record(folder)
            except (OSError, ValueError) as error:
                log.warning("checkpoint %s is damaged (%s); trying an older one", folder, error)
                continue
            self._require_same_run(folder, record)
            try:
                tree = self._read(folder, record, like)
            except Exception as error:
                reason = " ".join(str(error).split())[:120]
                log.warning("checkpoint %s is damaged (%s); trying an older one", folder, reason)
            else:
                self.notes = record.get("notes") or {}  # none before they were written
                return step, tree
        if steps:
            log.warning("no intact checkpoint in %s; starting from step 0", self.folder)
        return None

    def _read(self, folder: Path, record: dict[str, Any], like: Any) -> Any:
        leaves, structure = jax.tree.flatten(like)
        template = {name: np.asarray(leaf) for name, leaf in enumerate_leaves(like)}
        restore_args = {name: self._ocp.RestoreArgs(restore_type=np.ndarray) for name in template}
        with self._reader() as reader:
            saved = reader.restore(folder / "state", item=template, restore_args=restore_args)
        tree = structure.unflatten([saved[name] for name, _ in enumerate_leaves(like)])
        if checksum(tree) != record["checksum"]:
            raise ValueError("checksum does not match")
        del leaves
        return tree

    def _reader(self) -> Any:
        """Orbax's reader of one pytree, without waiting for other processes."""
        ocp, alone = self._ocp, self._ocp.options.MultiprocessingOptions()
        if hosts.count() > 1:
            alone = ocp.options.MultiprocessingOptions(
                active_processes={0}, barrier_sync_key_prefix="read"
            )
        handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
        return ocp.Checkpointer(handler, multiprocessing_options=alone)

    def _require_same_run(self, folder: Path, record: dict[str, Any]) -> None:
        for key, value in self.identity.record().items():
            if record.get(key) != value:
                raise UserError(
                    f"{folder}: checkpoint of another run ({key} {record.get(key)}, this run has "
                    f"{value}); remove {self.folder.parent} or choose another out="
                )


def steps_in(folder: Path) -> list[int]:
    """Steps of the finished checkpoints in a folder, newest first."""
    names = (path.name for path in folder.iterdir()) if folder.is_dir() else ()
    return sorted((int(name) for name in names if name.isdigit()), reverse=True)


def read_record(checkpoint: Path) -> dict[str, Any]:
    """A checkpoint's record. Raises OSError or ValueError where it is missing or cut off."""
    return json.loads((checkpoint / "record" / "metadata").read_text())


def newest_record(folder: Path) -> dict[str, Any] | None:
    """The record of the newest checkpoint in a folder that has a whole one."""
    for step in steps_in(folder):
        with contextlib.suppress(OSError, ValueError):
            return read_record(folder / str(step))
    return None


def enumerate_leaves(tree: Any) -> list[tuple[str, Any]]:
    """Leaves with short sortable names; the structure comes from the running program."""
    return [(f"{index:04d}", leaf) for index, leaf in enumerate(jax.tree.leaves(tree))]


def checksum(tree: Any) -> str:
    """Digest over types, shapes and bytes of all leaves."""
    digest = hashlib.blake2b(digest_size=16)
    for _, leaf in enumerate_leaves(tree):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
