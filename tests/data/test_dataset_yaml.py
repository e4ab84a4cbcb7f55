"""Every dataset and preprocess file composes, and merges over its dataclass."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from distill_cli.data.config import DatasetConfig, PreprocessConfig
from distill_cli.data.preprocess import FAMILIES
from distill_cli.data.sources import LABEL_MAPS, SOURCES

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
DATASETS = sorted(path.stem for path in (CONFIGS / "dataset").glob("*.yaml"))
ZCA = {"svhn", "cifar10", "cifar100"}


def composed(dataset: str, preprocess: str) -> tuple[DatasetConfig, PreprocessConfig]:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose(overrides=[f"+dataset={dataset}", f"+preprocess={preprocess}"])
    OmegaConf.resolve(config)
    parts = []
    for kind, node in ((DatasetConfig, config.dataset), (PreprocessConfig, config.preprocess)):
        merged = OmegaConf.merge(OmegaConf.structured(kind), node)  # refuses unknown keys and types
        parts.append(OmegaConf.to_object(merged))
    return parts[0], parts[1]


def test_the_expected_datasets_are_there():
    tables = "mnist fashion_mnist svhn cifar10 cifar100 celeba split_mnist"
    assert set(DATASETS) >= {*tables.split(), "digits", "tiny_imagenet10", "folder", "npz"}


@pytest.mark.parametrize("name", DATASETS)
def test_dataset_file(name: str):
    dataset, preprocess = composed(name, "rfad")
    assert dataset.name == name
    assert dataset.source in SOURCES
    assert dataset.label_map in LABEL_MAPS
    assert (dataset.tfds_name is not None) == (dataset.source == "tfds")
    assert preprocess.name in FAMILIES
    assert preprocess.standardize
    assert preprocess.zca == (0.1 if name in ZCA else None)
    assert preprocess.per_image == (name == "svhn")
    celeba = (0.5064, 0.4258, 0.3832) if name == "celeba" else None
    assert preprocess.mean == celeba
    assert (preprocess.std is None) == (celeba is None)
    text = (CONFIGS / "dataset" / f"{name}.yaml").read_text()
    assert text.startswith("# ")
    assert "_target_" not in text


def test_no_preprocessing_ignores_what_the_dataset_would_need():
    for name in ("svhn", "celeba"):
        assert composed(name, "none")[1] == PreprocessConfig("none", standardize=False)


def test_a_dataset_file_without_preprocessing_keys_still_composes():
    node = OmegaConf.create(
        {"dataset": {"name": "x"}, "preprocess": OmegaConf.load(CONFIGS / "preprocess/rfad.yaml")}
    )
    OmegaConf.resolve(node)
    assert node.preprocess.zca is None
    assert node.preprocess.per_image is False
