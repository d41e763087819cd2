"""Numbers that are not true: what is printed or kept is not what was trained or measured."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from project import PACKAGE, SMALL, package_files
from trainings import bake, callback, is_one_sentence, prepared, read_csv, read_json, told, write_images
from warm import run

# An epoch long enough for weights to move away from their average, and all images of the tests.
LONGER = (*SMALL, "--trainer.limit_train_batches=20", "--trainer.limit_test_batches=1.0")
NETWORKS = f"""
import torch
from {PACKAGE}.network import ConvNet

class TooMany(ConvNet):
    # 1,000 logits, of which those that are no class are never the largest
    def __init__(self, input_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(input_shape, 1000)
        self.register_buffer("less", torch.where(torch.arange(1000) < num_classes, 0.0, 1e4))

    def forward(self, images):
        return super().forward(images) - self.less

class TooFew(ConvNet):
    def __init__(self, input_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(input_shape, 7)

class Constant(torch.nn.Module):
    # the same class for every image
    def __init__(self, input_shape: tuple[int, int, int], num_classes: int, label: int) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.zeros(num_classes))
        self.register_buffer("more", torch.arange(num_classes).eq(label) * 1e4)

    def forward(self, images):
        return (self.logits + self.more).expand(len(images), -1)
"""
# Writes what each training step did, one line of JSON each.
STEPS = f"""
import json
from {PACKAGE}.module import ImageClassifier
def training_step(self, batch, *args, step=ImageClassifier.training_step):
    output = step(self, batch, *args)
    loss = output["loss"] if isinstance(output, dict) else output
    with open("steps.jsonl", "a") as file:
        print(json.dumps([self.current_epoch, len(batch[0]), loss.item()]), file=file)
    return output
ImageClassifier.training_step = training_step
"""


def steps(project: Path) -> list[list[Any]]:
    """Epoch, number of images and loss of each training step, as `STEPS` has written them."""
    return [json.loads(line) for line in (project / "steps.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("config", ["ema", "swa"])
def test_every_command_speaks_of_the_averaged_weights(config, tmp_path):
    """``fit -c configs/ema.yaml --run=a``, and each other command on this run."""
    project = bake(tmp_path)
    prepared(project, ["fit", f"-c=configs/{config}.yaml", "--run=a", *LONGER])
    folder = project / "runs" / "a"
    by_fit, record = read_json(folder / "test.json"), read_json(folder / "run.json")
    file = folder / "checkpoints" / record["best_checkpoint"]
    checkpoint = torch.load(file, weights_only=True)
    prepared(project, *([command, "--run=a"] for command in ("test", "validate", "predict")), ["export", "a"])

    # the weights that are kept are averaged, and not the latest ones
    weights = checkpoint["state_dict"]
    if config == "ema":
        assert not weights["network.classifier.2.weight"].equal(
            checkpoint["current_model_state"]["network.classifier.2.weight"]
        )
    else:
        average = checkpoint["callbacks"]["StochasticWeightAveraging"]["average_model_state"]
        assert record["best_checkpoint"] == "last.ckpt"
        assert weights["network.classifier.2.weight"].equal(average["network.classifier.2.weight"])
    # and each command's
    assert by_fit == read_json(folder / "test.json")
    names, *rows = read_csv(folder / "metrics.csv")
    assert str(read_json(folder / "validate.json")["val/loss"]) in [row[names.index("val/loss")] for row in rows]
    names, *rows = read_csv(folder / "predictions.csv")
    with np.load(package_files()["digits.npz"]) as digits:
        labels = digits["test_labels"]
    right = [row[names.index("label")] == str(label) for row, label in zip(rows, labels, strict=True)]
    assert sum(right) / len(right) == pytest.approx(by_fit["test/accuracy"])
    reported = (folder / "report.html").read_text(encoding="utf-8")
    assert f"{by_fit['test/accuracy']:.2%}" in reported
    assert "have changed since" not in reported
    exported = torch.export.load(folder / "export" / "model.pt2").state_dict
    names = [name for name in weights if name.startswith("network.")]
    assert names
    assert [name for name in names if not exported[name].equal(weights[name])] == []


def test_an_average_that_begins_late_leaves_the_epochs_before_it_alone(tmp_path):
    """``fit --trainer.callbacks+=….EMAWeightAveraging``, which begins after the last step."""
    project = bake(tmp_path)
    late = callback("EMAWeightAveraging", update_starting_at_step=1000)
    prepared(project, ["fit", "--run=a", *SMALL], ["fit", "--run=b", *SMALL, *late])

    assert read_csv(project / "runs" / "a" / "metrics.csv") == read_csv(project / "runs" / "b" / "metrics.csv")
    a, b = (read_json(project / "runs" / name / "test.json") for name in "ab")
    assert a == b


def test_stochastic_averaging_that_came_to_no_end_says_so(tmp_path):
    """``fit --trainer.callbacks+=….StochasticWeightAveraging --trainer.max_steps=4``, of six steps."""
    project = bake(tmp_path)
    swa = callback("StochasticWeightAveraging", swa_lrs=0.001, swa_epoch_start=1)
    output = prepared(project, ["fit", "--run=a", *SMALL, *swa, "--trainer.max_steps=4"])

    assert "StochasticWeightAveraging averaged nothing, for the training ended before trainer.max_epochs." in output
    assert read_json(project / "runs" / "a" / "run.json")["best_checkpoint"] != "last.ckpt"


def test_the_command_that_began_a_run_goes_on_with_it_though_its_file_adds_a_callback(tmp_path):
    """``fit -c configs/ema.yaml --run=a --resume``, twice."""
    project = bake(tmp_path)
    command = ["fit", "-c=configs/ema.yaml", "--run=a", "--resume", *SMALL]
    prepared(project, command)
    [(code, output), (tested, told_by_test)] = run(project, command, ["test", "-c=configs/ema.yaml", "--run=a"])

    assert code == 0, output
    assert tested == 0, told_by_test


def test_a_metric_that_is_not_a_number_leaves_the_run_its_test_and_its_report(tmp_path):
    """``fit --run=a`` of a module that logs ``val/recall`` as NaN, as of a class without images."""
    project = bake(tmp_path)
    before = f"""
from {PACKAGE}.module import ImageClassifier
def log(self, hook=ImageClassifier.on_validation_epoch_end):
    hook(self)
    self.log("val/recall", float("nan"))
ImageClassifier.on_validation_epoch_end = log
"""
    [(code, output)] = run(project, ["fit", "--run=a", *SMALL], before=before)

    assert code == 0, output
    folder = project / "runs" / "a"
    assert read_json(folder / "run.json")["status"] == "finished"
    assert (folder / "test.json").is_file()
    assert (folder / "report.html").is_file()


def test_a_run_that_is_no_better_than_the_most_frequent_class_says_so(trained):
    """``fit --model.network=networks.Constant``, which names the rarest class of the test images, and ``fit``."""
    (trained / "networks.py").write_text(NETWORKS)
    with np.load(trained / "src" / PACKAGE / "digits.npz") as digits:
        rarest = np.bincount(digits["test_labels"]).argmin()
    useless = ["--model.network=networks.Constant", f"--model.network.init_args.label={rarest}"]

    [(_, output)] = run(trained, ["fit", "--run=b", *LONGER, *useless])

    assert "most frequent class" not in (trained / "fit.txt").read_text(encoding="utf-8")
    assert "most frequent class" in output


@pytest.fixture(scope="module")
def with_a_broken_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project with a run on a folder of images, of which one can't be read; its steps are written."""
    project = bake(tmp_path_factory.mktemp("broken"), dataset="image_folder")
    write_images(project / "data" / "images", {"circle": (250, 90, 0), "square": (20, 20, 0)})
    (project / "data/images/train/circle/broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    options = ["--data.image_size=8", "--data.num_workers=0", "--data.skip_corrupt=true", "--data.batch_size=8"]
    options += ["--trainer.limit_train_batches=1.0", "--trainer.limit_val_batches=1.0"]
    prepared(project, ["fit", "--run=a", *SMALL, *options], before=STEPS)
    return project


def test_a_report_counts_the_images_that_were_read(with_a_broken_image):
    """``fit --run=a --data.skip_corrupt=true`` on 41 files of a class, of which one is no image."""
    page = (with_a_broken_image / "runs" / "a" / "report.html").read_text(encoding="utf-8")
    section = re.sub(r"<[^>]+>", " ", page[page.index("<h2>Data</h2>") :])
    row = re.search(r"\bcircle +(\d+) +(\d+) +(\d+)", section)

    assert row
    assert int(row[1]) + int(row[2]) == 40
    assert int(row[3]) == 12


def test_the_throughput_counts_the_images_that_were_trained_on(with_a_broken_image):
    """``fit --run=a --data.skip_corrupt=true`` with an image that can't be read among those of an epoch."""
    trained_on = sum(count for _, count, _ in steps(with_a_broken_image))

    assert read_json(with_a_broken_image / "runs" / "a" / "run.json")["train_items"] == trained_on


def test_the_train_loss_of_an_epoch_is_that_of_all_its_batches(tmp_path):
    """``fit --trainer.log_every_n_steps=2``, whose epochs have three steps."""
    project = bake(tmp_path)
    output = prepared(project, ["fit", *SMALL, "--trainer.log_every_n_steps=2"], before=STEPS)

    printed = [float(loss) for loss in re.findall(r"^epoch .*train/loss (\S+)", output, flags=re.MULTILINE)]
    losses = [[loss for epoch, _, loss in steps(project) if epoch == number] for number in range(2)]
    assert [len(epoch) for epoch in losses] == [3, 3]
    assert printed == [pytest.approx(statistics.mean(epoch), abs=1e-3) for epoch in losses]


@pytest.mark.parametrize(("network", "count"), [("TooMany", 1000), ("TooFew", 7)])
def test_a_network_whose_output_does_not_fit_the_classes_is_refused(tmp_path, network, count):
    """``fit --run=a --model.network=networks.TooMany``, of 1,000 logits for 10 classes."""
    project = bake(tmp_path)
    (project / "networks.py").write_text(NETWORKS)

    [(code, output)] = run(project, ["fit", "--run=a", *SMALL, f"--model.network=networks.{network}"])

    assert code == 1, output
    assert is_one_sentence(output), output
    assert {str(count), "10"} <= set(re.findall(r"\d+", " ".join(told(output)).replace(",", "")))
    assert not (project / "runs" / "a").exists()


def test_a_network_of_torchvision_is_refused_with_the_line_to_write(tmp_path):
    """``fit --run=a --model.network=torchvision.models.resnet18``."""
    project = bake(tmp_path)
    before = """
import torch.hub
def refuse(*args, **kwargs):
    raise OSError("no network")
torch.hub.urlopen = refuse
"""
    options = ["--model.network=torchvision.models.resnet18"]
    [(code, output)] = run(project, ["fit", "--run=a", *SMALL, *options], before=before)

    assert code in (1, 2), output
    assert is_one_sentence(output), output
    assert "num_classes=" in " ".join(told(output))
    assert not (project / "runs" / "a").exists()


def test_config_yaml_holds_the_batch_size_that_was_found(tmp_path):
    """``fit --run=a --trainer.callbacks+=pytorch_lightning.callbacks.BatchSizeFinder``."""
    project = bake(tmp_path)
    found = callback("BatchSizeFinder", max_trials=2, init_val=4)
    prepared(project, ["fit", "--run=a", *SMALL, *found], before=STEPS)

    last = steps(project)[-1][1]
    assert last != 16
    text = (project / "runs" / "a" / "config.yaml").read_text(encoding="utf-8")
    assert f"  batch_size: {last}\n" in text
