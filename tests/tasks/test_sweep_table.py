"""Sweeps: one table at the end, failures listed, the median rule."""

import csv
import json

import pytest

from distill_cli.cli import sweep_check
from distill_cli.config import TuningConfig
from distill_cli.errors import UserError
from distill_cli.tasks import sweep, sweep_files
from distill_cli.tasks.sweep_rule import MedianRule, score_at


def run_folder(root, name: str, accuracies: list[float], losses=None):
    folder = root / name
    folder.mkdir(parents=True)
    losses = losses or [1 - a for a in accuracies]
    rows = [
        {"step": 10 * i, "valid_accuracy": a, "valid_loss": loss}
        for i, (a, loss) in enumerate(zip(accuracies, losses, strict=True))
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_the_same_command_has_the_same_folder():
    one = sweep.sweep_folder(["-m", "seed=0,1", "out=a b"])
    assert one == sweep.sweep_folder(["seed=0,1", "-m", "out=a b", "hydra.launcher.n_jobs=2"])
    assert one != sweep.sweep_folder(["-m", "seed=0,2", "out=a b"])
    assert one.parent.name == "sweeps" and one.parents[1].name == "a b"


def test_table_of_a_sweep_with_a_failure(tmp_path, capsys):
    arguments = ["-m", "ipc=1,500", "seed=0,1", f"out={tmp_path}"]
    with sweep.sweep(arguments):
        for job, (ipc, seed) in enumerate([(1, 0), (1, 1), (500, 0)]):
            folder = tmp_path / f"run{job}"
            folder.mkdir()
            command = f"distill method=rfad ipc={ipc} seed={seed}"
            book = sweep.journal(job, command, folder)
            assert book is not None
            if ipc == 500:
                with pytest.raises(UserError), sweep.recorded(book):
                    raise UserError("ipc=500: too\nmany")
                continue
            with sweep.recorded(book):
                rows = [{"protocol": "krr_nngp", "accuracy": 0.9 + seed / 50}]
                result = {"evaluations": rows, "validation": {"accuracy": 0.8}, "steps": 40}
                (folder / "result.json").write_text(json.dumps(result))
            book.write("done", score=0.8)
        lost = sweep.journal(3, "distill method=rfad ipc=500 seed=1", tmp_path / "run3")
        lost.write("running")  # and its process dies
    out = capsys.readouterr().out
    assert "ipc=1 seed=0" in out and "92.00 %" in out
    assert "over 2 seeds, ipc=1: krr_nngp 91.00 ± 1.41 %" in out
    assert "2 of 4 jobs failed:" in out
    assert "ipc=500 seed=0: ipc=500: too many" in out
    assert "ipc=500 seed=1: did not end; its process was lost" in out
    folder = sweep.sweep_folder(arguments)
    with (folder / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["done", "done", "failed", "failed"]
    assert float(rows[1]["krr_nngp"]) == 0.92
    assert json.loads((folder / "sweep.json").read_text())["jobs"][2]["error"].endswith("too many")
    assert sweep.journal(0, "x", tmp_path) is None  # the variable is gone


def test_the_flag_may_stand_between_overrides(command, tmp_path):
    done = command("distill", f"out={tmp_path}", "-m", "steps=-1,-2", "progress=none")
    assert done.code == 2
    assert "2 of 2 jobs failed:" in done.out and "usage:" not in done.err


def test_jobs_that_cannot_run_are_named_before_the_first(command, tmp_path):
    done = command("distill", "-m", f"out={tmp_path}", "kernel.networks=0,-1", "progress=none")
    notes = [line for line in done.err.splitlines() if line.startswith("note: ")]
    assert notes == [
        "note: job 0 of 2 (kernel.networks=0) cannot run: kernel.networks=0: must be at least 1",
        "note: job 1 of 2 (kernel.networks=-1) cannot run: kernel.networks=-1: must be at least 1",
    ]
    assert done.err.index("note: job 1") < done.err.index("error: ")


@pytest.mark.parametrize("word", ["init=random,nonsense", "sampler=loss_importance,uniform"])
def test_a_choice_or_key_that_a_job_lacks_stops_the_sweep(command, tmp_path, word):
    done = command("distill", "-m", f"out={tmp_path / 'o'}", word, "sampler.gamma=0.5")
    assert done.code == 2 and len(done.err.splitlines()) == 1
    assert done.err.startswith("error: job ")


@pytest.mark.parametrize("word", ["method=rfda", "kernel.networks=0", "ipc=${nothing}"])
def test_what_is_wrong_in_all_jobs_is_said_once(command, tmp_path, word):
    done = command("distill", "-m", f"out={tmp_path / 'o'}", word, "seed=0,1,2")
    assert done.code == 2 and len(done.err.splitlines()) == 1
    assert done.err.startswith("error: ") and "job" not in done.out
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["-m", "seed=0,1", "ipc=range(1,4)"], 6),
        (["seed=0"], 0),
        (["-m", "seed=0,1", "search=optuna"], 0),
        (["-m", "seed=0,1", "--cfg", "job"], 0),
        (["-m", "seed=[0"], 0),
    ],
)
def test_jobs_of_a_sweep(words, count):
    assert len(sweep_check.jobs(words)) == count


