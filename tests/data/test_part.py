"""dataset.rows, dataset.classes, dataset.relabel: what is kept, and that nothing else changes."""

import numpy as np
import pytest

from distill_cli.cli.compose import compose
from distill_cli.config import parse, plain
from distill_cli.data.config import DatasetConfig
from distill_cli.data.sources import load_dataset
from distill_cli.errors import UserError
from distill_cli.naming import digest
from distill_cli.tasks.measure import initial_coreset
from distill_cli.tasks.problem import load_problem


def digits(**options):
    return load_dataset(DatasetConfig(**options))


def test_rows_are_a_slice_of_the_training_split_and_leave_the_test_split():
    whole, part = digits(), digits(rows=(100, 300))
    np.testing.assert_array_equal(part.train.images, whole.train.images[100:300])
    np.testing.assert_array_equal(part.train.labels, whole.train.labels[100:300])
    np.testing.assert_array_equal(part.test.images, whole.test.images)
    assert part.fingerprint != whole.fingerprint


def test_classes_keep_their_numbers_and_the_width_of_all():
    whole, part = digits(), digits(classes=(3, 7))
    assert part.classes == 10
    assert part.class_names == whole.class_names
    assert part.present.tolist() == [3, 7]
    for split, all_of_it in ((part.train, whole.train), (part.test, whole.test)):
        kept = np.isin(all_of_it.labels, (3, 7))
        np.testing.assert_array_equal(split.images, all_of_it.images[kept])
        np.testing.assert_array_equal(split.labels, all_of_it.labels[kept])


def test_relabelled_classes_are_counted_in_the_order_given():
    part = digits(classes=(7, 3), relabel=True)
    assert part.class_names == ("7", "3")
    wide = digits(classes=(7, 3))
    np.testing.assert_array_equal(part.train.labels, (wide.train.labels == 3).astype(int))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": (0, 9999)}, "dataset.rows="),
        ({"rows": (5,)}, "must be .start, stop."),
        ({"rows": (0, 3)}, "of 10 classes are left"),
        ({"classes": (0, 10)}, "numbers from 0 to 9"),
        ({"classes": (1, 1)}, "different numbers"),
        ({"classes": (1,), "relabel": True}, "at least 2 classes"),
        ({"relabel": True}, "needs dataset.classes"),
    ],
)
def test_parts_that_are_not_there_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        digits(**options)


def test_options_that_are_off_leave_a_run_its_folder():
    """A run of before these options were there has none of the keys."""
    tree = plain(compose("config", []))
    before = {**tree, "dataset": dict(tree["dataset"])}
    for key in ("rows", "classes", "relabel"):
        before["dataset"].pop(key)
    assert digest(before) == digest(tree)
    others = {
        digest(plain(compose("config", [changed])))
        for changed in ("dataset.rows=[0,500]", "dataset.classes=[0,1]", "dataset.classes=[0,2]")
    }
    assert len(others | {digest(tree)}) == 4


def test_a_step_of_some_classes_starts_from_images_of_these_with_labels_of_full_width():
    config = parse(compose("config", ["dataset.classes=[2,8]", "ipc=3", "steps=0"]))
    problem = load_problem(config)
    start = initial_coreset(problem, config.init)
    assert start.coreset.labels.shape == (6, 10)
    assert start.coreset.labels.argmax(1).tolist() == [2, 2, 2, 8, 8, 8]
    np.testing.assert_allclose(start.coreset.labels.sum(1), 0, atol=1e-6)
    assert problem.dataset.train.labels[start.rows].tolist() == [2, 2, 2, 8, 8, 8]
    assert set(problem.valid[1].tolist()) == {2, 8}
    assert set(problem.test[1].tolist()) == {2, 8}


def test_methods_that_go_class_by_class_need_relabelled_classes():
    with pytest.raises(UserError, match=r"add dataset\.relabel=true"):
        load_problem(parse(compose("config", ["method=dm", "dataset.classes=[2,8]"])))
    config = parse(compose("config", ["method=dm", "dataset.classes=[2,8]",
                                      "dataset.relabel=true"]))  # fmt: skip
    assert load_problem(config).setting.classes == 2
