"""Baked projects that are trained as a user trains them: the real command, signals, two processes."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import datasets
import pytest
import yaml
from project import PACKAGE, SMALL, clean_environment
from warm import run


def rows(run_folder: Path) -> list[dict[str, str]]:
    with (run_folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_of_ones_own_images_trains_and_the_file_that_is_none_is_named(bake_project, tmp_path):
    project = bake_project({"dataset": "image_folder", "logger": "csv"})
    root = tmp_path / "images"
    datasets.image_folder(root)
    options = [
        "--run=a",
        f"--data.root={root}",
        "--trainer.max_epochs=8",
        "--data.batch_size=16",
        "--data.skip_corrupt=true",
    ]

    [(code, output), (predicted, _)] = run(project, ["fit", *options], ["predict"])

    assert code == predicted == 0, output
    named = re.findall(r"^warning: .*broken.jpg can't be read as an image: .*\. It is left out\.$", output, re.M)
    assert len(named) == 1, named  # not in each epoch, nor by each worker process
    assert f"{root}/train/circle/" in named[0]
    # light red against dark blue is learnt at once
    assert json.loads((project / "runs" / "a" / "test.json").read_text())["test/accuracy"] > 0.8
    with (project / "runs" / "a" / "predictions.csv").open(newline="") as file:
        predictions = list(csv.DictReader(file))
    assert list(predictions[0]) == ["file", "label", "probability", "p(circle)", "p(square)"]
    assert {row["label"] for row in predictions} == {"circle", "square"}
    assert len(predictions) == 24


def test_a_training_that_no_validation_interrupts_is_tested_with_its_last_weights(bake_project):
    project = bake_project({"logger": "csv"})
    limits = ("--trainer.max_steps=3",), ("--trainer.limit_val_batches=0", "--trainer.max_epochs=2")

    answers = run(project, *(["fit", f"--run={i}", *options] for i, options in enumerate(limits)))

    for i, (code, output) in enumerate(answers):
        assert code == 0, output
        assert output.count("warning: there was no validation, so early stopping has no val/loss to go by.\n") == 1
        assert json.loads((project / "runs" / str(i) / "test.json").read_text())["checkpoint"] == "last.ckpt"


def command(project: Path, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
    """Run the real command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", PACKAGE, *arguments],
        cwd=project,
        env=clean_environment(project),
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )


def test_the_default_command_reaches_an_accuracy_of_98_percent_and_tells_what_to_type_next(bake_project):
    project = bake_project({})
    done = command(project, "fit")

    assert done.returncode == 0, done.stderr
    accuracy = re.search(r"test/accuracy (\S+)", done.stdout)
    assert accuracy
    assert float(accuracy.group(1)) >= 0.98
    folder = re.search(r"Run folder: (\S+)", done.stdout)
    assert folder
    assert (project / folder.group(1) / "run.json").is_file()
    assert f"Next: python -m {PACKAGE} runs" in done.stdout


def test_two_processes_share_one_run_folder(bake_project):
    project = bake_project({"strategy": "ddp", "devices": "2", "logger": "csv", "accelerator": "cpu"})
    done = command(project, "fit", "--trainer.max_epochs=2", "--run=a")

    assert done.returncode == 0, done.stderr
    assert "2 processes" in done.stdout
    assert [path.name for path in (project / "runs").iterdir()] == ["a"]
    # all 360 test images were seen, none twice: the accuracy is a whole number of them
    correct = json.loads((project / "runs" / "a" / "test.json").read_text())["test/accuracy"] * 360
    assert correct == pytest.approx(round(correct), abs=1e-3)
    # and the training images of both are counted: whole batches of 64 for each, of 1,293
    assert json.loads((project / "runs" / "a" / "run.json").read_text())["train_items"] == 2 * 10 * 2 * 64


