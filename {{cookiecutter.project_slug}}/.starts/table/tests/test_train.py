import shutil

import pytest
import torch
from reading import read_json, read_rows

from {{ cookiecutter.__package }}.data import DataModule
from {{ cookiecutter.__package }}.evaluation import measure
from {{ cookiecutter.__package }}.module import TableModel
from {{ cookiecutter.__package }}.train import main

NEW = "island,bill_length_mm,bill_depth_mm,flipper_length_mm,body_mass_g,sex,year,species\n"


def test_training_learns(trained) -> None:
    found = read_json(trained / "test.json")
    assert found.get("test/accuracy", 0) > 0.9 or found.get("test/r2", 0) > 0.8
    losses = [float(row["val/loss"]) for row in read_rows(trained / "metrics.csv") if row["val/loss"]]
    assert losses[-1] < 0.5 * losses[0]


def test_logged_names_are_the_documented_ones(trained) -> None:
    logged = {name for name in read_rows(trained / "metrics.csv")[0] if "/" in name}
    names = ("loss", "accuracy", "f1") if trained.name == "penguins" else ("loss", "rmse", "r2")
    assert logged == {"train/loss", *(f"{split}/{name}" for split in ("val", "test") for name in names)}


def test_checkpoint_loads_by_itself_and_is_as_good_as_it_was(trained) -> None:
    record = read_json(trained / "run.json")
    assert record["status"] == "finished"
    assert record["headline"][0] == ("accuracy" if trained.name == "penguins" else "rmse")
    model = TableModel.load_from_checkpoint(trained / "checkpoints" / record["best_checkpoint"]).eval()
    data = DataModule(trained.name)
    data.setup("test")
    rows, indices = data.splits["test"]
    numbers, words, targets = rows[indices]
    with torch.inference_mode():
        outputs = model(numbers, words)
    classes = len(data.class_names or [])
    predicted = outputs.argmax(dim=1) if classes else outputs * model.std
    found = measure(predicted, targets if classes else targets * model.std, classes)
    told = read_json(trained / "test.json")
    assert found == {name: pytest.approx(told[name], rel=1e-5) for name in found}


def test_checkpoints_hold_plain_data_alone(trained) -> None:
    files = list((trained / "checkpoints").glob("*.ckpt"))
    assert "last.ckpt" in [file.name for file in files]
    for file in files:
        checkpoint = torch.load(file, weights_only=True)  # this executes nothing
        assert "island" in checkpoint["DataModule"]["columns"]


def test_newest_run_is_the_one_that_is_evaluated(trained, run, tmp_path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    options = ("--data.dataset", trained.name)
    assert [run("validate", *options), run("test", *options), run("predict", *options)] == [0, 0, 0]
    assert read_json(copy / "test.json") == read_json(trained / "test.json")
    predictions = read_rows(copy / "predictions.csv")
    assert len(predictions) == 69 if trained.name == "penguins" else len(predictions) == 68
    assert list(predictions[0])[1] == ("label" if trained.name == "penguins" else "prediction")


def test_new_rows_are_predicted_from_a_csv_file(trained, tmp_path, capsys) -> None:
    file = tmp_path / "new.csv"
    file.write_text(NEW + "Dream,NA,18,190,3700,male,2009,Adelie\nMoon,50,15,220,5500,,2008,Gentoo\n")
    command = ["predict", str(file), "--run", str(trained), "--csv", str(tmp_path / "out.csv")]
    assert main(command) == 0
    assert "knows no island Moon" in capsys.readouterr().err
    rows = read_rows(tmp_path / "out.csv")
    assert [row["file"] for row in rows] == [f"{file}:2", f"{file}:3"]
    assert "label" in rows[0] or 2500 < float(rows[0]["prediction"]) < 4800  # grams
    file.write_text("island,sex\nDream,male\n")
    assert main(command) == 1
    assert "lacks columns that the model was trained with: " in capsys.readouterr().err


def test_value_out_of_bounds_is_told_without_a_traceback(run, capsys, tmp_path) -> None:
    assert run("fit", "--data.batch_size", "0") == 1
    assert capsys.readouterr().err.startswith("error: data.batch_size is 0; it must be at least 1")
    assert run("fit", "--data.dataset", "csv_file", "--data.root", "none.csv", "--data.target", "a") == 1
    assert capsys.readouterr().err.startswith("error: none.csv is no file")
    assert list(tmp_path.iterdir()) == []
