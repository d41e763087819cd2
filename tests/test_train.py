"""Baked projects that are trained: every logger, every data set, two processes, and a user's mistakes."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import datasets
import pytest
import yaml
from project import PACKAGE, SMALL, clean_environment
from warm import run

METRICS = {"train/loss", "train/accuracy", "val/loss", "val/accuracy", "test/loss", "test/accuracy"}


def fit_twice_and_test(project: Path, *options: str, before: str = "") -> Path:
    """Take the path of a user and return the first run's folder.

    A dry run, a short real run, a test of its checkpoint, predictions, a second run in the same folder, and a
    resumed one.
    """
    small = [*SMALL, *options]
    commands = [
        ["fit", "--trainer.fast_dev_run=true", *small],
        ["fit", "--run=first", *small],
        ["test", "--run=first"],
        ["predict", "--run=first"],
        ["fit", "--run=second", *small],
        ["fit", "--run=first", *small],
        ["fit", "--resume=first", "--trainer.max_epochs=3"],
    ]
    results = run(project, *commands, before=before)
    for number, (code, output) in enumerate(results):
        assert code == (1 if number == 5 else 0), output
        assert "Traceback" not in output
    assert "first exists already. Choose another --run name, or go on with that run: --resume first" in results[5][1]
    for name in ("first", "second"):
        folder = project / "runs" / name
        assert json.loads((folder / "run.json").read_text())["status"] == "finished"
        assert {"epoch", "last.ckpt"} <= {f.name.split("=")[0] for f in (folder / "checkpoints").iterdir()}
        assert json.loads((folder / "test.json").read_text())["test/accuracy"] >= 0
    assert {path.name for path in (project / "runs").glob("*/config.yaml")} == {"config.yaml"}
    assert not (project / "runs" / "checkpoints").exists()  # nor did the dry run leave anything
    return project / "runs" / "first"


def rows(run_folder: Path) -> list[dict[str, str]]:
    with (run_folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def assert_csv_has_every_metric(run_folder: Path) -> None:
    written = rows(run_folder)
    assert METRICS | {"epoch", "step"} <= written[0].keys()
    # the rows before and after the run was resumed
    assert {row["epoch"] for row in written if row["val/loss"]} == {"0", "1", "2"}


@pytest.mark.parametrize("logger", ["csv", "none"])
def test_without_a_service_the_pictures_are_png_files(bake_project, logger):
    folder = fit_twice_and_test(bake_project({"logger": logger}))

    pictures = {path.name for path in (folder / "images").glob("*.png")}
    assert {"test_examples.png", "test_predictions.png", "val_epoch_000_examples.png"} <= pictures
    if logger == "csv":
        assert_csv_has_every_metric(folder)
    else:
        assert not (folder / "metrics.csv").exists()


def test_tensorboard_holds_the_metrics_the_histogram_and_the_pictures(bake_project):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = fit_twice_and_test(bake_project({"logger": "tensorboard"}))

    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) >= METRICS
    assert {"val/examples", "test/examples"} <= set(events.Tags()["images"])
    assert {"val/predictions", "test/predictions"} <= set(events.Tags()["histograms"])
    logged = {event.step: event.value for event in events.Scalars("val/loss")}
    written = {int(row["step"]): float(row["val/loss"]) for row in rows(folder) if row["val/loss"]}
    assert logged == pytest.approx(written, rel=1e-5)
    assert_csv_has_every_metric(folder)


def test_mlflow_holds_the_metrics_and_the_pictures_in_one_run(bake_project):
    from mlflow.tracking import MlflowClient

    folder = fit_twice_and_test(bake_project({"logger": "mlflow"}))

    client = MlflowClient(f"sqlite:///{folder.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("my-lightning-project")
    assert experiment
    found = {r.info.run_name: r for r in client.search_runs([experiment.experiment_id])}
    assert set(found) == {"first", "second"}  # the resumed run went on where it was
    assert found["first"].data.metrics.keys() >= METRICS
    pictures = [file.path for file in client.list_artifacts(found["first"].info.run_id, "test")]
    assert any("examples" in name for name in pictures)
    assert any("predictions" in name for name in pictures)
    assert_csv_has_every_metric(folder)


def test_wandb_without_a_key_goes_offline_and_holds_the_metrics_the_histogram_and_the_pictures(bake_project):
    project = bake_project({"logger": "wandb"})
    folder = fit_twice_and_test(project)

    offline = list((folder / "wandb").glob("offline-run-*"))
    identity = json.loads((folder / "run.json").read_text())["logged_as"]["wandb"]
    assert len(offline) == 2  # the run and its resumption …
    assert {path.name.rsplit("-", 1)[1] for path in offline} == {identity}  # … which are one run for W&B
    keys = set()
    for path in offline:
        keys |= _wandb_keys(next(path.glob("*.wandb")))
    assert METRICS | {"val/examples", "val/predictions", "test/examples", "test/predictions"} <= keys
    assert list((offline[0] / "files" / "media" / "images").rglob("examples*.png"))
    assert_csv_has_every_metric(folder)


def _wandb_keys(file: Path) -> set[str]:
    """Read the keys of a W&B offline file: LevelDB's log format behind a header of 7 bytes, in blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore[reportAttributeAccessIssue]

    content, at, parts, keys = file.read_bytes(), 7, b"", set()
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:  # too little for the header of a record: the next one begins the next block
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record = Record()
            record.ParseFromString(parts)
            keys |= {item.key or item.nested_key[0] for item in record.history.item}
            parts = b""
    return keys


