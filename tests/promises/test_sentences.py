"""Where a traceback stands today and a sentence is due: one bad file, a full disk, a text that can't be printed."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import shutil
import subprocess
import sys

import pytest
import torch
from PIL import Image
from project import PACKAGE, SMALL, clean_environment
from test_resume import WITH_BACKBONE
from trainings import bake, callback, is_one_sentence, prepared, read_csv, told, write_images
from warm import run, shared

BAD_RECORDS = {
    "list": b"[]",
    "null": b"null",
    "text": b'"x"',
    "bytes": b"\xff\xfe{}",
    "process": json.dumps({"status": "running", "process": {"host": platform.node()}}).encode(),
    "date": b'{"status": "finished", "started": 5}',
}


def test_a_bad_run_json_is_named_and_passed_over(trained):
    """``runs``, ``test``, ``validate``, ``predict`` and ``fit --resume`` beside runs with a run.json such as ``[]``."""
    for name, content in BAD_RECORDS.items():
        shutil.copytree(trained / "runs" / "a", trained / "runs" / f"bad-{name}")
        (trained / "runs" / f"bad-{name}" / "run.json").write_bytes(content)

    results = run(trained, ["runs"], ["test"], ["validate"], ["predict"], ["fit", "--resume"])

    assert [code for code, _ in results] == [0] * 5, results
    assert [name for name in BAD_RECORDS if f"bad-{name}" not in results[0][1]] == []


def test_a_disk_that_is_full_when_metrics_csv_is_written_is_told(tmp_path):
    """``fit --run=a``, on whose metrics.csv the disk is full from the second epoch on."""
    project = bake(tmp_path)
    before = f"""
import os
from {PACKAGE}.module import ImageClassifier
def fill(self, *args):
    if self.global_step == 4:
        os.remove("runs/a/metrics.csv")
        os.symlink("/dev/full", "runs/a/metrics.csv")
ImageClassifier.on_train_batch_start = fill
"""
    [(code, output)] = run(project, ["fit", "--run=a", "--save_every_n_steps=1", *SMALL], before=before)

    assert code == 1, output
    assert is_one_sentence(output), output
    assert "metrics.csv" in told(output)[0]


# A file can't grow beyond this many bytes, as on a disk with so much room left.
LITTLE_ROOM = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"


def test_a_disk_that_is_full_leaves_the_predictions_that_were_there(trained):
    """``predict --run=a``, and again on a disk that has no room for predictions.csv."""
    prepared(trained, ["predict", "--run=a"])
    file = trained / "runs" / "a" / "predictions.csv"
    names, before = sorted(file.parent.iterdir()), file.read_bytes()

    [(code, output)] = run(trained, ["predict", "--run=a"], before=LITTLE_ROOM)

    assert len(before) > 3000
    assert file.read_bytes() == before
    assert sorted(file.parent.iterdir()) == names
    assert code == 1, output
    assert is_one_sentence(output), output


FULL = {"predict": "labels.csv", "report": "report.html", "export": "export"}


@pytest.mark.parametrize("command", FULL)
def test_a_disk_that_is_full_is_told_by_each_command_that_writes(trained, command):
    """``predict pictures --csv=labels.csv``, ``report a`` and ``export a`` on a disk that has no room for the files."""
    folder = trained / "runs" / "a"
    (trained / "pictures").mkdir()
    for i in range(40):
        Image.new("L", (8, 8)).save(trained / "pictures" / f"{i}.png")
    names = sorted(folder.iterdir())
    arguments = {"predict": ["pictures", "--csv=labels.csv", "--run=a"]}.get(command, ["a"])

    [(code, output)] = run(trained, [command, *arguments], before=LITTLE_ROOM)

    assert code == 1, output
    assert is_one_sentence(output), output
    assert f"{FULL[command]} can't be written" in output or f"can't be written to {folder}" in output, output
    assert sorted(folder.iterdir()) == names
    assert not (trained / "labels.csv").exists()


def test_a_disk_that_is_full_leaves_the_test_result_that_was_there(trained):
    """``test --run=a`` on a disk that has no room for test.json."""
    file = trained / "runs" / "a" / "test.json"
    before = f"""
