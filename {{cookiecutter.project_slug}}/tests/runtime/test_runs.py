import csv
import json
import signal
from pathlib import Path
from typing import Any

from {{ cookiecutter.__package }}.module import ImageClassifier
from {{ cookiecutter.__package }}.train import main

SHORT = ("--trainer.max_epochs", "4", "--trainer.limit_train_batches", "4", "--trainer.log_every_n_steps", "1")


def read_rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def read_json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def test_config_of_a_run_repeats_it(trained, tmp_path) -> None:
    root = ("--trainer.default_root_dir", str(tmp_path))
    assert main(["fit", "-c", str(trained / "config.yaml"), *root, "--run", "again"]) == 0
    assert read_rows(tmp_path / "again" / "metrics.csv") == read_rows(trained / "metrics.csv")


def test_each_run_has_a_folder_of_its_own(run, tmp_path, capsys) -> None:
    assert run("fit", *SHORT, "--run", "a") == 0
    assert run("fit", *SHORT, "--run", "b") == 0
    assert run("fit", *SHORT, "--run", "a") == 1
    assert f"{tmp_path / 'a'} exists already" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_interrupted_run_goes_on_as_if_nothing_had_happened(run, tmp_path, monkeypatch) -> None:
    assert run("fit", *SHORT, "--run", "whole") == 0

    def press_ctrl_c(self: ImageClassifier) -> None:
        if self.current_epoch == 2:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(ImageClassifier, "on_train_epoch_start", press_ctrl_c)
        assert run("fit", *SHORT, "--run", "stopped") == 130
    assert read_json(tmp_path / "stopped" / "run.json")["status"] == "interrupted"
    assert run("fit", *SHORT, "--resume") == 0
    assert read_rows(tmp_path / "stopped" / "metrics.csv") == read_rows(tmp_path / "whole" / "metrics.csv")


def test_resumed_run_keeps_its_options_but_may_train_longer(run, tmp_path, capsys) -> None:
    assert run("fit", *SHORT, "--run", "a") == 0
    assert run("fit", *SHORT, "--resume", "a", "--data.batch_size", "32") == 1
    assert "data.batch_size is 32 and was 64" in capsys.readouterr().err
    assert run("fit", *SHORT, "--resume", "a", "--trainer.max_epochs", "5") == 0
    assert max(int(row["epoch"] or 0) for row in read_rows(tmp_path / "a" / "metrics.csv")) == 5


def test_evaluation_without_a_run_is_refused(run, tmp_path, capsys) -> None:
    for command in ("validate", "test", "predict"):
        assert run(command) == 1
        assert f"error: no finished run in {tmp_path}. Train one with: fit" in capsys.readouterr().err
    assert run("test", "--run", "lost") == 1
    assert "there is no run lost" in capsys.readouterr().err
    assert run("fit", "--resume") == 1
    assert "no unfinished run" in capsys.readouterr().err
    assert run("test", "--ckpt_path", "lost.ckpt") == 1
    assert "the checkpoint lost.ckpt does not exist" in capsys.readouterr().err