def test_a_job_that_repeats_another_is_named():
    with pytest.raises(UserError, match=r"job 2 of 3 \(seed=1\): the same as job 1"):
        sweep_check.refused(["-m", "seed=0,1,1"])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["rerun=always,never"], r"job 1 of 2 \(rerun=never\): the same run as job 0 "
         r"\(rerun=always\), because rerun does not make another run"),
        (["seed=0,1", "progress=plain,none"], "because progress does not"),
        (["evaluation.limit=10,20"], r"because evaluation\.limit does not"),
        (["method=random", "steps=10,20"], "because steps does not"),
    ],
)  # fmt: skip
def test_jobs_with_one_result_folder_are_refused(words, text):
    with pytest.raises(UserError, match=text):
        sweep_check.refused(["-m", *words])


def test_a_search_over_a_key_that_makes_no_run_is_refused():
    words = ["-m", "search=optuna", "checkpoint.seconds=range(1,9)"]
    with pytest.raises(UserError, match=r"checkpoint\.seconds does not make another run"):
        sweep_check.refused(words)


def test_the_number_of_trials_is_known_before_the_first():
    words = ["-m", "search=optuna", "method.ridge=interval(0.1,1)"]
    assert sweep_check.trials(words) == 20
    assert sweep_check.trials([*words, "hydra.sweeper.n_trials=3"]) == 3
    assert sweep_check.trials(["-m", "seed=0,1"]) == 0


def rows_of(folder, name):
    with (folder / name).open() as file:
        return list(csv.DictReader(file))


def test_columns_of_the_files(tmp_path, capsys):
    arguments = ["-m", "ipc=1,2", "seed=0,1", f"out={tmp_path}"]
    accuracies = {(1, 0): 0.5, (1, 1): 0.6, (2, 0): 0.7}
    with sweep.sweep(arguments):
        cells = [(ipc, seed) for ipc in (1, 2) for seed in (0, 1)]
        commands = [
            f"distill ipc={ipc} seed={seed} 'dataset.path=a b' steps=10 out=x progress=none"
            for ipc, seed in cells
        ]
        sweep.plan([(line, tmp_path / str(at)) for at, line in enumerate(commands)])
        for job, cell in enumerate(cells):
            if cell not in accuracies:
                continue
            folder = tmp_path / str(job)
            folder.mkdir()
            with sweep.recorded(sweep.journal(job, commands[job], folder)):
                row = {
                    "protocol": "krr_nngp", "accuracy": accuracies[cell], "nll": 1.0 + job,
                    "ece": None if job == 1 else 0.25,
                    "baseline_random": {"accuracy": 0.4}, "baseline_herding": {"accuracy": 0.3},
                }  # fmt: skip
                result = {"evaluations": [row], "validation": {"accuracy": 0.8}, "steps": 9}
                (folder / "result.json").write_text(json.dumps(result))
    folder = sweep.sweep_folder(arguments)
    rows = rows_of(folder, "sweep.csv")
    present = "job settings status best_step steps validation krr_nngp seconds error folder command"
    assert list(rows[0])[:11] == present.split()
    assert list(rows[0])[11:] == [
        "ipc", "seed", "dataset.path", "given_steps", "krr_nngp_nll", "krr_nngp_ece",
        "krr_nngp_baseline", "krr_nngp_baseline_herding",
    ]  # fmt: skip
    assert [row["status"] for row in rows] == ["done", "done", "done", "not started"]
    assert (rows[3]["ipc"], rows[3]["seed"], rows[3]["krr_nngp"]) == ("2", "1", "")
    assert (rows[1]["steps"], rows[1]["given_steps"]) == ("9", "10")
    assert float(rows[1]["krr_nngp_nll"]) == 2.0 and rows[1]["krr_nngp_ece"] == ""
    assert float(rows[0]["krr_nngp_baseline"]) == 0.4
    seeds = [row for row in rows_of(folder, "sweep_seeds.csv") if row["protocol"] == "krr_nngp"]
    assert [(row["ipc"], row["jobs"], row["n"]) for row in seeds] == [
        ("1", "2", "2"),
        ("2", "2", "1"),
    ]
    assert float(seeds[0]["accuracy_mean"]) == pytest.approx(0.55)
    assert float(seeds[0]["accuracy_std"]) == pytest.approx(0.1 / 2**0.5)
    assert float(seeds[0]["nll_mean"]) == pytest.approx(1.5)
    assert seeds[0]["ece_mean"] == "" and seeds[1]["accuracy_std"] == ""
    assert float(seeds[0]["baseline_mean"]) == pytest.approx(0.4)
    assert "4 jobs: 3 done, 1 not started" in capsys.readouterr().out