import os, resource
from {PACKAGE}.module import ImageClassifier
def fill(self):
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # what is printed goes to a file too
    os.dup2(nowhere, 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))
ImageClassifier.on_test_end = fill
"""
    result = file.read_bytes()
    command = shared().start(trained, [["test", "--run=a"]], before=before)

    assert command.wait() == 1
    assert file.read_bytes() == result
    assert not list(file.parent.glob("*.tmp"))


@pytest.mark.parametrize("command", ["runs", "test"])
def test_a_letter_that_the_terminal_lacks_does_not_end_a_command(trained, command):
    """``PYTHONIOENCODING=ascii`` and the newest run called ``ünï``: ``runs`` and ``test``."""
    (trained / "runs" / "a").rename(trained / "runs" / "\u00fcn\u00ef")
    before = "import sys; sys.stdout.reconfigure(encoding='ascii'); sys.stderr.reconfigure(encoding='ascii')\n"

    [(code, output)] = run(trained, [command], before=before)

    assert code == 0, output


@pytest.mark.parametrize("content", [b"\xff\n", b"a,b\n1,2\n"], ids=["no text", "no steps"])
def test_a_damaged_metrics_csv_does_not_keep_a_run_from_going_on(trained, content):
    """``fit --resume=killed`` with a metrics.csv that ends in a byte that is not UTF-8, or is another table."""
    file = trained / "runs" / "killed" / "metrics.csv"
    file.write_bytes(file.read_bytes() + content if content == b"\xff\n" else content)

    [(code, output)] = run(trained, ["fit", "--resume=killed"])

    assert "Traceback" not in output, output
    assert code == 0 or is_one_sentence(output), output
    assert "metrics.csv" in output


@pytest.mark.parametrize(
    ("name", "content"),
    [("test.json", b"\xff"), ("test.json", b"[]"), ("metrics.csv", b"epoch,step,val/loss\nx,y,z\n")],
    ids=["no text", "a list", "no numbers"],
)
def test_a_damaged_file_of_results_leaves_the_rest_of_a_report(trained, name, content):
    """``runs`` and ``report a`` with a test.json or metrics.csv that is none."""
    (trained / "runs" / "a" / name).write_bytes(content)

    results = run(trained, ["runs"], ["report", "a"])

    assert [code for code, _ in results] == [0, 0], results


@pytest.mark.parametrize(("key", "value"), [("loops", {}), ("callbacks", [])], ids=["loops", "callbacks"])
def test_a_checkpoint_without_the_state_of_a_training_is_not_gone_on_with(trained, key, value):
    """``fit --resume=killed`` of checkpoints whose loops or callbacks were taken away."""
    for file in (trained / "runs" / "killed" / "checkpoints").glob("*.ckpt"):
        torch.save(torch.load(file, weights_only=True) | {key: value}, file)

    [(code, output)] = run(trained, ["fit", "--resume=killed"])

    assert code == 1, output
    assert is_one_sentence(output), output
    assert ".ckpt" in " ".join(told(output))


def test_a_class_may_have_a_newline_in_its_name(tmp_path):
    """``fit`` on a folder of images of which a class is called cir, newline, cle."""
    project = bake(tmp_path, dataset="image_folder")
    write_images(project / "data" / "images", {"cir\ncle": (250, 90, 0), "square": (20, 20, 0)})

    [(code, output)] = run(project, ["fit", *SMALL, "--data.image_size=8", "--data.num_workers=0"])

    assert "Traceback" not in output, output
    assert code == 0 or is_one_sentence(output), output


@pytest.mark.parametrize("arguments", [["runs"], ["--help"], ["fit", "--run=piped", *SMALL]])
def test_a_closed_pipe_ends_a_command_without_a_traceback(trained, arguments):
    """``runs | true`` and so on."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", PACKAGE, *arguments]
    environment = clean_environment(trained)
    done = subprocess.run(command, cwd=trained, env=environment, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)

    assert done.returncode == 141
    assert "BrokenPipeError" not in done.stderr, done.stderr


