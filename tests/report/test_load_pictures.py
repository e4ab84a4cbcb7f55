"""load.py of a run on photos reads new pictures as the run read its own; wrong arrays are named."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill_cli.data.config import DatasetConfig
from distill_cli.data.preprocess import Preprocess
from distill_cli.data.sources import load_dataset

rng = np.random.default_rng(0)


def photos(root: Path) -> None:
    """Two classes of pictures of odd sizes, with alpha, 16 bits, a palette, and a camera's mark."""
    for name in ("ant", "bee"):
        (root / name).mkdir(parents=True)
        for index in range(8):
            size = tuple(rng.integers(20, 60, 2))
            Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(
                root / name / f"{index}.png"
            )
        alpha = rng.integers(0, 256, (30, 41, 4), dtype=np.uint8)
        Image.fromarray(alpha).save(root / name / "alpha.png")
        Image.fromarray(alpha[..., :3]).quantize(16).save(root / name / "palette.png")
        Image.fromarray(rng.integers(0, 65536, (33, 20), dtype=np.uint16)).save(
            root / name / "deep.png"
        )
        mark = Image.Exif()
        mark[0x0112] = 6  # turned by 90 degrees
        Image.fromarray(alpha[..., :3]).save(root / name / "turned.jpg", exif=mark)


@pytest.fixture
def load(command, tmp_path):
    """load.py of a run on these photos, as a module."""
    photos(tmp_path / "photos")
    done = command(
        "distill", "dataset=folder", f"dataset.path={tmp_path}/photos", "dataset.name=own",
        "dataset.image_size=16", "dataset.background=[9,80,200]", "method=random",
        "evaluation=none", "progress=none", "preprocess.zca=0.1",
    )  # fmt: skip
    assert done.code == 0, done.err
    (place,) = tmp_path.rglob("load.py")
    spec = importlib.util.spec_from_file_location("load_of_photos", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pictures_are_read_as_in_the_run(load, tmp_path):
    data = load_dataset(
        DatasetConfig(
            name="own", source="folder", path=str(tmp_path / "photos"), image_size=16,
            background=(9, 80, 200), test_fraction=0.01, cache=False,
        )
    )  # fmt: skip
    raw = {image.tobytes(): image for split in (data.train, data.test) for image in split.images}
    files = sorted((tmp_path / "photos").rglob("*.*g"))
    assert len(files) == len(raw) == 24
    read = load.read_pictures(files)
    assert {image.tobytes() for image in read} == raw.keys()
    fitted = Preprocess.load(load.HERE / "preprocess.npz")
    want = np.asarray(fitted.transform(read))
    for given in (files, [str(file) for file in files], [Image.open(file) for file in files]):
        found = load.preprocess(given)
        np.testing.assert_allclose(found, want, atol=2e-6 * np.abs(want).max())
    np.testing.assert_array_equal(load.preprocess(files[3]), load.preprocess(files)[3:4])


def test_the_card_says_how(load):
    card = (load.HERE / "card.md").read_text()
    assert "Images are resized straight to 16 x 16 (Pillow's bilinear" in card
    assert "(9, 80, 200)" in card


def test_pictures_that_cannot_be_read_are_named(load, tmp_path):
    (tmp_path / "broken.png").write_text("no picture")
    good = next((tmp_path / "photos").rglob("0.png"))
    with pytest.raises(ValueError, match=r"broken\.png: cannot be read as a picture"):
        load.preprocess([good, tmp_path / "broken.png"])
    with pytest.raises(ValueError, match="cannot be read as a picture"):
        load.preprocess([Image.open(good), np.zeros((4, 4, 3), "u1")])
    np.testing.assert_array_equal(load.preprocess(np.array([str(good)])), load.preprocess(good))


IMAGE = rng.integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)
WRONG = {
    "floats to 255": (IMAGE.astype("f4"), "e.g. pixel_max=255"),
    "one image": (IMAGE[0], r"images\[None\]"),
    "channels first": (IMAGE.transpose(0, 3, 1, 2), r"transpose\(0, 2, 3, 1\)"),
    "another size": (np.zeros((1, 64, 64, 3), "u1"), "resize them, or give picture files"),
    "grey": (IMAGE[..., 0], r"must be \(n, 16, 16, 3\)"),
    "zeros and ones": ((IMAGE > 128).astype(int), "pixel_max=1"),
    "nan": (np.full((1, 16, 16, 3), np.nan), "NaN"),
    "negative": (-np.ones((1, 16, 16, 3)), "no pixels"),
    "negative integers": (IMAGE.astype(int) - 300, "raw pixels from 0 to 255"),
    "16 bits": (IMAGE.astype(int) * 257, "raw pixels from 0 to 255"),
    "text": (IMAGE.astype(str), "integers or floats"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_arrays_end_with_one_line(what, tmp_path):
    from distill_cli.data.standalone_load import preprocess

    array, message = WRONG[what]
    transform = {"mean": np.zeros(3), "std": np.ones(3), "image_shape": np.array([16, 16, 3])}
    with pytest.raises(ValueError, match=message) as found:
        preprocess(array, transform=transform)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    "array",
    [IMAGE, IMAGE / 255, (IMAGE / 255).astype("f4"), IMAGE.astype("i8"), IMAGE / 255 - 0.3,
     np.zeros_like(IMAGE)],
)  # fmt: skip
def test_right_arrays_pass(array):
    from distill_cli.data.standalone_load import preprocess

    transform = {"mean": np.zeros(3), "std": np.ones(3), "image_shape": np.array([16, 16, 3])}
    scale = 255 if array.dtype.kind in "iu" else 1
    np.testing.assert_allclose(preprocess(array, transform=transform), array / scale, atol=1e-6)


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf"), "a"])
def test_full_brightness_is_a_number_above_zero(wrong):
    from distill_cli.data.standalone_load import preprocess

    with pytest.raises(ValueError, match=r"pixel_max=.*must be a number above 0"):
        preprocess(IMAGE, wrong, {"mean": np.zeros(3), "std": np.ones(3)})


def test_given_full_brightness_is_believed():
    from distill_cli.data.standalone_load import preprocess

    transform = {"mean": np.zeros(1), "std": np.ones(1), "pixel_max": np.float64(16)}
    digits = np.linspace(0, 16, 64).reshape(1, 8, 8, 1)
    with pytest.raises(ValueError, match="pixel_max=16"):
        preprocess(digits, transform=transform)
    np.testing.assert_allclose(preprocess(digits, 16, transform), digits / 16, atol=1e-6)
    ones = np.ones((1, 8, 8), int)
    np.testing.assert_allclose(preprocess(ones, 1, transform), 1)
