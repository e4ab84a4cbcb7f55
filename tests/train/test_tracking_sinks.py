"""Where numbers go besides metrics.jsonl."""

import importlib.util

import pytest

from distill_cli.train.loggers import Run, open_sinks
from distill_cli.train.tracking import StopTraining, Tracker, read


class Recorder:
    def __init__(self, error: Exception | None = None) -> None:
        self.rows, self.error, self.closed = [], error, False

    def log(self, step, values):
        self.rows.append((step, dict(values)))
        if self.error:
            raise self.error

    def close(self):
        self.closed = True


def test_sinks_get_finite_numbers_and_a_failing_one_is_left_out(tmp_path, caplog):
    good, bad = Recorder(), Recorder(OSError("no network"))
    tracker = Tracker(tmp_path / "metrics.jsonl", None, [bad, good])
    tracker.log(0, loss=1.0, accuracy=float("nan"))
    tracker.log(1, loss=0.5)
    tracker.close()
    assert good.rows == [(0, {"loss": 1.0}), (1, {"loss": 0.5})]
    assert len(bad.rows) == 1 and good.closed and not bad.closed
    assert "no network" in caplog.text
    assert read(tmp_path / "metrics.jsonl")[0] == {"step": 0, "loss": 1.0, "accuracy": None}


def test_a_sink_may_stop_the_training_after_the_line_is_written(tmp_path):
    tracker = Tracker(tmp_path / "metrics.jsonl", None, [Recorder(StopTraining("enough"))])
    with pytest.raises(StopTraining, match="enough"):
        tracker.log(3, loss=1.0)
    assert read(tmp_path / "metrics.jsonl") == [{"step": 3, "loss": 1.0}]


def test_tensorboard_events_are_read_back(tmp_path):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    from distill_cli.train.loggers.tensorboard import Config

    run = Run(tmp_path, "name", "digest", {}, None)
    (sink,) = open_sinks({"tensorboard": Config()}, run)
    for step in (0, 1):
        sink.log(step, {"loss": 0.5 + step, "seconds": 9.0})
    sink.close()
    (file,) = (tmp_path / "tensorboard").iterdir()
    found, data, at = [], file.read_bytes(), 0
    while at < len(data):  # records: length (8 bytes), checksum (4), content, checksum (4)
        size = int.from_bytes(data[at : at + 8], "little")
        event = Event.FromString(data[at + 12 : at + 12 + size])
        found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
        at += 16 + size
    assert found == [(0, "loss", 0.5), (1, "loss", 1.5)]


@pytest.mark.process
def test_wandb_offline(tmp_path):
    pytest.importorskip("wandb")
    from distill_cli.train.loggers.wandb import Config

    run = Run(tmp_path, "rfad-digits", "0123abcd", {"ipc": 1}, None)
    (sink,) = open_sinks({"wandb": Config()}, run)
    sink.log(0, {"loss": 0.5})
    sink.close()
    (file,) = (tmp_path / "wandb").glob("offline-run-*-0123abcd/run-0123abcd.wandb")
    assert b"loss" in file.read_bytes()


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_is_one_line(command, monkeypatch, name, tmp_path):
    real = importlib.util.find_spec

    def absent(module, *rest):
        return None if module in ("tensorboardX", "wandb") else real(module, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", absent)
    done = command("distill", f"logger=[{name}]", "steps=1")
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith(f"error: logger={name}: needs the package")
    assert f"distill-cli[{name}]" in done.err
    assert not list((tmp_path).rglob("result.json"))


def test_loggers_and_tuning_do_not_change_the_folder():
    from distill_cli.cli.compose import compose, run_folder

    plain, _ = run_folder(compose("config", []))
    more, _ = run_folder(compose("config", ["logger=[tensorboard,wandb]", "tuning.prune=median"]))
    assert plain == more


def test_a_wrong_logger_or_key(command):
    done = command("distill", "logger=[tensorbord]")
    assert done.code == 2 and "did you mean tensorboard?" in done.err
    done = command("distill", "logger=[tensorboard]", "logger.tensorboard.flush_seconds=0")
    assert done.code == 2 and "must be at least 1" in done.err