WITHOUT_PSUTIL = """
import sys
sys.modules["psutil"] = None
from pytorch_lightning.callbacks import device_stats_monitor
device_stats_monitor._PSUTIL_AVAILABLE = False
"""
CALLBACKS = {
    "two EarlyStopping": ("EarlyStopping", {"monitor": "val/loss"}, ""),
    "LearningRateFinder": ("LearningRateFinder", {"num_training_steps": 5}, ""),
    "BackboneFinetuning": ("BackboneFinetuning", {"unfreeze_backbone_at_epoch": 1}, WITH_BACKBONE),
    "DeviceStatsMonitor": ("DeviceStatsMonitor", {}, WITHOUT_PSUTIL),
}


@pytest.mark.parametrize(("name", "options", "before"), CALLBACKS.values(), ids=CALLBACKS)
def test_a_callback_trains_or_is_named_in_a_sentence(tmp_path, name, options, before):
    """``fit --trainer.callbacks+=pytorch_lightning.callbacks.…``; each trains, or is refused in a sentence."""
    [(code, output)] = run(bake(tmp_path), ["fit", *SMALL, *callback(name, **options)], before=before)

    assert "Traceback" not in output, output
    assert code == 0 or name in " ".join(told(output)), output


@pytest.mark.parametrize("command", [["predict", "x.png"], ["export"]], ids=["predict", "export"])
def test_every_command_finds_runs_where_the_configuration_has_them(trained, command):
    """``default_root_dir: out`` in configs/default.yaml; ``predict x.png`` and ``export``."""
    Image.new("L", (8, 8)).save(trained / "x.png")
    configuration = trained / "configs" / "default.yaml"
    configuration.write_text(configuration.read_text().replace("default_root_dir: runs", "default_root_dir: out"))
    (trained / "runs").rename(trained / "out")

    [(code, output)] = run(trained, command)

    assert code == 0, output


def formulas(rows: list[list[str]]) -> set[str]:
    """The cells that a spreadsheet would take for a formula."""
    found = {cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@"))}
    return {cell for cell in found if not cell.lstrip("+-").replace(".", "", 1).isdigit()}


def test_no_name_is_a_formula_in_a_csv_file(tmp_path):
    """``fit --run==n`` on classes such as ``=1+1`` and ``@x``; ``predict``, ``predict PATH --csv``, ``runs --csv``."""
    project = bake(tmp_path, dataset="image_folder")
    colours = {"=1+1": (250, 90, 0), "@x": (20, 20, 0), "-a": (3, 200, 0), "+b": (100, 100, 0)}
    write_images(project / "data" / "images", colours)
    options = [*SMALL, "--data.image_size=8", "--data.num_workers=0"]
    by_path = ["predict", "data/images/test", "--csv", "labels.csv"]

    prepared(project, ["fit", "--run==n", *options], ["predict"], by_path)
    [(_, table)] = run(project, ["runs", "--csv"])

    assert formulas(read_csv(project / "runs" / "=n" / "predictions.csv")) == set()
    assert formulas(read_csv(project / "labels.csv")) == set()
    assert formulas(list(csv.reader(io.StringIO(table[table.index("name,") :])))) == set()


def test_a_quick_look_is_possible_at_few_images(tmp_path):
    """``fit -c configs/quick.yaml`` on a folder of 296 images."""
    project = bake(tmp_path, dataset="image_folder")
    write_images(project / "data" / "images", {"circle": (250, 90, 0), "square": (20, 20, 0)}, train=148)
    options = ["--data.image_size=8", "--data.num_workers=0", "--trainer.accelerator=cpu"]

    [(code, output)] = run(project, ["fit", "-c", "configs/quick.yaml", *options])

    assert code == 0, output


def test_the_test_of_a_stopped_run_passes_where_interrupts_are_ignored(tmp_path):
    """``nohup pytest tests -k interrupted &`` in a project."""
    project = bake(tmp_path)
    before = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
import pytest
sys.exit(pytest.main(["tests", "-k", "interrupted", "-p", "no:cacheprovider", "-q"]))
"""
    command = shared().start(project, [["runs"]], before=before)

    assert command.wait() == 0, command.output()