@pytest.mark.parametrize("reason", ["no key", "no network"])
def test_wandb_says_in_one_line_that_it_is_offline(bake_project, reason):
    project = bake_project({"logger": "wandb"})
    # a port on this machine where nothing listens
    key = {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"} if reason == "no network" else {}
    before = f"""
from {PACKAGE} import loggers
import time
start = time.monotonic(); loggers._why_offline(); took = time.monotonic() - start
assert took < 5, took
"""
    [(code, output)] = run(project, ["fit", "--run=a", *SMALL], before=before, environment=key)

    assert code == 0, output
    said = [line for line in output.splitlines() if "offline" in line]
    assert len(said) == 1
    why = "127.0.0.1 can't be reached" if key else "no API key; wandb login sets one"
    path = os.path.join("runs", "a", "wandb")
    assert said[0] == f"W&B is offline ({why}). To upload the run later: wandb sync {path}/offline-run-*"


@pytest.mark.parametrize("dataset", ["mnist", "fashion_mnist", "cifar10", "corrupt_mnist", "image_folder"])
def test_every_data_set_is_trained_from_files_of_its_own_format(bake_project, tmp_path, dataset):
    project = bake_project({"dataset": dataset, "logger": "csv"})
    options = datasets.write(dataset, tmp_path / "files")

    folder = fit_twice_and_test(project, *options, before=datasets.WITHOUT_CIFAR_SUMS)

    with (folder / "predictions.csv").open(newline="") as file:
        predictions = list(csv.DictReader(file))
    first = "file" if dataset == "image_folder" else "index"
    assert list(predictions[0]) == [first, "label", "probability"]
    assert len({row[first] for row in predictions}) == len(predictions)
    assert all(0 < float(row["probability"]) <= 1 for row in predictions)


def test_a_folder_of_ones_own_images_trains_and_the_file_that_is_none_is_named(bake_project, tmp_path):
    project = bake_project({"dataset": "image_folder", "logger": "csv"})
    root = tmp_path / "images"
    datasets.image_folder(root)
    options = ["--run=a", f"--data.root={root}", "--trainer.max_epochs=8", "--data.batch_size=16"]

    [(code, output), (predicted, _)] = run(project, ["fit", *options], ["predict"])

    assert code == predicted == 0, output
    assert f"{root}/train/circle/broken.jpg can't be read as an image and is left out" in output
    # light red against dark blue is learnt at once
    assert json.loads((project / "runs" / "a" / "test.json").read_text())["test/accuracy"] > 0.8
    with (project / "runs" / "a" / "predictions.csv").open(newline="") as file:
        predictions = list(csv.DictReader(file))
    assert list(predictions[0]) == ["file", "label", "probability"]
    assert {row["label"] for row in predictions} == {"circle", "square"}
    assert len(predictions) == 24


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
    assert f"Next: python -m {PACKAGE} predict" in done.stdout


def test_two_processes_share_one_run_folder(bake_project):
    project = bake_project({"strategy": "ddp", "devices": "2", "logger": "csv", "accelerator": "cpu"})
    done = command(project, "fit", "--trainer.max_epochs=2", "--run=a")

    assert done.returncode == 0, done.stderr
    assert "2 processes" in done.stdout
    assert [path.name for path in (project / "runs").iterdir()] == ["a"]
    # all 360 test images were seen, none twice: the accuracy is a whole number of them
    correct = json.loads((project / "runs" / "a" / "test.json").read_text())["test/accuracy"] * 360
    assert correct == pytest.approx(round(correct), abs=1e-3)


@pytest.mark.skipif(sys.platform == "win32", reason="a process on Windows is sent no such signals")
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
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
    code = f"import sys; from {PACKAGE}.train import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "test"],
        cwd=project,
        env=clean_environment(project),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "error: no finished run in runs." in done.stderr


MISTAKES = [
    (["fit", "--resume"], 1, "no unfinished run in runs to resume"),
    (
        ["fit", "--trainer.max_epoch", "3"],
        2,
        "there is no option --trainer.max_epoch. Did you mean --trainer.max_epochs",
    ),
    (["fit", "-c", "misspelt.yaml"], 2, "there is no option trainer.max_epochz. Did you mean --trainer.max_epochs"),
    (["fit", "-c", "missing.yaml"], 2, "missing.yaml"),
    (["fit", "-c", "no.yaml"], 2, "no.yaml"),
    (["fit", "--data.dataset", "image_folder"], 1, "data/train is missing: put your images into data/train/CLASS/"),
    (["fit", "--data.dataset", "corrupt_mnist"], 1, "data/train_images_0.pt is missing"),
    (["fit", "--data.dataset", "iris"], 2, "--data.dataset is 'iris'; it must be one of 'digits', 'mnist'"),
    (["fit", "--data.batch_size", "0"], 1, "data.batch_size is 0; it must be at least 1"),
    (["fit", "--data.batch_size", "2000"], 1, "data.batch_size is 2000, but there are only 1293 training images"),
    (["fit", "--data.batch_size", "many"], 2, "--data.batch_size is 'many'; it must be a value of type int"),
    (["fit", "--data.val_fraction", "1.5"], 1, "data.val_fraction is 1.5; it must lie between 0 and 1"),
    (
        ["fit", "--model.num_classes", "7"],
        2,
        "--model.num_classes can't be set: it is the number of classes in the data",
    ),
    (["fit", "--trainer.accelerator", "gpu"], 1, "trainer.accelerator is gpu, but no GPU was found"),
    (["fit", "--trainer.precision", "16-true"], 1, "trainer.precision is 16-true, and the device is cpu"),
    (["fit", "--trainer.strategy", "fsdp"], 1, "trainer.strategy is fsdp, and the device is cpu"),
    (["fit", "--trainer.devices", "-1"], 1, "trainer.devices is -1; on a CPU it is the number of processes"),
    (["fit", "--trainer.num_nodes", "2"], 1, "trainer.num_nodes is 2, but nothing started this process"),
    (["fit", "--trainer.limit_val_batches", "0"], 1, "val/loss` which is not available"),
    (["fit", "--trainer.max_epochs", "0"], 1, "nothing was trained"),
    (["fit", "--model.optimizer.init_args.lr", "1e30", "--trainer.max_epochs", "2"], 1, "the training has diverged"),
    (["fit", "--run", "a/b"], 1, "--run is 'a/b'; a run's name is made of"),
    (["fit", "--resume", "nothing"], 1, "there is no run nothing in runs"),
    (["fit", "--ckpt_path", "http://127.0.0.1/a.ckpt"], 1, "is an address. Download it"),
    (["test"], 1, "no finished run in runs"),
    (["test", "--run", "nothing"], 1, "there is no run nothing in runs"),
    (["test", "--ckpt_path", "missing.ckpt"], 1, "the checkpoint missing.ckpt does not exist"),
    (["test", "--ckpt_path", "no.yaml"], 1, "the checkpoint no.yaml can't be read"),
    (["tset"], 2, "'tset'"),
    ([], 2, "subcommand"),
]


def test_each_mistake_has_a_message_of_at_most_five_lines_and_no_traceback(bake_project):
    project = bake_project({"logger": "csv"})
    (project / "misspelt.yaml").write_text("trainer:\n  max_epochz: 3\n")
    (project / "no.yaml").write_text("trainer: [\n")
    results = run(project, *(arguments for arguments, _, _ in MISTAKES))

    wrong = []
    for (arguments, expected, text), (code, output) in zip(MISTAKES, results, strict=True):
        said = output[output.find("error:") :].splitlines()
        if code != expected or text not in output or "Traceback" in output or len(said) > 5:
            wrong.append(f"{arguments}: exit {code}\n{output}")
    assert not wrong, "\n\n".join(wrong)


def test_a_missing_default_configuration_is_said_to_be_missing(bake_project, tmp_path):
    project = bake_project({"logger": "csv"})
    (project / "configs" / "default.yaml").unlink()

    [(code, output)] = run(project, ["fit"])

    assert code == 1
    assert f"error: {Path('configs/default.yaml')} is not in {project}. Run this in the project's folder" in output


def test_a_missing_logger_is_named_with_the_command_that_installs_it(bake_project):
    project = bake_project({"logger": "csv"})
    before = "import importlib.util as u; u.find_spec = lambda name: None if name == 'mlflow' else 1"

    [(code, output)] = run(project, ["fit", "--logger=mlflow", *SMALL], before=before)

    assert code == 1
    assert "the logger mlflow is not installed. Install it with: pip install -e '.[mlflow]'" in output
    assert not list((project / "runs").glob("*"))


def test_a_resumed_run_keeps_its_options(bake_project):
    project = bake_project({"logger": "csv"})
    [_, (code, output)] = run(project, ["fit", "--run=a", *SMALL], ["fit", "--resume=a", "--model.label_smoothing=0.1"])

    assert code == 1
    assert "a resumed run keeps its options, but model.label_smoothing is 0.1 and was 0.0." in output


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
    assert (project / "runs" / "profile" / "fit-profile.txt").stat().st_size > 1000


@pytest.mark.parametrize("profiler", ["AdvancedProfiler", "PyTorchProfiler"])
def test_the_other_profilers_of_the_overlay_run(bake_project, profiler):
    project = bake_project({"logger": "csv"})
    option = f"--trainer.profiler.class_path=pytorch_lightning.profilers.{profiler}"
    [(code, output)] = run(project, ["fit", "-c", "configs/profile.yaml", "--run=a", option, *SMALL])

    assert code == 0, output
    assert (project / "runs" / "a" / "fit-profile.txt").stat().st_size > 1000


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true", "64-true"])
def test_every_precision_of_a_cpu_trains(bake_project, precision):
    project = bake_project({"logger": "csv", "precision": precision, "accelerator": "cpu"})
    [(code, output)] = run(project, ["fit", "--run=a", *SMALL])

    assert code == 0, output
    assert f"precision {precision}" in output
