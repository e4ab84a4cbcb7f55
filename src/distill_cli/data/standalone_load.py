"""A distilled coreset: a few synthetic images that stand in for a whole training set.

This file needs Python and NumPy (and Pillow, to read picture files), and lies beside the two
files it reads:

    coreset.npz      images, labels, log_temperature, class_names
    preprocess.npz   the transform between pixels and the space that the images live in

From a shell, `python load.py` prints what is inside. From Python:

    import load
    coreset = load.load()     # .images .labels .hard_labels .log_temperature .class_names
    pixels = load.to_pixels(coreset.images)       # for looking at them; clip to [0, 1] to show
    x_new = load.preprocess(new_images)           # new images, for a model fitted on the coreset
    x_new = load.preprocess(["a.jpg", "b.png"])   # picture files, read and resized as in the run

With PyTorch, channels first, regressing on the soft labels as the coreset was made for:

    import torch, load
    coreset = load.load()
    x = torch.from_numpy(coreset.images).permute(0, 3, 1, 2).contiguous()      # NHWC -> NCHW
    y = torch.from_numpy(coreset.labels)                                       # (n, classes)
    for step in range(1000):
        loss = torch.nn.functional.mse_loss(net(x), y)
        ...      # or cross_entropy(net(x), torch.from_numpy(coreset.hard_labels)), one label each
    x_test = torch.from_numpy(load.preprocess(test_images)).permute(0, 3, 1, 2)
    predicted = net(x_test).argmax(1)

The images are NOT pixels: they live in the preprocessed space. A model fitted on them must see new
images through `preprocess`, with exactly the numbers of preprocess.npz:

    x = (pixel / pixel_max - mean) / std     per channel
    x = (x - mean(x)) / |x - mean(x)|        per image, only where per_image is set
    x = x W,   W = U diag(s)^(-1/2) U^T      whitening, only where U = zca_vectors, s = zca_values

with x flattened as (height, width, channel) in the last line. Labels are regression
targets, one-hot minus 1/classes unless they were learned. Where log_temperature is not 0, class
probabilities of kernel regression are softmax(exp(log_temperature) * output).
"""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

HERE = Path(__file__).resolve().parent
GREY = ("1", "L", "LA")
CHUNK = 512  # images handled at a time in float64
NO_CONTRAST = 1e-4  # an image whose norm is below this after mean removal becomes zero
HALF_LEVEL = 0.5 / 255  # nearer to [0, 1] than this is rounding, and cannot be seen


class Coreset(NamedTuple):
    """images (n, h, w, c) float32, labels (n, classes) float32, hard_labels (n,) int64."""

    images: np.ndarray
    labels: np.ndarray
    hard_labels: np.ndarray
    log_temperature: float
    class_names: tuple[str, ...]


def load(folder: str | Path = HERE) -> Coreset:
    """The coreset of `folder`; hard_labels is the largest entry of each row of labels."""
    with np.load(Path(folder) / "coreset.npz", allow_pickle=False) as data:
        arrays = {name: data[name] for name in data.files}
    labels = arrays["labels"]
    names = arrays.get("class_names", np.arange(labels.shape[1]).astype(str))
    return Coreset(
        images=arrays["images"],
        labels=labels,
        hard_labels=labels.argmax(axis=1).astype(np.int64),
        log_temperature=float(arrays.get("log_temperature", 0.0)),
        class_names=tuple(str(name) for name in names),
    )


def read_transform(folder: str | Path = HERE) -> dict[str, Any]:
    """The arrays of preprocess.npz by name."""
    with np.load(Path(folder) / "preprocess.npz", allow_pickle=False) as data:
        return {name: data[name] for name in data.files}


