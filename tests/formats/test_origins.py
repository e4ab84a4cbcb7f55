"""Whose a foreign coreset is, and what is said where it is measured in another way than theirs."""

import json
from pathlib import Path

import flax.serialization
import numpy as np
import pytest

from distill_cli.config import config_dir
from distill_cli.core.coreset_io import load_coreset
from distill_cli.formats.origins import ORIGINS, not_theirs

PROTOCOLS = {p.stem for p in (config_dir() / "evaluation").glob("*.yaml")} - {"all", "none"}
DATA = Path(__file__).parent / "data"
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(10, 8, 8, 1)).astype(np.float32)
LABELS = np.eye(10, dtype=np.float32) - np.float32(0.1)
SMALL = ("dataset=digits", "evaluation.limit=60", "evaluation.baseline=false",
         "architecture.width=8", "architecture.depth=2")  # fmt: skip


def frepo_checkpoint(path: Path, **more: object) -> Path:
    params = {"x_proto": IMAGES, "y_proto": LABELS, **more}
    path.write_bytes(flax.serialization.msgpack_serialize({"params": params}))
    return path


def test_every_reader_says_whose_its_files_are(tmp_path: Path):
    for name in ("res_DM_digits_ConvNet_1ipc.pt", "res_DSA_x.pt", "my.pt"):
        (tmp_path / name).write_bytes((DATA / "dc_tiny.pt").read_bytes())
    np.savez(tmp_path / "ConvNet_ssize10_nozca_l_aug_ckpt1.npz", images=IMAGES, labels=LABELS)
    rows = {"images": IMAGES.transpose(0, 3, 1, 2), "labels": LABELS, "k": 0.0, "jit": 5e-3}
    np.savez(tmp_path / "best.npz", **rows)
    np.savez(tmp_path / "step1.npz", image=IMAGES, label=LABELS)
    np.savez(tmp_path / "anybody.npz", images=IMAGES, labels=LABELS)
    frepo_checkpoint(tmp_path / "checkpoint_1")
    frepo_checkpoint(tmp_path / "checkpoint_2", log_temp=np.float32(0))
    found = {path.name: load_coreset(path).origin for path in tmp_path.iterdir()}
    assert found == {
        "res_DM_digits_ConvNet_1ipc.pt": "DM", "res_DSA_x.pt": "DSA", "my.pt": "DC, DSA or DM",
        "ConvNet_ssize10_nozca_l_aug_ckpt1.npz": "KIP", "best.npz": "RFAD", "step1.npz": "FRePo",
        "anybody.npz": "", "checkpoint_1": "FRePo", "checkpoint_2": "RCIG",
    }  # fmt: skip
    assert load_coreset(DATA).origin == "MTT"
    assert {name for name in found.values() if name} < set(ORIGINS)


def test_what_is_said_of_protocols():
    assert not_theirs("FRePo", ["frepo"]) is None
    assert not_theirs("FRePo", ["frepo", "held_out"]) is None
    assert not_theirs("", ["frepo"]) is None
    said = not_theirs("FRePo", ["krr_nngp", "frepo", "dc"])
    assert said is not None and said.startswith("krr_nngp, dc is not how FRePo's authors measure")
    assert "(they use frepo)" in said
    for name in PROTOCOLS:  # no protocol of this program is RCIG's or MTT's
        if name != "held_out":
            assert "they have" in str(not_theirs("RCIG", [name]))
            assert "they have" in str(not_theirs("MTT", [name]))


def test_own_protocols_exist():
    assert {name for origin in ORIGINS.values() for name in origin.protocols} <= set(PROTOCOLS)


@pytest.mark.parametrize(
    ("more", "said"), [({}, "they use frepo"), ({"log_temp": np.float32(0)}, "images doubled")]
)
def test_the_command_says_it_once_and_records_whose_it_is(command, tmp_path, more, said):
    path = frepo_checkpoint(tmp_path / "checkpoint_9", **more)
    done = command("distill-evaluate", f"coreset={path}", "evaluation=[krr_nngp]", *SMALL)
    assert done.code == 0, done.err
    lines = [line for line in done.err.splitlines() if "authors measure" in line]
    assert len(lines) == 1 and said in lines[0]
    (file,) = (tmp_path / "outputs" / "evaluate").rglob("evaluation.json")
    assert json.loads(file.read_text())["coreset"]["origin"] == ("RCIG" if more else "FRePo")
