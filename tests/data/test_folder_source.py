"""The user's own image files: layouts, colours, sizes, and everything that can be wrong."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill_cli.data.config import DatasetConfig
from distill_cli.data.sources import load_dataset
from distill_cli.errors import UserError


def picture(path: Path, value: int = 0, size: tuple[int, int] = (6, 5), mode: str = "RGB") -> None:
    """A picture of one grey value; size is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).convert(mode).save(path)


def load(root: Path, **changes: object):
    return load_dataset(
        DatasetConfig(**{"name": "own", "source": "folder", "path": str(root), **changes})
    )


@pytest.fixture
def two_splits(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    for split, offset in (("train", 0), ("test", 100)):
        for label, name in enumerate(("cat", "dog", "emu")):
            for index in range(4):
                picture(root / split / name / f"{index}.png", offset + 10 * label + index)
    return root


def test_train_and_test_folders(two_splits: Path):
    dataset = load(two_splits)
    assert dataset.class_names == ("cat", "dog", "emu")
    assert dataset.pixel_max == 255
    assert dataset.train.images.shape == dataset.test.images.shape == (12, 5, 6, 3)
    values = dataset.train.images[:, 0, 0, 0]
    assert np.array_equal(values, 10 * dataset.train.labels + np.tile(np.arange(4), 3))
    assert np.array_equal(dataset.test.images, dataset.train.images + 100)


def test_classes_alone_are_split_by_fraction(two_splits: Path):
    dataset = load(two_splits / "train", test_fraction=0.25)
    assert np.bincount(dataset.train.labels).tolist() == [3, 3, 3]
    assert np.bincount(dataset.test.labels).tolist() == [1, 1, 1]
    everything = np.concatenate([dataset.train.images, dataset.test.images])[:, 0, 0, 0]
    assert sorted(everything.tolist()) == [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]


def test_a_class_may_be_called_train(tmp_path: Path):
    for name in ("bus", "train"):
        for index in range(3):
            picture(tmp_path / "v" / name / f"{index}.png")
    assert load(tmp_path / "v").class_names == ("bus", "train")


def test_hidden_and_other_files_are_passed_over(two_splits: Path):
    (two_splits / "train" / "cat" / ".hidden.png").write_bytes(b"")
    (two_splits / "train" / "cat" / "Thumbs.db").write_bytes(b"x")
    (two_splits / "train" / ".git").mkdir()
    (two_splits / ".DS_Store").write_bytes(b"x")
    picture(two_splits / "train" / "cat" / "9.JPG", 3)
    assert len(load(two_splits).train.labels) == 13


def test_grey_files_have_one_channel_and_mixed_ones_three(two_splits: Path):
    for file in two_splits.glob("*/*/*.png"):
        Image.open(file).convert("L").save(file)
    grey = load(two_splits)
    assert grey.image_shape == (5, 6, 1)
    picture(two_splits / "test" / "emu" / "c.png", 7, mode="RGB")
    mixed = load(two_splits)
    assert mixed.image_shape == (5, 6, 3)
    assert np.array_equal(mixed.train.images, np.repeat(grey.train.images, 3, axis=-1))


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA", "1"])
def test_other_modes_become_eight_bit_pixels(two_splits: Path, mode: str):
    picture(two_splits / "train" / "cat" / "0.png", 255, mode=mode)
    assert (load(two_splits).train.images[0] == 255).all()


def test_image_size_makes_mixed_sizes_square(two_splits: Path):
    picture(two_splits / "train" / "dog" / "1.png", 11, size=(40, 9))
    dataset = load(two_splits, image_size=4)
    assert dataset.image_shape == (4, 4, 3)
    assert (dataset.train.images[5] == 11).all()


def test_changed_file_is_seen_through_the_cache(two_splits: Path):
    before = load(two_splits)
    picture(two_splits / "train" / "cat" / "0.png", 250)
    after = load(two_splits)
    assert after.train.images[0, 0, 0, 0] == 250
    assert after.fingerprint != before.fingerprint
    assert load(two_splits).fingerprint == after.fingerprint


def mixed_sizes(root: Path) -> None:
    picture(root / "train" / "dog" / "1.png", size=(7, 5))


def empty_file(root: Path) -> None:
    (root / "train" / "dog" / "1.png").write_bytes(b"")


def truncated(root: Path) -> None:
    file = root / "train" / "dog" / "1.png"
    noise = np.random.RandomState(0).randint(0, 256, (5, 6, 3)).astype(np.uint8)
    Image.fromarray(noise).save(file)
    file.write_bytes(file.read_bytes()[:-60])


def text(root: Path) -> None:
    (root / "train" / "dog" / "1.png").write_text("not an image")


def empty_class(root: Path) -> None:
    (root / "train" / "fox").mkdir()


def unknown_test_class(root: Path) -> None:
    picture(root / "test" / "gnu" / "0.png")


def one_class(root: Path) -> None:
    for name in ("dog", "emu"):
        for split in ("train", "test"):
            (root / split / name).rename(root.parent / f"{split}-{name}")


def no_train(root: Path) -> None:
    (root / "train").rename(root.parent / "elsewhere")


def bare_test(root: Path) -> None:
    (root / "test").rename(root.parent / "elsewhere")
    (root / "test").mkdir()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (mixed_sizes, r"dog/1\.png is 7x5 .*0\.png is 6x5; dataset\.image_size="),
        (empty_file, r"1 of \d+ files cannot be read .*dog/1\.png \(empty file\)"),
        (truncated, r"files cannot be read .*dog/1\.png"),
        (text, r"files cannot be read .*dog/1\.png"),
        (empty_class, "train/fox: no images"),
        (unknown_test_class, "class gnu is not among .* cat, dog, emu"),
        (one_class, "at least 2 class folders .* cat"),
        (no_train, "has a folder test but no train"),
        (bare_test, "test: no class folders"),
    ],
)
def test_what_is_wrong_is_named(two_splits: Path, spoil, message: str):
    spoil(two_splits)
    with pytest.raises(UserError, match=message) as caught:
        load(two_splits)
    assert "\n" not in str(caught.value)