def preprocess(
    pixels: Any,
    pixel_max: float | None = None,
    transform: dict[str, Any] | None = None,
) -> np.ndarray:
    """The exact transform of new images (n, h, w, c); float32, same shape.

    pixels: an array, or picture files or Pillow images, one or a list, which are read and resized
    as the run did (`read_pictures`). pixel_max is the value of full brightness. Left out, arrays of
    integers count as raw (255 for 8-bit images; the value in preprocess.npz) and arrays of floats
    as [0, 1]. Floats that still hold raw values need it: scikit-learn's digits are floats from 0 to
    16, pixel_max=16. Raises ValueError, one line, for what cannot be such images.
    """
    p = read_transform() if transform is None else transform
    if pixel_max is not None and not (isinstance(pixel_max, (int, float, np.number))
                                      and 0 < pixel_max < np.inf):  # fmt: skip
        raise ValueError(f"pixel_max={pixel_max!r}: must be a number above 0")
    if _pictures(pixels):
        pixels = read_pictures(pixels, p)
    pixels = _four_axes(pixels, p)
    raw = _check_values(pixels, float(p.get("pixel_max", 255.0)), pixel_max)
    if pixel_max is None:
        pixel_max = float(p.get("pixel_max", 255.0)) if raw else 1.0
    mean, std = _statistics(p)

    def forward(x: np.ndarray) -> np.ndarray:
        x = (x / pixel_max - mean) / std
        return _whiten(_unit_images(x) if _per_image(p) else x, p, power=-0.5)

    return _in_chunks(forward, pixels)


def to_pixels(images: np.ndarray, transform: dict[str, Any] | None = None) -> np.ndarray:
    """Back to pixels: float32 (n, h, w, c), 0 is black and 1 full brightness, NOT clipped.

    Distilled images may lie outside [0, 1]; clip before showing. Where the transform includes the
    per-image step, an image's own offset and scale are lost: they are then chosen so that each
    image fills [0, 1], and preprocess(to_pixels(x)) gives x up to that offset and scale.
    """
    p = read_transform() if transform is None else transform
    mean, std = _statistics(p)

    def backward(x: np.ndarray) -> np.ndarray:
        x = _whiten(x, p, power=0.5)
        return (_fill_range(x, mean, std) if _per_image(p) else x) * std + mean

    return _in_chunks(backward, _four_axes(images, p))


def read_pictures(sources: Any, transform: dict[str, Any] | None = None) -> np.ndarray:
    """Picture files or Pillow images, one or a list, as the run read its own: raw integers
    (n, h, w, c) from 0 to pixel_max. Needs Pillow.

    Upright by the camera's mark; transparent pixels on the run's background; grey or in colour as
    the run's images; resized to their size where the run resized. Raises ValueError otherwise.
    """
    p = read_transform() if transform is None else transform
    if "image_shape" not in p:
        raise ValueError("preprocess.npz does not say the images' size; give arrays")
    height, width, channels = (int(n) for n in p["image_shape"])
    background = tuple(int(n) for n in p.get("background", (255, 255, 255)))
    found = []
    several = isinstance(sources, list | tuple | np.ndarray)
    for source in sources if several else [sources]:
        try:
            image = with_channels(read_picture(source, background), channels)
        except Exception as error:  # Pillow raises every kind there is
            raise ValueError(f"{source}: cannot be read as a picture ({error})") from None
        if bool(p.get("resized", False)):
            image = resize(image, height)
        if image.shape != (height, width, channels):
            raise ValueError(
                f"{source}: {image.shape[1]}x{image.shape[0]} pixels (width x height), but the "
                f"images of the run are {width}x{height} and it resized none; resize it"
            )
        found.append(image)
    levels = np.stack(found)
    most = float(p.get("pixel_max", 255.0))
    return levels if most == 255 else np.rint(levels * (most / 255)).astype(np.uint8)


