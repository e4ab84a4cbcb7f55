"""Wrong input: one clear line, exit code 2, nothing left behind, nothing computed."""

import jax
import numpy as np
import pytest

from distill_cli.cli.errors import exit_codes, job_errors
from extras import needs_optuna

CASES = {
    "ipc zero": (["ipc=0"], "ipc=0: must be at least 1"),
    "ipc text": (["ipc=many"], "ipc=many: must be a whole number"),
    "ipc fraction": (["ipc=1.5"], "ipc=1.5: must be a whole number"),
    "ipc too large": (["ipc=1000"], "has only"),
    "method": (["method=rfda"], "method=rfda: unknown (did you mean rfad?)"),
    "dataset": (["dataset=cifar"], "dataset=cifar: unknown"),
    "kernel": (["kernel=rbf"], "kernel=rbf: unknown; choose one of nngp, ntk, random_features"),
    "init": (["init=randon"], "did you mean random?"),
    "architecture": (
        ["architecture=resnet"],
        "choose one of conv_vec, convnet, fully_connected, kip_convnet",
    ),
    "protocol": (["evaluation=[krr_nngb]"], "did you mean krr_nngp?"),
    "bare comma": (["evaluation=krr_nngp,finite"], '"evaluation=[krr_nngp,finite]"'),
    "key": (["ipcc=3"], "key=ipcc: unknown (did you mean ipc?)"),
    "nested key": (["kernel.network=3"], "did you mean kernel.networks?"),
    "key of another choice": (["sampler.gamma=0.5"], "here; sampler=loss_importance has it"),
    "added key": (["+batch.sizes=3"], "batch.sizes"),
    "labels": (["labels=soft"], "choose one of fixed, learned"),
    "loss": (["loss=hinge"], "choose one of mse, platt"),
    "steps": (["steps=-1"], "steps=-1: must lie in [0, 1000000000]"),
    "seed": (["seed=-3"], "seed=-3"),
    "networks": (["kernel.networks=0"], "kernel.networks=0: must be at least 1"),
    "width": (["architecture.width=0"], "architecture.width=0"),
    "depth": (["architecture.depth=4"], "architecture.depth=4"),
    "ridge": (["method.ridge=0"], "method.ridge=0"),
    "rate": (["method.learning_rates.images=-1"], "method.learning_rates.images=-1"),
    "corruption": (["method.corruption=1.5"], "method.corruption=1.5: must lie in [0, 1]"),
    "prune": (["prune.ratio=0.5"], "prune.ratio=0.5: needs prune.keep=smallest or largest"),
    "micro": (["batch.micro=0"], "batch.micro=0"),
    "limit": (["evaluation.limit=0"], "evaluation.limit=0"),
    "engine": (["evaluation.engine=fast"], "choose one of auto, band, neural_tangents"),
    "syntax": (["ipc"], "ipc"),
    "unpaired": (["out=(my photos"], "out=(my photos: cannot be read; put the value in"),
    "comma": (["out=my, photos"], "out=my, photos: one value; several, one run each, are a sweep"),
    "interpolation": (["ipc=${nothing}"], "nothing"),
    "no data": (["dataset=mnist", "dataset.data_dir=nowhere"], "nowhere"),
    "no path": (["dataset=npz"], "dataset.path"),
    "folder": (["dataset=folder", "dataset.path=nowhere"], "nowhere"),
    "validation images": (["validation.per_class=999"], "validation.per_class=999: class"),
    "no key": (["=5"], "must be a string"),
    "launcher": (["hydra/launcher=foo"], "hydra/launcher=foo: unknown, or its package"),
    "out": (["out=/dev/null/x"], "/dev/null"),
    "no out": (["out="], "out: empty; give a folder, or . for this one"),
    "schedule": (["schedule=cosin"], "did you mean cosine?"),
    "schedule of another method": (
        ["method=label_solve", "schedule=cosine"],
        "schedule=cosine: method=label_solve needs schedule=constant",
    ),
    "last rate": (["schedule_final=2"], "schedule_final=2.0: must lie in [0, 1]"),
    "growth of no step": (
        ["growth.shares=[0.5]", "growth.batch=[8]", "steps=0"],
        "part 1 would have none of the steps=0",
    ),
    "decay": (["average=ema", "average_decay=1"], "average_decay=1.0: must be above 0 and below 1"),
    "shares": (
        ["growth.shares=[0.7,0.4]", "growth.networks=[1,2]"],
        "growth.shares=[0.7,0.4]: must add up to less than 1",
    ),
    "values of shares": (
        ["growth.shares=[0.7]", "growth.networks=[1,2]"],
        "growth.networks=[1,2]: needs one value for each of growth.shares=[0.7]",
    ),
    "growth without shares": (["growth.batch=[8]"], "growth.batch=[8]: needs one value for each"),
    "growth of nothing": (["growth.shares=[0.5]"], "growth.shares=[0.5]: needs growth.networks"),
    "growth to nothing": (
        ["growth.shares=[0.5]", "growth.width=[0]"],
        "growth.width[0]=0: must be at least 1",
    ),
    "part of no step": (
        ["growth.shares=[0.001]", "growth.batch=[8]", "steps=10"],
        "part 1 would have none of the steps=10",
    ),
    "growth of another method": (
        ["method=frepo", "growth.shares=[0.5]", "growth.networks=[2]"],
        "growth.networks=[2]: method=frepo takes growth.batch",
    ),
    "jackknife of one": (
        ["method.jackknife=1", "kernel.networks=1"],
        "needs at least 2 networks, not kernel.networks=1",
    ),
    "held out of nothing": (["evaluation=[held_out]"], "add validation.disjoint=true"),
    "held out twice": (
        ["evaluation=[held_out]", "evaluation.held_out.protocol=finite"],
        "evaluation.held_out.protocol=finite: unknown",
    ),
    "held out for a choice": (
        ["evaluation=[held_out]", "evaluation.held_out.settings={ridges:[1e-3]}"],
        "evaluation.held_out.settings.ridges=[0.001]: chooses by the validation images",
    ),
    "key that a protocol lacks": (
        ["evaluation=[frepo]", "evaluation.frepo.widths=3"],
        "key=evaluation.frepo.widths: unknown (did you mean evaluation.frepo.width?)",
    ),
    "held out of another": (
        ["evaluation=[held_out]", "evaluation.held_out.settings={width:8}"],
        "evaluation.held_out.settings.width: unknown",
    ),
}


