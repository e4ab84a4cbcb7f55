"""Settings of a dataset and of its preprocessing. Imports no jax."""

from dataclasses import dataclass

from distill_cli.errors import UserError, shown


@dataclass(frozen=True)
class DatasetConfig:
    """One dataset: `configs/dataset/<name>.yaml` merged over these defaults.

    source: digits (embedded 8x8 digits), tfds (prepared TensorFlow Datasets folder), folder (image
        files, one folder per class) or npz (arrays in one file).
    tfds_name, version: entry of the TFDS catalogue; version null takes the newest prepared one.
    data_dir: where TFDS folders lie; null means $TFDS_DATA_DIR, else ~/tensorflow_datasets.
    download: let TFDS download and prepare what is not there. false also for sets that are not in
        its catalogue.
    path: the folder or .npz file of the sources folder and npz.
    train_split, test_split, valid_split: names as in TFDS (slices such as "train[:90%]" allowed) or
        names of subfolders. test_split null holds out test_fraction of the training split.
    label_key: the TFDS feature that holds the label; a/b for a nested one.
    label_map: none, or half: label // (classes / 2), two classes (split MNIST).
    image_size: resize every image straight to image_size x image_size (aspect ratio not kept,
        Pillow's bilinear filter, which antialiases when it shrinks); null leaves the size.
    background: of source folder, the colour (r, g, b) from 0 to 255 that transparent pixels lie on.
    skip_unreadable: of source folder, leave out files that cannot be read instead of refusing them.
    class_names: names of the classes after label_map; null takes those of the source.
    test_fraction: share of each class held out where there is no test split (fixed seed).
    cache: keep decoded arrays and fitted preprocessing in the cache folder.
    rows: [start, stop], keep only these rows of the training split, stop not included.
    classes: keep only the images of these classes, by number, in every split. Labels keep their
        numbers and the width of all classes (relabel false: a step of class-incremental learning),
        or become 0, 1, ... in the order given (relabel true: a dataset of its own).
    limit_train, limit_test: keep about this many images, spread evenly over the classes; for tries.
    zca, per_image, channel_mean, channel_std: what the dataset's published preprocessing needs;
        `preprocess=rfad` reads them (PreprocessConfig says what they mean).
    corrupt: none, redundant, long_tail or label_noise, of the training split (data/corrupt.py).
    corrupt_seed: of its random choices; redundant: of corrupt_distinct images corrupt_copied are
        repeated corrupt_copies times more, with noise of corrupt_noise times the brightest value;
        long_tail: largest over smallest class, corrupt_imbalance; label_noise: corrupt_share of the
        labels are wrong.
    """

    name: str = "digits"
    source: str = "digits"
    tfds_name: str | None = None
    version: str | None = None
    data_dir: str | None = None
    download: bool = True
    path: str | None = None
    train_split: str = "train"
    test_split: str | None = "test"
    valid_split: str | None = None
    label_key: str = "label"
    label_map: str = "none"
    image_size: int | None = None
    background: tuple[int, ...] = (255, 255, 255)
    skip_unreadable: bool = False
    class_names: tuple[str, ...] | None = None
    test_fraction: float = 0.2
    cache: bool = True
    rows: tuple[int, ...] | None = None
    classes: tuple[int, ...] | None = None
    relabel: bool = False
    limit_train: int | None = None
    limit_test: int | None = None
    zca: float | None = None
    per_image: bool = False
    channel_mean: tuple[float, ...] | None = None
    channel_std: tuple[float, ...] | None = None
    corrupt: str = "none"
    corrupt_seed: int = 0
    corrupt_distinct: int = 2000
    corrupt_copied: int = 50
    corrupt_copies: int = 160
    corrupt_noise: float = 0.01
    corrupt_imbalance: float = 100.0
    corrupt_share: float = 0.2

    def __post_init__(self) -> None:
        _freeze(self, "class_names", "channel_mean", "channel_std", "rows", "classes", "background")
        if len(self.background) != 3 or not all(0 <= level <= 255 for level in self.background):
            raise UserError(
                f"dataset.background={shown(self.background)}: must be [red,green,blue] from 0 to "
                "255"
            )


@dataclass(frozen=True)
class PreprocessConfig:
    """How raw pixels become what the kernel sees: `configs/preprocess/<name>.yaml`.

    name: rfad, kip, frepo, dc or none; a label, the fields below decide what is done.
    standardize: per channel (x - mean) / deviation on [0, 1] pixels, fitted on the training images.
    mean, std: constants per channel in place of fitted ones (CelebA).
    pixel_mean: take away the mean of every pixel instead of every channel (FRePo, with zca).
    per_image: then remove each image's mean over (h, w, c) and divide by its L2 norm.
    zca: then whiten with a = zca * trace(Cov) / d added to the covariance; null: no whitening.
    """

    name: str = "rfad"
    standardize: bool = True
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    pixel_mean: bool = False
    per_image: bool = False
    zca: float | None = None

    def __post_init__(self) -> None:
        _freeze(self, "mean", "std")


def _freeze(config: object, *names: str) -> None:
    """Lists, as YAML gives them, become tuples, so that a configuration can be hashed."""
    for name in names:
        if (value := getattr(config, name)) is not None:
            object.__setattr__(config, name, tuple(value))