def test_all_bad_files_in_one_message(two_splits: Path):
    text(two_splits)
    (two_splits / "test" / "cat" / "0.png").write_bytes(b"")
    with pytest.raises(
        UserError, match=r"2 of \d+ files .*dog/1\.png.*cat/0\.png \(empty"
    ) as found:
        load(two_splits)
    assert "dataset.skip_unreadable=true" in str(found.value)


def test_bad_files_are_left_out_when_asked(two_splits: Path, caplog):
    whole = load(two_splits)
    row = int(np.flatnonzero(whole.train.labels == 1)[1])
    text(two_splits)
    found = load(two_splits, skip_unreadable=True)
    assert "left out, unreadable" in caplog.text
    np.testing.assert_array_equal(found.train.labels, np.delete(whole.train.labels, row))
    np.testing.assert_array_equal(found.train.images, np.delete(whole.train.images, row, 0))


def test_a_class_without_a_file_that_can_be_read(two_splits: Path):
    for path in (two_splits / "train" / "dog").iterdir():
        path.write_text("no image")
    with pytest.raises(UserError, match="none of the files of class dog"):
        load(two_splits, skip_unreadable=True)


def test_sixteen_bits_become_eight(two_splits: Path):
    levels = np.arange(30, dtype=np.uint16).reshape(5, 6) * 2000
    Image.fromarray(levels).save(two_splits / "train" / "cat" / "0.png")
    found = load(two_splits).train.images[0]
    np.testing.assert_array_equal(found[..., 0], np.rint(levels / 257).astype(np.uint8))


def test_transparency_lies_on_the_background(two_splits: Path):
    """Alpha blending by hand: over the colour, not the colour stored under it."""
    rgba = np.random.RandomState(0).randint(0, 256, (5, 6, 4)).astype(np.uint8)
    Image.fromarray(rgba).save(two_splits / "train" / "cat" / "0.png")
    alpha = rgba[..., 3:] / 255
    for settings, ground in (({}, (255, 255, 255)), ({"background": (10, 200, 30)},) * 2):
        ground = settings.get("background", ground)
        found = load(two_splits, **settings).train.images[0]
        want = rgba[..., :3] * alpha + np.array(ground) * (1 - alpha)
        np.testing.assert_allclose(found, want, atol=1.5)


@pytest.mark.parametrize("name", ["absent", "file.txt"])
def test_path_that_is_no_folder(tmp_path: Path, name: str):
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(UserError, match="no such folder"):
        load(tmp_path / name)