def read_picture(source: Any, background: tuple[int, ...] = (255, 255, 255)) -> np.ndarray:
    """uint8 (height, width, 1 or 3) of a file or a Pillow image: turned upright by the camera's
    mark, transparent pixels on the background, 16 bits rounded to 8. Needs Pillow; what it raises
    for a file that it cannot read comes through."""
    from PIL import Image, ImageOps

    if isinstance(source, str | Path):
        with Image.open(source) as opened:
            opened.load()
            return read_picture(opened, background)
    mode, clear = source.mode, "transparency" in source.info or source.mode in ("LA", "PA", "RGBA")
    picture = ImageOps.exif_transpose(source)
    if mode.startswith("I"):  # 16 bits, which some versions of Pillow call 32
        deep = np.asarray(picture).astype(np.float64)
        if deep.min() < 0 or deep.max() > 65535:
            raise ValueError(f"more than 16 bits per pixel (mode {mode}); convert it to 8 bits")
        return np.rint(deep / 257).astype(np.uint8)[..., None]
    if mode == "F":
        raise ValueError("floats (mode F); convert it to 8 bits")
    if clear:
        ground = Image.new("RGBA", picture.size, (*background, 255))
        picture = Image.alpha_composite(ground, picture.convert("RGBA")).convert("RGB")
    grey = mode in GREY and (not clear or len(set(background)) == 1)
    image = np.asarray(picture.convert("L" if grey else "RGB"))
    return image if image.ndim == 3 else image[..., None]


def with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """A picture in as many channels as the others: grey ones repeated, colours as luminance."""
    if image.shape[-1] == channels:
        return image
    if channels == 1:
        from PIL import Image

        return np.asarray(Image.fromarray(image).convert("L"))[..., None]
    return np.broadcast_to(image, (*image.shape[:2], channels))


def resize(image: np.ndarray, size: int | None) -> np.ndarray:
    """One image (height, width, channel), uint8 or float32, to (size, size, channel): straight to a
    square, with Pillow's bilinear filter, which widens with the scale, so that shrinking is
    antialiased."""
    if size is None or image.shape[:2] == (size, size):
        return image
    from PIL import Image

    def channel(values: np.ndarray) -> np.ndarray:
        picture = Image.fromarray(np.ascontiguousarray(values))
        return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))

    return np.stack([channel(image[..., c]) for c in range(image.shape[-1])], axis=-1)


def _pictures(value: Any) -> bool:
    one = value[0] if isinstance(value, list | tuple | np.ndarray) and len(value) else value
    return isinstance(one, str | Path) or hasattr(one, "convert")


def _four_axes(images: Any, p: dict[str, Any]) -> np.ndarray:
    images = np.asarray(images)
    if images.ndim == 3 and images.shape[-1] != np.size(p.get("std", 1.0)):
        images = images[..., None]  # greyscale files often come without a channel axis
    channels = np.size(p.get("std", 1.0))
    size = tuple(int(n) for n in p["image_shape"]) if "image_shape" in p else None
    wanted = f"(n, {size[0]}, {size[1]}, {size[2]})" if size else f"(n, height, width, {channels})"
    if images.ndim == 4 and (images.shape[1:] == size or (not size and _fits(images, channels))):
        return images
    hint = ""
    if images.ndim == 3 or (size and images.shape == size[:2]):
        hint = "; one image: images[None]"
    elif images.ndim == 4 and images.shape[1] == channels != images.shape[-1]:
        hint = "; channels come last: images.transpose(0, 2, 3, 1)"
    elif images.ndim == 4 and images.shape[-1] == channels:
        hint = "; resize them, or give picture files or Pillow images, which are resized as the run"
        hint += " did"
    raise ValueError(f"images must be {wanted}, not {images.shape}{hint}")


def _fits(images: np.ndarray, channels: int) -> bool:
    return channels == 1 or images.shape[-1] == channels