@pytest.mark.skipif(sys.platform == "win32", reason="a process on Windows is sent no such signals")
@pytest.mark.parametrize(
    ("sent", "code"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)]
)
def test_a_stopped_run_exits_with_the_signals_code_and_can_be_resumed(bake_project, sent, code):
    project = bake_project({"logger": "csv"})
    options = ["--run=a", "--trainer.max_epochs=1000", "--data.batch_size=16"]
    process = subprocess.Popen(
        [sys.executable, "-m", PACKAGE, "fit", *options],
        cwd=project,
        env=clean_environment(project),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # a shell that runs the tests in the background hands on that the signal is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        end = time.monotonic() + 120
        while not (project / "runs" / "a" / "checkpoints" / "last.ckpt").exists():
            assert time.monotonic() < end
            assert process.poll() is None, process.stdout.read() if process.stdout else ""
            time.sleep(0.2)
        process.send_signal(sent)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code, output
    assert "Traceback" not in output
    assert json.loads((project / "runs" / "a" / "run.json").read_text())["status"] == "interrupted"

    done = command(project, "fit", "--resume", "--trainer.max_epochs=2")
    assert done.returncode == 0, done.stderr
    assert json.loads((project / "runs" / "a" / "run.json").read_text())["status"] == "finished"


def test_the_console_script_is_the_same_program(bake_project):
    project = bake_project({"logger": "csv"})
    code = f"import sys; from {PACKAGE}.__main__ import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "test"],
        cwd=project,
        env=clean_environment(project),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "error: no finished run in runs." in done.stderr


def test_a_missing_default_configuration_is_said_to_be_missing(bake_project, tmp_path):
    project = bake_project({"logger": "csv"})
    (project / "configs" / "default.yaml").unlink()

    [(code, output)] = run(project, ["fit"])

    assert code == 1
    assert f"error: {Path('configs/default.yaml')} is not in {project}. Run this in the project's folder" in output


def test_a_resumed_run_keeps_its_options(bake_project):
    project = bake_project({"logger": "csv"})
    [_, (code, output)] = run(project, ["fit", "--run=a", *SMALL], ["fit", "--resume=a", "--model.label_smoothing=0.1"])

    assert code == 1
    assert "a resumed run keeps its options and its data, but model.label_smoothing is 0.1 and was 0.0." in output


def test_a_run_is_repeated_from_its_configuration_to_the_same_metrics(bake_project):
    project = bake_project({"logger": "csv"})
    first = ["fit", "--run=a", *SMALL, "--model.optimizer.init_args.lr=0.01", "--seed_everything=7"]
    results = run(project, first, ["fit", "-c", "runs/a/config.yaml", "--run=b"])

    assert [code for code, _ in results] == [0, 0], results
    a, b = project / "runs" / "a", project / "runs" / "b"
    assert rows(a) == rows(b)
    assert yaml.safe_load((a / "config.yaml").read_text()) == yaml.safe_load((b / "config.yaml").read_text())


def test_every_overlay_that_a_cpu_can_run_runs(bake_project):
    project = bake_project({"logger": "csv"})
    options = ["--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=1"]
    names = ["quick", "overfit", "profile"]
    results = run(project, *(["fit", "-c", f"configs/{name}.yaml", f"--run={name}", *options] for name in names))

    assert [code for code, _ in results] == [0, 0, 0], results
    assert "forward, backward, optimizer" in (project / "runs" / "profile" / "fit-profile.txt").read_text()


@pytest.mark.parametrize("profiler", ["AdvancedProfiler", "PyTorchProfiler"])
def test_the_other_profilers_of_the_overlay_run(bake_project, profiler):
    project = bake_project({"logger": "csv"})
    option = f"--trainer.profiler.class_path=pytorch_lightning.profilers.{profiler}"
    [(code, output)] = run(project, ["fit", "-c", "configs/profile.yaml", "--run=a", option, *SMALL])

    assert code == 0, output
    assert (project / "runs" / "a" / "fit-profile.txt").stat().st_size > 1000
