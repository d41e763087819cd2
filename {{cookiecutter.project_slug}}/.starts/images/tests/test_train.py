import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from reading import read_json, read_rows

from {{ cookiecutter.__package }}.data import DataModule
from {{ cookiecutter.__package }}.module import ImageClassifier

QUICK = Path(__file__).parents[1] / "configs" / "quick.yaml"


def test_training_learns(trained) -> None:
    assert read_json(trained / "test.json")["test/accuracy"] > 0.9
    losses = [float(row["train/loss"]) for row in read_rows(trained / "metrics.csv") if row["train/loss"]]
    assert losses[-1] < 0.5 * losses[0]


def test_logged_names_are_the_documented_ones(trained) -> None:
    logged = {name for name in read_rows(trained / "metrics.csv")[0] if "/" in name}
    whole = {f"{split}/{name}" for split in ("val", "test") for name in ("loss", "accuracy", "f1")}
    assert logged == whole | {"train/loss", "train/loss_step", "train/accuracy_step"}


def test_checkpoint_loads_by_itself_and_is_as_accurate_as_it_was(trained) -> None:
    record = read_json(trained / "run.json")
    assert record["status"] == "finished"
    model = ImageClassifier.load_from_checkpoint(trained / "checkpoints" / record["best_checkpoint"]).eval()
    data = DataModule("digits")
    data.setup("test")
    images, labels = data.splits["test"][0][torch.arange(360)]
    with torch.inference_mode():
        correct = model(data.normalize(images)).argmax(dim=1) == labels
    accuracy = correct.float().mean().item()
    assert accuracy == pytest.approx(read_json(trained / "test.json")["test/accuracy"])


def test_checkpoints_hold_plain_data_alone(trained) -> None:
    files = list((trained / "checkpoints").glob("*.ckpt"))
    assert "last.ckpt" in [file.name for file in files]
    for file in files:
        weights = torch.load(file, weights_only=True)["state_dict"]  # this executes nothing
        assert all(key.startswith("network.") for key in weights if "_metrics" not in key)


def test_newest_run_is_the_one_that_is_evaluated(trained, run, tmp_path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    (copy / "test.json").unlink()
    assert [run("validate"), run("test"), run("predict")] == [0, 0, 0]
    accuracy = read_json(copy / "test.json")["test/accuracy"]
    assert accuracy == read_json(trained / "test.json")["test/accuracy"]
    assert set(read_json(copy / "validate.json")) == {"checkpoint", "val/loss", "val/accuracy", "val/f1"}

    predictions = read_rows(copy / "predictions.csv")
    assert list(predictions[0]) == ["index", "label", "probability", *(f"p({digit})" for digit in range(10))]
    assert [int(row["index"]) for row in predictions] == list(range(360))
    data = DataModule("digits")
    data.setup("test")
    labels = data.splits["test"][0][torch.arange(360)][1].tolist()
    correct = [row["label"] == data.class_names[label] for row, label in zip(predictions, labels, strict=True)]
    assert sum(correct) / 360 == pytest.approx(accuracy)


@pytest.mark.parametrize(("mix", "augment"), [("mixup", "strong"), ("cutmix", "true")])
def test_mixed_images_are_trained_on(mix, augment, run, tmp_path) -> None:
    short = ("--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--trainer.log_every_n_steps", "1")
    options = ("--data.mix", mix, "--data.augment", augment, "--model.label_smoothing", "0.1")
    assert run("fit", "--run", "mixed", *short, *options) == 0
    logged = [row["train/accuracy_step"] for row in read_rows(tmp_path / "mixed" / "metrics.csv")]
    assert len([accuracy for accuracy in logged if accuracy]) == 2


def test_quick_look_works_with_twenty_images_and_is_marked(run, tmp_path) -> None:
    for part, count in (("train", 10), ("test", 2)):
        for name in ("cat", "dog"):
            (tmp_path / "images" / part / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (20, 20), (25 * i, 0, 0)).save(tmp_path / "images" / part / name / f"{i}.png")
    folder = ("--data.dataset", "image_folder", "--data.root", str(tmp_path / "images"), "--data.image_size", "16")
    assert run("fit", *folder, "--run", "quick", config=QUICK) == 0
    assert read_json(tmp_path / "quick" / "run.json")["debug"] == "quick"
    assert run("test") == 1  # such a run is taken by its name alone
    assert run("test", *folder, "--run", "quick") == 0


def test_value_out_of_bounds_is_told_without_a_traceback(run, capsys, tmp_path) -> None:
    assert run("fit", "--data.batch_size", "0") == 1
    assert capsys.readouterr().err.startswith("error: data.batch_size is 0; it must be at least 1")
    assert list(tmp_path.iterdir()) == []