def test_no_file_of_means_without_seeds(tmp_path):
    arguments = ["-m", "ipc=1,2", f"out={tmp_path}"]
    folder = sweep.sweep_folder(arguments)
    with sweep.sweep(arguments):
        for job in (0, 1):
            with sweep.recorded(sweep.journal(job, f"distill ipc={job + 1}", tmp_path / str(job))):
                (folder / "sweep_seeds.csv").write_text("of a former sweep")
    assert (folder / "sweep.csv").exists() and not (folder / "sweep_seeds.csv").exists()


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("1e-3", 1e-3), ("'a b'", "a b"), ("nan", "nan"), ("[1,2]", "[1,2]"), ("", "")],
)
def test_values_of_overrides(text, value):
    assert sweep_files.plain(text) == value


def test_no_sweep_no_table(tmp_path, capsys):
    with sweep.sweep(["seed=0", f"out={tmp_path}"]):
        assert sweep.journal(0, "x", tmp_path) is None
    assert capsys.readouterr().out == ""


def test_score_is_of_the_coreset_that_is_kept():
    rows = [
        {"step": 0, "valid_accuracy": 0.3, "valid_loss": 2.0}, {"step": 5, "loss": 1.0},
        {"step": 10, "valid_accuracy": 0.7, "valid_loss": 1.0},
        {"step": 20, "valid_accuracy": 0.9, "valid_loss": 1.5},
    ]  # fmt: skip
    assert [score_at(rows, s, "best") for s in (0, 10, 20)] == [0.3, 0.7, 0.7]
    assert score_at(rows, 20, "last") == 0.9
    assert score_at(rows[1:2], 20, "best") is None


@pytest.mark.parametrize(
    ("own", "step", "startup", "pruned"),
    [
        ([0.1, 0.5], 10, 3, True),    # median of 0.5, 0.6, 0.7 at step 10
        ([0.1, 0.6], 10, 3, False),   # not below it
        ([0.1, 0.5], 10, 4, False),   # too few others
        ([0.1], 0, 3, False),         # warm-up
    ],
)  # fmt: skip
def test_median_rule(tmp_path, own, step, startup, pruned):
    series = {"a": [0.2, 0.5, 0.9], "b": [0.2, 0.6, 0.6], "c": [0.1, 0.7, 0.5], "young": [0.9]}
    for job, (name, scores) in enumerate(series.items()):
        folder = run_folder(tmp_path, name, scores)
        about = {"job": job, "command": "distill", "folder": str(folder)}
        status = "running" if name == "young" else "done"
        sweep.Journal(tmp_path / "s" / "jobs" / f"{job}.json", about).write(status)
    folder = run_folder(tmp_path, "own", own)
    rule = MedianRule(folder, tmp_path / "s", TuningConfig("median", startup, 0.3), 30)
    rule.log(step, {"loss": 1.0})
    if pruned:
        with pytest.raises(sweep.TrialPruned, match=r"0\.5000 is below the median 0\.6000") as stop:
            rule.log(step, {"valid_accuracy": own[-1]})
        assert stop.value.score == 0.5
    else:
        rule.log(step, {"valid_accuracy": own[-1]})
    rule.log(30, {"valid_accuracy": 0.0})  # the last validation stops nothing
