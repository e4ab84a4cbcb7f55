"""distill-export: round trips, what is lost, what is refused, and nothing half written."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill_cli.cli import export as cli
from distill_cli.core.coreset_io import load_coreset, save_coreset
from distill_cli.core.types import Coreset
from distill_cli.data.config import PreprocessConfig
from distill_cli.data.preprocess import Preprocess, fit
from distill_cli.errors import StorageError, UserError
from distill_cli.tasks.export import Config, Source, run

rng = np.random.default_rng(0)
NAMES = ["cat", "a dog/ü", "fox"]
LABELS = (np.eye(3)[[0, 0, 1, 2, 2]] + 0.1 * rng.normal(size=(5, 3))).astype(np.float32)


def raw(channels: int = 3) -> np.ndarray:
    smooth = rng.normal(size=(60, 2, 2, channels)).repeat(3, 1).repeat(3, 2)
    noisy = 128 + 40 * smooth + 10 * rng.normal(size=(60, 6, 6, channels))
    return noisy.clip(0, 255).astype(np.uint8)


def coreset_folder(folder: Path, scale: float = 1.0, channels: int = 3, **settings) -> Path:
    """A finished run's coreset folder: real images, made `scale` times larger in whitened space."""
    images = raw(channels)
    fitted = fit(PreprocessConfig(**{"zca": 0.1, **settings}), images, 255.0)
    folder.mkdir(parents=True, exist_ok=True)
    learned = scale * np.asarray(fitted.transform(images[:5]))
    coreset = Coreset(learned.astype(np.float32), LABELS, np.float64(1.25))
    save_coreset(folder / "coreset.npz", coreset, NAMES, 5e-3)
    fitted.save(folder / "preprocess.npz")
    record = {"command": "distill dataset=cifar10", "dataset": "cifar10", "class_names": NAMES}
    (folder.parent / "result.json").write_text(json.dumps(record))
    return folder