@pytest.mark.parametrize(
    "typed", ["null", "0", "-1", "1.5", "", "[1]", "[auto]", "many", "true", "1e3", "0x2"]
)
def test_devices(command, typed):
    done = command("distill", f"devices={typed}")
    assert done.code == 2 and not done.out
    shown = {"1e3": "1000.0"}.get(typed, typed)  # as Hydra reads it
    assert done.err == f"error: devices={shown}: give auto or a number, at least 1\n"


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("seed", "must be a whole number"),
        ("method.ridge", "must be a number"),
        ("validation.disjoint", "must be true or false"),
        ("out", "must be text"),
        ("snapshots", "must be a list"),
        ("progress", "unknown (did you mean none?); choose one of auto, none, plain, rich"),
        ("kernel.fused", "unknown; choose one of auto, false, true"),
        ("method", "unknown; choose one of dc, dm, dsa, frepo, full, kip, label_solve, random"),
        ("logger", "unknown (did you mean none?); choose one of none, tensorboard, wandb"),
        ("hydra/launcher", "must be a name"),
        ("recipe", "must be a name"),
    ],
)
def test_null_is_refused_in_the_words_of_the_command_line(command, key, wanted):
    done = command("distill", f"{key}=null")
    assert done.code == 2 and not done.out
    assert done.err.startswith(f"error: {key}=null: {wanted}")
    assert len(done.err.splitlines()) == 1 and "None" not in done.err


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("batch.micro=many", "must be a whole number or null"),
        ("evaluation.architecture=convnet", "must be a list, as [a,b] or null"),
        ("evaluation.architecture=[convnet,null]", "must be text"),
        ("method.learning_rates=3", "must be a section, whose keys are given as"),
        ("evaluation=[null]", "unknown (did you mean none?)"),
        ("dataset=1", "unknown; choose one of"),
        ("kernel=[]", "choose one of nngp, ntk, random_features"),
        ("method=[rfad]", "unknown (did you mean rfad?); choose one of"),
        ("dataset=[]", "unknown; choose one of"),
        ("method={a:1}", "unknown; choose one of"),
        ("evaluation={a:1}", "unknown; choose one of all, dc"),
        ("dataset=''", "unknown; choose one of"),
    ],
)
def test_other_kinds_than_the_keys(command, typed, wanted):
    done = command("distill", typed)
    assert done.code == 2 and not done.out
    assert wanted in done.err and done.err.startswith(f"error: {typed.partition('=')[0]}")
    assert len(done.err.splitlines()) == 1 and "null or null" not in done.err


