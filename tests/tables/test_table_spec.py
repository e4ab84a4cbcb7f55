"""Tables as files: names, commands, selection, and every file that is shipped."""

import copy
import json
from pathlib import Path

import pytest
from table_tree import TREE

from distill_cli.cli.compose import compose
from distill_cli.config import parse
from distill_cli.errors import UserError
from distill_cli.report.published import figures, find
from distill_cli.tables.reference import published_of
from distill_cli.tables.show import shown_command
from distill_cli.tables.spec import load_table, make_table, matches, select, table_names

REPOSITORY = Path(__file__).parents[2]


def test_rows_and_commands(small_table):
    assert [cell.name for cell in small_table.cells] == [
        "mnist/ipc1/fixed", "mnist/ipc10/fixed", "digits/ipc1/fixed",
    ]  # fmt: skip
    argv = small_table.cells[1].argv(7, ["steps=3"])
    assert argv == [
        "distill", "method=rfad", "dataset=mnist", "ipc=10", "seed=7", "evaluation=[krr_nngp]",
        "steps=3",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("cifar10/ipc1/rfad_fixed", True), ("cifar10/ipc1", True), ("ipc1", True),
        ("cifar10/rfad_*", True), ("rfad_fixed", True), ("cifar1", False), ("ipc1/cifar10", False),
        ("*/ipc10", False), ("*", True), ("ipc[12]", True),
    ],
)  # fmt: skip
def test_patterns(pattern, matched):
    assert matches("cifar10/ipc1/rfad_fixed", pattern) is matched


def test_select_names_the_cells_of_the_table(small_table):
    chosen = select(small_table, ["mnist/ipc1,digits"])
    assert [c.name for c in chosen.cells] == ["mnist/ipc1/fixed", "digits/ipc1/fixed"]
    with pytest.raises(UserError, match=r"cells=svhn: .* choose among mnist/ipc1/fixed, "):
        select(small_table, ["svhn"])
    with pytest.raises(UserError, match=r"cells=svhn,stl10: .* has no such cells; "):
        select(small_table, ["svhn", "digits", "stl10"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"titel": "x"}, "titel"),
        ({"seeds": [1, 1]}, "seeds"),
        ({"command": "rm -rf {dataset}"}, "command=rm: unknown"),
        ({"command": "distill ipc={ipcs}"}, "ipcs"),
        ({"metrics": []}, "metrics: missing"),
        ({"metrics": [{"kind": "accurracy"}]}, "did you mean accuracy?"),
        ({"metrics": [{"kind": "accuracy"}]}, "metrics.protocol: missing"),
        ({"columns": {}}, "columns: missing"),
        ({"metrics": [{"kind": "accuracy", "protocol": "krr"}]}, "did you mean krr_n"),
        ({"shares": [0, 1]}, "shares: needs the value steps"),
    ],
)
def test_wrong_files(change, message):
    with pytest.raises(UserError, match="table=small") as error:
        make_table("small", copy.deepcopy(TREE) | change)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("distill ipc={ipc} seed={seed}", "distill -m ipc=1 seed=0,1,2"),
        ("distill-theory ipc={ipc}", "distill-theory ipc=1"),
        (
            "distill ipc={ipc} seed={seed} evaluation.dsa.seed={seed}",
            "for seed in 0 1 2; do distill ipc=1 seed=$seed evaluation.dsa.seed=$seed; done",
        ),
    ],
)
def test_a_command_of_all_seeds_can_be_typed(command, shown):
    table = make_table("small", copy.deepcopy(TREE) | {"command": command})
    assert shown_command(table.cells[0], ()) == shown


def test_a_file_of_the_users(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(json.dumps(TREE))
    assert load_table(str(path)) == make_table("mine", copy.deepcopy(TREE))
    with pytest.raises(UserError, match="no such file"):
        load_table("other.yaml")
    for wrong in ("title: [", "- a\n- b\n", "title: ${nope}"):
        path.write_text(wrong)
        with pytest.raises(UserError, match=r"mine\.yaml: (cannot be read|must be a mapping)"):
            load_table(str(path))


def test_unknown_table_lists_the_known_ones():
    with pytest.raises(UserError, match=r"did you mean rfad_1\?\); choose one of .*cpu_small"):
        load_table("rfad_11")


@pytest.mark.parametrize("name", table_names())
def test_shipped_tables_have_commands_that_parse(name):
    table = load_table(name)
    seen = set()
    for cell in table.cells:
        assert cell.metrics, cell.name
        find(table.spec.source)  # every source is known
        key = (cell.column, *(str(v) for k, v in cell.values.items() if k in ("method", "dataset")))
        if cell.command.startswith("distill ") and key not in seen:
            seen.add(key)
            if len(seen) <= 25:
                config = parse(compose("config", cell.argv(0)[1:]))
                wanted = {m.protocol for m in cell.metrics if m.kind == "accuracy"}
                assert wanted <= set(config.evaluation.protocols), cell.name


def test_rfad_table_1_is_the_published_one():
    """Typed in again from Table 1: its corners and its sum."""
    table = load_table("rfad_1")
    assert len(table.cells) == 84
    known = {cell.name: published_of(table, cell) for cell in table.cells}
    assert all(known.values())
    assert known["mnist/ipc1/dc"].mean == 91.7
    assert (known["cifar100/ipc10/rfad_learned"].mean, known["svhn/ipc1/rfad_fixed"].spread) == (
        46.8, 1.3,
    )  # fmt: skip
    fixed = [v.mean for k, v in known.items() if v and k.endswith("rfad_fixed")]
    assert sum(fixed) == pytest.approx(1059.3)


def test_what_was_not_read_is_not_published():
    table = load_table("frepo_1")
    by_name = {cell.name: published_of(table, cell) for cell in table.cells}
    assert by_name["mnist/ipc1/frepo"] is None  # known from memory only
    assert by_name["cifar10/ipc1/frepo"].mean == 46.8
    finite = load_table("rfad_finite")
    found = [cell.name for cell in finite.cells if published_of(finite, cell)]
    assert found == ["cifar10/ipc1/fixed"]


def test_a_number_has_one_source():
    """Published figures stand in published.json alone: no table file repeats one."""
    for path in (REPOSITORY / "configs" / "table").glob("*.yaml"):
        assert " +- " not in path.read_text()
        assert "mean:" not in path.read_text()
    rows = [*figures(tables_only=False), *figures(tables_only=True)]
    keys = [(*r[:4], r.protocol, r.source_id, r.architecture) for r in rows]
    assert len(set(keys)) == len(keys)
    assert {row.mark for row in rows} == {"read", "quoted"}
    with pytest.raises(UserError, match="source=nobody"):
        find(["nobody"])