def export(path: Path, format: str, out: Path | None = None, **options) -> dict:
    source = Source(str(path))
    return run(Config(source, format, None if out is None else str(out), **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("format", ["npz", "safetensors", "torch"])
def test_lossless_formats_come_back_bit_for_bit(tmp_path, format):
    if format == "safetensors":
        pytest.importorskip("safetensors")
    place = coreset_folder(tmp_path / "run" / "coreset", 3.0)
    before = load_coreset(place)
    done = export(place.parent, format)  # a run folder
    assert Path(done["folder"]) == place / f"export-{format}"
    after = load_coreset(done["folder"])
    assert after.format == {"npz": "distill"}.get(format, format)
    for one, two in zip(before.coreset, after.coreset, strict=True):
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one, two)
    assert (after.class_names, after.ridge) == (tuple(NAMES), 5e-3)
    transform = Path(done["folder"]) / "preprocess.npz"
    assert transform.read_bytes() == (place / "preprocess.npz").read_bytes()
    assert (Path(done["folder"]) / "load.py").is_file()
    again = export(done["folder"], "npz", tmp_path / "again")  # a chain keeps where it comes from
    assert again["command"] == "distill dataset=cifar10"
    np.testing.assert_array_equal(
        load_coreset(tmp_path / "again").coreset.images, before.coreset.images
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_within_eight_bits(tmp_path, channels):
    place = coreset_folder(tmp_path / "run" / "coreset", channels=channels)
    done = export(place, "images", tmp_path / "out")
    assert done["clipped"] == {"values": 0, "of": 5 * 36 * channels, "rescaled": False}
    assert done["warnings"] == []
    found = load_coreset(tmp_path / "out")
    fitted, before = Preprocess.load(place / "preprocess.npz"), load_coreset(place)
    assert found.pixels and found.coreset.images.shape[-1] == channels
    error = found.coreset.images - fitted.invert(np.asarray(before.coreset.images))
    assert abs(error).max() <= 0.5 / 255 + 1e-5
    np.testing.assert_array_equal(found.coreset.labels, before.coreset.labels)
    assert (found.class_names, found.ridge) == (tuple(NAMES), 5e-3)
    folders = sorted(item.name for item in (tmp_path / "out").iterdir() if item.is_dir())
    assert folders == ["0_cat", "1_a_dog_ü", "2_fox"]
    back = export(tmp_path / "out", "npz", tmp_path / "back")  # preprocessed again on the way
    images = load_coreset(back["folder"]).coreset.images
    expected = fitted.transform(np.round(255 * fitted.invert(np.asarray(before.coreset.images))))
    np.testing.assert_allclose(images, expected, atol=1e-3)


def test_clipped_values_are_counted(tmp_path):
    place = coreset_folder(tmp_path / "run" / "coreset", 6.0)
    done = export(place, "images", tmp_path / "out")
    fitted = Preprocess.load(place / "preprocess.npz")
    pixels = fitted.invert(np.asarray(load_coreset(place).coreset.images))
    edge = 0.5 / 255
    assert done["clipped"]["values"] == ((pixels < -edge) | (pixels > 1 + edge)).sum() > 10
    assert f"{done['clipped']['values']} of 540 pixel values" in done["warnings"][0]
    with Image.open(tmp_path / "out" / "0_cat" / "0.png") as picture:
        shown = np.asarray(picture)
    np.testing.assert_array_equal(shown, np.rint(255 * pixels[0].clip(0, 1)))


def test_the_per_image_step_is_said_to_lose_contrast(tmp_path):
    place = coreset_folder(tmp_path / "run" / "coreset", per_image=True)
    done = export(place, "images", tmp_path / "out")
    assert done["clipped"]["rescaled"] and "neither brightness nor contrast" in done["warnings"][-1]


def test_foreign_coresets_need_a_transform_for_pictures(tmp_path):
    place = coreset_folder(tmp_path / "run" / "coreset")
    file = tmp_path / "foreign" / "ConvNet_ssize5_zca_nol_noaug_ckpt3.npz"
    file.parent.mkdir()
    with np.load(place / "coreset.npz") as arrays:
        np.savez(file, images=arrays["images"], labels=arrays["labels"])
    with pytest.raises(UserError, match=r"no preprocess\.npz beside it"):
        export(file, "images")
    assert [item.name for item in file.parent.iterdir()] == [file.name]
    export(file, "images", transform=str(place / "preprocess.npz"))
    done = export(file, "npz", tmp_path / "out")
    assert not (tmp_path / "out" / "preprocess.npz").exists()
    assert "preprocess=kip" in done["command"]
    assert "preprocess=kip" in (tmp_path / "out" / "README.md").read_text()
    assert load_coreset(tmp_path / "out").class_names == ("0", "1", "2")
    with pytest.raises(UserError, match="not a saved preprocessing"):
        export(file, "npz", tmp_path / "other", transform=str(file))


def test_targets_in_the_way(tmp_path):
    place = coreset_folder(tmp_path / "run" / "coreset")
    out = tmp_path / "out"
    export(place, "npz", out)
    before = (out / "coreset.npz").read_bytes()
    with pytest.raises(UserError, match="overwrite=true replaces it"):
        export(place, "torch", out)
    assert (out / "coreset.npz").read_bytes() == before
    export(place, "torch", out, overwrite=True)
    assert (out / "coreset.pt").is_file() and not (out / "coreset.npz").exists()
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("x")
    for target in (precious, place, precious / "thesis.tex"):
        with pytest.raises(UserError, match=r"no earlier export|thesis.tex: a file"):
            export(place, "npz", target, overwrite=True)
    assert (precious / "thesis.tex").read_text() == "x"


def test_a_failed_export_leaves_the_former_one_and_no_rubbish(tmp_path, monkeypatch):
    place = coreset_folder(tmp_path / "run" / "coreset")
    out = tmp_path / "target" / "out"
    export(place, "npz", out)
    before = (out / "coreset.npz").read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("distill_cli.tasks.export.readme", full)
        with pytest.raises(StorageError, match="No space left"):
            export(place, "torch", out, overwrite=True)
    assert (out / "coreset.npz").read_bytes() == before
    assert [item.name for item in out.parent.iterdir()] == ["out"]


def command(monkeypatch, capsys, *arguments: str) -> tuple[int, str, str]:
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    monkeypatch.setattr(sys, "argv", ["distill-export", *arguments])
    code = 0
    try:
        cli.main()
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    return code, *capsys.readouterr()


def test_command(tmp_path, monkeypatch, capsys):
    place = coreset_folder(tmp_path / "a run, ü" / "coreset", 6.0)
    monkeypatch.chdir(tmp_path)
    code, out, err = command(monkeypatch, capsys, f"coreset={place}", "format=images", "out=x")
    assert code == 0, err
    assert "exported 5 images 6x6x3, 3 classes, as images: x" in out
    assert err.startswith("warning: ") and "were clipped" in err
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a run, ü", "x"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "coreset: missing"),
        (["coreset=nothing"], "no such file or folder"),
        (["coreset=c", "format=pt"], "format=pt: unknown"),
        (["coreset=c", "coreset.format=rfat"], "coreset.format=rfat: unknown (did you mean rfad?)"),
        (["coreset=c", "coreset.index=1"], "holds one coreset only"),
        (["coreset=c", "overwrit=true"], "did you mean overwrite?"),
        (["coreset=c", "overwrite=maybe"], "overwrite=maybe: must be true or false"),
        (["coreset=c", "out=/dev/null/x"], "/dev/null"),
    ],
)
def test_wrong_input(tmp_path, monkeypatch, capsys, arguments, message):
    coreset_folder(tmp_path / "c")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code, _, err = command(monkeypatch, capsys, *arguments)
    assert code in (1, 2)
    assert message in err and len(err.strip().splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before
