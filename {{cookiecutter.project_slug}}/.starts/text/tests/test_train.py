import pytest
import torch
from reading import read_json, read_rows

from {{ cookiecutter.__package }}.data import DataModule
from {{ cookiecutter.__package }}.module import TextClassifier
from {{ cookiecutter.__package }}.train import main


def test_training_learns(trained) -> None:
    assert read_json(trained / "test.json")["test/accuracy"] > 0.5
    losses = [float(row["val/loss"]) for row in read_rows(trained / "metrics.csv") if row["val/loss"]]
    assert losses[-1] < 0.7 * losses[0]


def test_logged_names_are_the_documented_ones(trained) -> None:
    logged = {name for name in read_rows(trained / "metrics.csv")[0] if "/" in name}
    metrics = {f"{split}/{name}" for split in ("val", "test") for name in ("loss", "accuracy", "f1")}
    assert logged == {"train/loss", *metrics}


def test_checkpoint_loads_by_itself_and_is_as_good_as_it_was(trained) -> None:
    file = trained / "checkpoints" / read_json(trained / "run.json")["best_checkpoint"]
    model = TextClassifier.load_from_checkpoint(file).eval()
    data = DataModule("glosses")
    data.setup("test")
    texts, indices = data.splits["test"]
    tokens, labels = texts[indices]
    with torch.inference_mode():
        accuracy = (model(tokens).argmax(dim=1) == labels).float().mean().item()
    assert accuracy == pytest.approx(read_json(trained / "test.json")["test/accuracy"], rel=1e-5)


def test_new_texts_are_predicted_from_files(trained, tmp_path, capsys) -> None:
    (tmp_path / "new.txt").write_text("a small fish of the sea\n\nthe act of running\n")
    (tmp_path / "new.csv").write_text("id,text\n1,a tree with large leaves\n2,\n")
    assert main(["predict", str(tmp_path), "--run", str(trained), "--csv", str(tmp_path / "out.csv")]) == 0
    notes = capsys.readouterr().err
    assert f"2 of 5: {tmp_path / 'new.csv'}:3, {tmp_path / 'new.txt'}:2" in notes
    rows = read_rows(tmp_path / "out.csv")
    assert [row["file"] for row in rows] == [f"{tmp_path / name}" for name in ("new.csv:2", "new.txt:1", "new.txt:3")]
    assert [row["label"] for row in rows] == ["plant", "animal", "act"]


def test_the_transformer_trains(run) -> None:
    limits = [f"--trainer.limit_{part}_batches=5" for part in ("train", "val", "test")]
    network = ("--model.network", "{{ cookiecutter.__package }}.network.TransformerEncoder")
    assert run("fit", *network, "--trainer.max_epochs", "1", *limits) == 0