@pytest.mark.parametrize("name", CASES)
def test_distill(command, tmp_path, name):
    arguments, message = CASES[name]
    done = command("distill", *arguments)
    assert done.code == 2
    assert message in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert done.err.startswith("error: ")
    assert "step" not in done.out
    assert not list((tmp_path / "outputs").rglob("result.json"))
    assert not list((tmp_path / "outputs").rglob("*.yaml"))


@needs_optuna
def test_a_search_without_trials(command):
    done = command("distill", "search=optuna")
    assert done.code == 2 and done.err == "error: search=optuna: needs -m, which makes trials\n"


def test_rfad_refuses_whitened_corruption(command, tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (40, 8, 8, 1)).astype(np.uint8)
    np.savez(tmp_path / "d.npz", x_train=images, y_train=np.arange(40) % 2)
    done = command(
        "distill", "dataset=npz", "dataset.path=d.npz", "preprocess.zca=0.1",
        "method.corruption=0.5", "architecture.depth=1",
    )  # fmt: skip
    assert done.code == 2
    assert "preprocess.zca=null" in done.err


def coreset(path, shape=(10, 8, 8, 1), classes=10, **changes):
    rng = np.random.default_rng(0)
    arrays = {
        "images": rng.normal(size=shape).astype(np.float32),
        "labels": np.eye(classes, dtype=np.float32)[np.arange(shape[0]) % classes],
        "log_temperature": np.float64(0),
    }
    np.savez(path, **{**arrays, **changes})
    return path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "coreset: missing"),
        (["coreset=nothing.npz"], "no such file"),
        (["coreset=small.npz"], "images are 6x6x1, but dataset=digits has 8x8x1"),
        (["coreset=classes.npz"], "labels have 3 classes, dataset=digits has 10"),
        (["coreset=nan.npz"], "NaN"),
        (["coreset=good.npz", "coreset.format=pt"], "choose one of auto, dc, distill"),
        (["coreset=good.npz", "evaluation=none"], "evaluation: nothing to do"),
        (["coreset=good.npz", "evaluation=[nngp]"], "evaluation=nngp: unknown"),
        (["coreset=good.npz", "coreset.fromat=rfad"], "did you mean coreset.format?"),
    ],
)
def test_evaluate(command, tmp_path, arguments, message):
    coreset(tmp_path / "good.npz")
    coreset(tmp_path / "small.npz", (10, 6, 6, 1))
    coreset(tmp_path / "classes.npz", classes=3)
    coreset(tmp_path / "nan.npz", images=np.full((10, 8, 8, 1), np.nan, np.float32))
    done = command("distill-evaluate", *arguments)
    assert done.code == 2
    assert message in done.err
    assert len(done.err.strip().splitlines()) == 1


@pytest.mark.parametrize("backend", ["gpu", "cpu"])
@pytest.mark.parametrize("inside", [job_errors, exit_codes])
def test_memory_that_does_not_suffice_is_one_line(inside, backend, capsys, monkeypatch):
    """What JAX says where another program holds a GPU's memory, and where a step needs more; a
    machine without a GPU is not told of nvidia-smi."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr("sys.argv", ["distill"])
    wanted = {"gpu": "the device's memory is taken or too small", "cpu": "the machine's memory is"}
    for text in (
        "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 5.23GiB.",
        "INTERNAL: cuInit failed: CUDA_ERROR_OUT_OF_MEMORY: out of memory",
    ):
        with pytest.raises(SystemExit) as left, inside("config" if inside is exit_codes else False):
            raise RuntimeError(text)
        assert left.value.code == 1
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert line.startswith(f"error: {wanted[backend]}")
        assert ("nvidia-smi" in line) == (backend == "gpu")
        assert ("5.23GiB wanted" in line) == ("5.23" in text)
    with (
        pytest.raises(RuntimeError, match="a bug"),
        inside("config" if inside is exit_codes else False),
    ):
        raise RuntimeError("a bug")
