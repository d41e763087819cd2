import shutil

import pytest
import torch
from reading import read_json, read_rows

from {{ cookiecutter.__package }}.data import DataModule
from {{ cookiecutter.__package }}.evaluation import measure
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
    record = read_json(trained / "run.json")
    assert (record["status"], record["headline"][0]) == ("finished", "accuracy")
    file = trained / "checkpoints" / record["best_checkpoint"]
    model = TextClassifier.load_from_checkpoint(file).eval()
    assert torch.load(file, weights_only=True)["DataModule"]["text"] == "text"  # this executes nothing
    data = DataModule()
    data.setup("test")
    texts, indices = data.splits["test"]
    tokens, labels = texts[indices]
    with torch.inference_mode():
        found = measure(labels, model(tokens).argmax(dim=1), 10)
    told = read_json(trained / "test.json")
    assert found == {name: pytest.approx(told[name], rel=1e-5) for name in found}


def test_newest_run_is_the_one_that_is_evaluated(trained, run, tmp_path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    assert [run("validate"), run("test"), run("predict")] == [0, 0, 0]
    assert read_json(copy / "test.json") == read_json(trained / "test.json")
    predictions = read_rows(copy / "predictions.csv")
    assert len(predictions) == 1000
    assert list(predictions[0])[:3] == ["file", "label", "probability"]


def test_new_texts_are_predicted_from_files(trained, tmp_path, capsys) -> None:
    (tmp_path / "new.txt").write_text("a small fish of the sea\n\nthe act of running\n")
    (tmp_path / "new.csv").write_text("id,text\n1,a tree with large leaves\n2,\n")
    command = ["predict", str(tmp_path), "--run", str(trained), "--csv", str(tmp_path / "out.csv")]
    assert main(command) == 0
    told = capsys.readouterr().err
    assert f"empty texts are left out, 2 of 5: {tmp_path / 'new.csv'}:3, {tmp_path / 'new.txt'}:2" in told
    rows = read_rows(tmp_path / "out.csv")
    assert [row["file"] for row in rows] == [f"{tmp_path / name}" for name in ("new.csv:2", "new.txt:1", "new.txt:3")]
    assert [row["label"] for row in rows] == ["plant", "animal", "act"]
    (tmp_path / "new.csv").write_text("id,words\n1,tree\n")
    assert main(command) == 1
    assert "new.csv has no column text, but id, words." in capsys.readouterr().err


def test_the_transformer_trains(run) -> None:
    limits = [f"--trainer.limit_{part}_batches=5" for part in ("train", "val", "test")]
    network = ("--model.network", "{{ cookiecutter.__package }}.network.TransformerEncoder")
    assert run("fit", *network, "--trainer.max_epochs", "1", *limits) == 0


def test_value_out_of_bounds_is_told_without_a_traceback(run, capsys, tmp_path) -> None:
    assert run("fit", "--data.batch_size", "0") == 1
    assert capsys.readouterr().err.startswith("error: data.batch_size is 0; it must be at least 1")
    assert run("fit", "--data.dataset", "csv_texts", "--data.root", "none.csv") == 1
    assert capsys.readouterr().err.startswith("error: none.csv is no file")
    assert list(tmp_path.iterdir()) == []
