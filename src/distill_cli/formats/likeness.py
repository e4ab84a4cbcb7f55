"""Which kind of preprocessing images look like, from statistics alone.

A coreset measured under a preprocessing it was not made for gives a number that means nothing, and
nothing in the arrays says so. Five kinds can be distinguished: raw levels (0 to 255), pixels in
[0, 1], standardised, unit length per image, and whitened. The families of whitening (RFAD, KIP,
FRePo, MTT) look alike here.
"""

from typing import NamedTuple

import numpy as np

WHITE = 0.65  # below this share of the standardised images' correlation, images count as whitened
UNIT = 2.5  # longest median norm of images of unit length; standardised ones have about sqrt(d)
SMALLEST = 64  # numbers in an image from which sqrt(d) is well above UNIT
SCALE, CORRELATION, FAR = 1.6, 0.2, 4.0

TRY = {
    "levels": "divide the images by 255 and try preprocess=none",
    "pixels": "try preprocess=none",
    "standardised": "try preprocess=dc",
    "unit": "try preprocess=dc preprocess.per_image=true",
    "whitened": "try preprocess=rfad, kip or frepo, with preprocess.zca=0.1 where the dataset has "
    "none (how they whiten cannot be told from the images)",
}
WORDS = {
    "levels": "raw pixels from 0 to 255", "pixels": "pixels in [0, 1]",
    "standardised": "standardised channels without whitening",
    "unit": "images of unit length without whitening", "whitened": "ZCA-whitened images",
}  # fmt: skip


class Traits(NamedTuple):
    """rms of all values; their mean, least and largest; median norm of an image; correlation of
    neighbouring pixels (uncentred, mean of both directions); numbers in an image."""

    rms: float
    mean: float
    low: float
    high: float
    norm: float
    neighbours: float
    size: int


def traits(images: np.ndarray) -> Traits:
    """Of (n, h, w, c), accumulated in float64."""
    x = np.asarray(images, np.float64)
    squares = np.square(x).sum((1, 2, 3))
    pairs = [(x[:, 1:], x[:, :-1]), (x[:, :, 1:], x[:, :, :-1])]
    shares = [
        float((a * b).sum() / np.sqrt(np.square(a).sum() * np.square(b).sum() + 1e-300))
        for a, b in pairs
        if a.size
    ]
    return Traits(
        float(np.sqrt(np.square(x).mean())), float(x.mean()), float(x.min()), float(x.max()),
        float(np.median(np.sqrt(squares))), float(np.mean(shares)) if shares else 0.0, x[0].size,
    )  # fmt: skip


def looks_like(found: Traits, standardised: float) -> str:
    """The kind; standardised: `neighbours` of the training images after standardisation."""
    if found.low >= -0.5 and found.high > 30:
        return "levels"
    if found.low >= -0.01 and found.high <= 1.01 and found.mean > 0.02:
        return "pixels"
    if found.norm < UNIT and found.size >= SMALLEST:
        return "unit"
    return "whitened" if found.neighbours < WHITE * standardised else "standardised"


def kind(standardize: bool, per_image: bool, whiten: bool) -> str:
    """The kind that a preprocessing with these steps gives."""
    if whiten:
        return "whitened"
    return "unit" if per_image else "standardised" if standardize else "pixels"


def doubt(coreset: np.ndarray, train: np.ndarray, plain: np.ndarray, asked: str) -> str | None:
    """Why a coreset does not fit the preprocessing asked for; None where it does.

    coreset: its images; train: some training images as preprocessed; plain: the same ones as
    pixels; asked: the kind of the preprocessing.
    """
    flat = np.asarray(coreset).reshape(len(coreset), -1)
    if constant := int((flat == flat[:, :1]).all(1).sum()):
        return f"{constant} of its {len(flat)} images are of one value throughout: nothing to see"
    found, expected = traits(coreset), traits(train)
    pixels = np.asarray(plain, np.float64)
    centred = pixels - pixels.mean((0, 1, 2))
    centred /= np.maximum(pixels.std((0, 1, 2)), 1e-8)
    likely = looks_like(found, traits(centred).neighbours)
    ratio = found.rms / max(expected.rms, 1e-12)
    apart = abs(found.neighbours - expected.neighbours) > CORRELATION
    numbers = (
        f"rms {found.rms:.3g} and neighbour correlation {found.neighbours:.2f}, training images "
        f"under this preprocessing {expected.rms:.3g} and {expected.neighbours:.2f}"
    )
    if likely != asked and (apart or not 1 / SCALE < ratio < SCALE):
        return f"looks like {WORDS[likely]}, not {WORDS[asked]} ({numbers}); {TRY[likely]}"
    if not 1 / FAR < ratio < FAR:
        return f"has another scale than the training images ({numbers})"
    return None
