import pytest
import torch
from reading import read_json, read_rows

from {{ cookiecutter.__package }}.data import DataModule
from {{ cookiecutter.__package }}.module import ImageClassifier


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
    model = ImageClassifier.load_from_checkpoint(trained / "checkpoints" / record["best_checkpoint"]).eval()
    data = DataModule("digits")
    data.setup("test")
    images, labels = data.splits["test"][0][torch.arange(360)]
    with torch.inference_mode():
        correct = model(data.levels(images)).argmax(dim=1) == labels
    assert correct.float().mean().item() == pytest.approx(read_json(trained / "test.json")["test/accuracy"])


def test_predictions_of_a_run_are_a_table(trained, run) -> None:
    assert run("predict", "--run", str(trained)) == 0
    predictions = read_rows(trained / "predictions.csv")
    assert list(predictions[0]) == ["index", "label", "probability", *(f"p({digit})" for digit in range(10))]
    assert len(predictions) == 360
