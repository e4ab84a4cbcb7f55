"""What distill-apply makes of its arguments, and refuses before it starts."""

import json
import subprocess
import sys

import pytest

from distill_cli.apply.config import APPLICATIONS, keys_of
from distill_cli.cli.apply import apply_digest, arguments, inner_job
from distill_cli.cli.compose import compose, known_keys
from distill_cli.config import config_dir, plain
from distill_cli.errors import UserError


def test_keys_of_the_application_get_their_section():
    assert arguments(["privacy", "rho=[0,0.5]", "ipc=1", "apply.panel=3"]) == [
        "apply=privacy", "apply.rho=[0,0.5]", "ipc=1", "apply.panel=3",
    ]  # fmt: skip


def test_continual_brings_its_evaluation_unless_one_is_typed():
    assert "evaluation=[krr_nngp,dsa]" in arguments(["continual"])
    assert arguments(["continual", "evaluation=dsa"])[1:] == [
        "evaluation.networks=3", "evaluation=dsa",
    ]  # fmt: skip


@pytest.mark.parametrize("application", APPLICATIONS)
def test_only_two_keys_hide_one_of_a_run(application):
    """kernel of explain and batch of membership are theirs; a new clash has to be thought about."""
    hidden = set(keys_of(application)) & set(plain(compose("config", [])))
    assert hidden <= {"explain": {"kernel"}, "membership": {"batch"}}.get(application, set())


@pytest.mark.parametrize("application", APPLICATIONS)
def test_yaml_and_dataclass_say_the_same(application):
    tree = plain(compose("apply", [f"apply={application}"]))["apply"]
    assert set(tree) == {"name", *keys_of(application)}
    made = APPLICATIONS[application]()
    for key, value in tree.items():
        default = getattr(made, key)
        assert (list(default) if isinstance(default, tuple) else default) == value, key
    assert (config_dir() / "apply" / f"{application}.yaml").is_file()


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ([], "application: missing"),
        (["privcy"], "privacy"),
        (["privacy", "apply.rh=[1]"], "apply.rho"),
        (["explain"], "coreset: missing"),
        (["privacy", "coreset=x"], "only explain takes a coreset"),
    ],
)
def test_wrong_arguments_are_one_line(typed, message):
    with pytest.raises(UserError) as error:
        arguments(typed)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_changes_of_an_inner_run_win_and_drop_what_belonged_to_the_old_choice():
    job = inner_job(
        ["method=dm", "method.momentum=0.9", "ipc=2", "dataset=digits", "seed=5"],
        ["method=random", "steps=0", "seed=1", "evaluation=none"],
    )
    assert job.command == (
        "distill ipc=2 dataset=digits method=random steps=0 seed=1 evaluation=none"
    )
    assert (job.config.method.name, job.config.seed, job.config.ipc) == ("random", 1, 2)
    assert job.folder.parts[:4] == ("outputs", "random", "digits", "ipc2")


def test_the_folder_depends_on_what_decides_the_result():
    def name(*more):
        tree = plain(compose("apply", ["apply=privacy", *more]))
        return apply_digest(tree)

    base = name()
    assert name("out=elsewhere", "progress=none") == base
    others = [
        name("apply.rho=[0.5]"), name("seed=1"), name("evaluation=krr_ntk"),
        name("evaluation.limit=100"), name("coreset.path=x"),
    ]  # fmt: skip
    assert len({base, *others}) == 6


def test_unknown_keys_are_suggested():
    assert "ipc" in known_keys("apply", "ipk")


@pytest.mark.process
@pytest.mark.parametrize("arguments", [["--help"], ["privacy", "--cfg", "job"], ["nothing"]])
def test_help_configuration_and_bad_input_import_nothing_heavy(tmp_path, arguments):
    code = (
        "import sys, json, atexit\n"
        "atexit.register(lambda: print('\\n' + json.dumps(sorted(sys.modules))))\n"
        f"sys.argv = {['distill-apply', *arguments]!r}\n"
        "from distill_cli.cli.apply import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == (2 if arguments == ["nothing"] else 0), done.stderr
    loaded = set(json.loads(done.stdout.strip().splitlines()[-1]))
    assert not loaded & {"jax", "tensorflow", "orbax", "flax", "matplotlib", "sklearn"}
    assert not list(tmp_path.iterdir())
