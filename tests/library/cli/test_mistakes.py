"""What the command line does when it can't do what it is asked to, and that nothing is lost."""

import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import messages
import pytest
import torch
from lightning_runs.errors import UserError
from toy import Toy
from written import record, rows


def files(folder: str) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in Path(folder).rglob("*") if file.is_file()}


@pytest.mark.parametrize("title", messages.MISTAKES)
def test_a_mistake_is_named_in_a_line_and_changes_nothing(title, have, own_folder) -> None:
    messages.prepare(own_folder)
    for run in ("finished", "interrupted"):
        have(run, run)
    before = files(".")
    mistake = messages.MISTAKES[title]
    code, text = messages.printed(mistake)
    assert code == mistake.code
    assert [word for word in mistake.named.split() if word not in text] == []
    assert "Traceback" not in text
    assert not text.startswith("executed")
    assert "usage" in text or len(text[text.rfind("error:") :].splitlines()) <= 5
    assert files(".") == before
    assert messages.entry(title, mistake.args, code, text) == messages.entries()[title], "run: make messages"


def test_the_file_of_messages_has_no_others() -> None:
    assert list(messages.entries()) == [*messages.HELP, *messages.MISTAKES], "run: make messages"


def test_a_folder_without_a_configuration_is_named(run, capsys) -> None:
    Path("configs/default.yaml").unlink()
    assert run("fit") == 1
    assert "configs/default.yaml" in capsys.readouterr().err


def test_a_restart_by_torchrun_needs_a_name(run, monkeypatch, capsys) -> None:
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    assert run("fit") == 1
    error = capsys.readouterr().err
    assert [word for word in ("--max-restarts 3", "toy_project fit --run NAME --resume") if word not in error] == []


# Starts a command where torch can't be imported.
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from lightning_runs import Project
for args in (["runs"], ["docs"], ["docs", "none"], ["--help"], ["--version"], ["predict", "--onnx", "a.onnx", "b.png"]):
    print(Project("toy_project").main(args))
"""


def test_short_answers_import_no_torch(monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, check=True)
    codes = [line for line in done.stdout.splitlines() if line.isdigit()]
    assert codes == ["0", "0", "2", "0", "0", "1"], done.stderr


@contextmanager
def little_room(size: int) -> Iterator[None]:
    """No file can grow beyond so many bytes, as on a disk that is almost full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(
    ("args", "file"),
    [("predict --run a", "predictions.csv"), ("report a", "report.html"), ("test --run a", "test.json")],
)
def test_a_full_disk_is_named_and_keeps_the_file_that_was_there(args, file, run, have, capsys) -> None:
    have("finished", "a")
    assert run(*args.split()) == 0
    before = files("runs")
    with little_room(30):
        assert run(*args.split()) == 1
    assert file in capsys.readouterr().err
    assert files("runs") == before


class FillsTheDisk(Toy):
    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if self.global_step == 8:
            Path("runs/a/metrics.csv").unlink()
            Path("runs/a/metrics.csv").symlink_to("/dev/full")


def test_a_disk_that_is_full_in_mid_run_is_named(run, capsys) -> None:
    assert run("fit", "--run", "a", "--save_every_n_steps=1", module=FillsTheDisk) == 1
    assert "metrics.csv" in capsys.readouterr().err
    assert record("a")["status"] == "failed"


@pytest.mark.parametrize(("key", "value"), [("loops", {}), ("callbacks", [])])
def test_a_checkpoint_without_training_state_is_not_resumed(key, value, run, have, capsys) -> None:
    have("interrupted", "a")
    for file in Path("runs/a/checkpoints").glob("*.ckpt"):
        torch.save(torch.load(file, weights_only=True) | {key: value}, file)
    assert run("fit", "--resume", "a") == 1
    assert ".ckpt" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"\xff\n", b"a,b\n1,2\n"])
def test_a_damaged_metrics_csv_keeps_no_run_from_resuming(content, run, have, capsys) -> None:
    have("interrupted", "a")
    file = Path("runs/a/metrics.csv")
    file.write_bytes(file.read_bytes() + content if content == b"\xff\n" else content)
    run("fit", "--resume", "a")
    assert "metrics.csv" in "".join(capsys.readouterr())


@pytest.mark.parametrize("content", ["[]", "null", '"x"', '{"status": "finished", "started": 5}'])
def test_a_bad_run_json_hinders_no_command_on_other_runs(content, run, have) -> None:
    for kind, name in (("finished", "a"), ("interrupted", "b"), ("finished", "bad")):
        have(kind, name)
    Path("runs/bad/run.json").write_text(content)
    commands = ("runs", "test --run a", "validate --run a", "predict --run a", "fit --resume")
    assert [run(*command.split()) for command in commands] == [0] * 5


class BadWorker(Toy):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        raise UserError("Caught UserError in a worker\nerrors.UserError: the first cause.")


def test_of_an_error_of_another_process_the_cause_is_printed(run, capsys) -> None:
    assert run("fit", module=BadWorker) == 1
    assert re.fullmatch(r"error: the first cause.\n", capsys.readouterr().err)


@pytest.mark.parametrize("name", ["DeviceStatsMonitor", "Timer", "LearningRateMonitor"])
def test_a_callback_of_lightning_trains_or_is_named(name, run, capsys) -> None:
    code = run("fit", "--run", "a", f"--trainer.callbacks+=pytorch_lightning.callbacks.{name}")
    assert code == 0 or name in capsys.readouterr().err


def test_every_command_finds_the_configured_folder_of_runs(run, have, capsys) -> None:
    have("finished", "a")
    configuration = Path("configs/default.yaml")
    configuration.write_text(configuration.read_text().replace("default_root_dir: runs", "default_root_dir: out"))
    Path("runs").rename("out")
    assert [run("runs"), run("test"), run("report", "a")] == [0, 0, 0]
    assert re.search(r"^a +finished", capsys.readouterr().out, re.MULTILINE)


def test_early_stopping_null_turns_it_off(run) -> None:
    configuration = Path("configs/default.yaml")
    configuration.write_text(f"{configuration.read_text()}early_stopping:\n  monitor: val/loss\n  min_delta: 100\n")
    for name, off in {"a": ["--early_stopping", "null"], "b": ["--early_stopping=null", "--checkpoint=null"]}.items():
        assert run("fit", "--trainer.max_epochs=6", "--run", name, *off) == 0
        assert max(int(row["epoch"]) for row in rows(name)) >= 5