def _check_values(pixels: np.ndarray, most: float, given: float | None) -> bool:
    """Whether they count as raw integers; ValueError for values that cannot be such pixels."""
    kind = pixels.dtype.kind
    if kind not in "iuf":
        raise ValueError(f"images must be integers or floats, not {pixels.dtype}")
    if not pixels.size:
        return kind != "f"
    low, high = pixels.min(), pixels.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("images contain NaN or infinite values")
    said = f"{pixels.dtype} from {low:g} to {high:g}"
    if given is not None:
        return kind != "f"
    if kind == "f":
        if low >= 0 and high > 2:
            full = most if high <= most else high
            raise ValueError(f"{said} are no floats in [0, 1]; give their full brightness, "
                             f"e.g. pixel_max={full:g}, or integers")  # fmt: skip
        if high < 0:
            raise ValueError(f"{said} are no pixels: floats count as [0, 1]")
        return False
    if low < 0 or high > most:
        raise ValueError(f"{said}: integers count as raw pixels from 0 to {most:g}; "
                         "give pixel_max, or floats in [0, 1]")  # fmt: skip
    if high == 1 and most > 1:
        raise ValueError(f"{said}: integers count as raw pixels from 0 to {most:g}, and these are "
                         "nearly black; give pixel_max=1 for full brightness at 1")  # fmt: skip
    return True


def _statistics(p: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(p.get("mean", 0.0), np.float64), np.asarray(p.get("std", 1.0), np.float64)


def _per_image(p: dict[str, Any]) -> bool:
    return bool(p.get("per_image", False))


def _unit_images(x: np.ndarray) -> np.ndarray:
    x = x - x.mean(axis=(1, 2, 3), keepdims=True)
    norm = np.sqrt(np.square(x).sum(axis=(1, 2, 3), keepdims=True))
    return np.where(norm > NO_CONTRAST, x / np.maximum(norm, NO_CONTRAST), 0.0)


def _fill_range(x: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    # One offset and scale per image, so that every channel stays inside [0, 1] afterwards.
    low, high = np.max(-mean / std), np.min((1 - mean) / std)
    least = x.min(axis=(1, 2, 3), keepdims=True)
    span = x.max(axis=(1, 2, 3), keepdims=True) - least
    return low + (x - least) * (high - low) / np.where(span > 0, span, 1.0)


def _whiten(x: np.ndarray, p: dict[str, Any], power: float) -> np.ndarray:
    # x U diag(s)^power U^T: power -1/2 whitens, +1/2 undoes it.
    if "zca_vectors" not in p:
        return x
    u = p["zca_vectors"].astype(np.float64)
    s = p["zca_values"].astype(np.float64)
    return (((x.reshape(len(x), -1) @ u) * s**power) @ u.T).reshape(x.shape)


def _in_chunks(function: Any, x: np.ndarray) -> np.ndarray:
    out = np.empty(x.shape, np.float32)
    for start in range(0, len(x), CHUNK):
        out[start : start + CHUNK] = function(x[start : start + CHUNK].astype(np.float64))
    return out


def main() -> None:
    """Print shapes, ranges, classes and the SHA-256 of coreset.npz (it stands in card.md)."""
    for name in ("coreset.npz", "preprocess.npz"):
        if not (HERE / name).is_file():
            raise SystemExit(
                f"load.py: no {name} in {HERE}; as a program it describes the coreset folder of a "
                "run, or an export with format=npz; its functions need preprocess.npz alone"
            )
    coreset = load()
    pixels = to_pixels(coreset.images)
    outside = float(np.mean((pixels < -HALF_LEVEL) | (pixels > 1 + HALF_LEVEL)))
    counts = np.bincount(coreset.hard_labels, minlength=len(coreset.class_names))
    print(f"images           {coreset.images.shape} {coreset.images.dtype}", end="  ")
    print(f"preprocessed values {coreset.images.min():.3f} .. {coreset.images.max():.3f}")
    print(f"as pixels        {pixels.min():.3f} .. {pixels.max():.3f}", end="  ")
    print(f"{100 * outside:.1f} % outside [0, 1]")
    print(f"labels           {coreset.labels.shape} {coreset.labels.dtype}", end="  ")
    print(f"targets {coreset.labels.min():.3f} .. {coreset.labels.max():.3f}")
    print(f"log_temperature  {coreset.log_temperature:.4f}")
    print(f"classes          {len(coreset.class_names)}")
    for name, count in zip(coreset.class_names, counts, strict=True):
        print(f"  {count:4d}  {name}")
    print(f"sha256           {hashlib.sha256((HERE / 'coreset.npz').read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
