import pytest
import torch
from reading import read_json, read_rows

from {{ cookiecutter.__package }}.data import DataModule
from {{ cookiecutter.__package }}.module import TableModel
from {{ cookiecutter.__package }}.train import main


def test_training_learns(trained) -> None:
    metrics = read_json(trained / "test.json")
    assert metrics.get("test/accuracy", 0) > 0.9 or metrics.get("test/r2", 0) > 0.8
    losses = [float(row["val/loss"]) for row in read_rows(trained / "metrics.csv") if row["val/loss"]]
    assert losses[-1] < 0.5 * losses[0]


def test_logged_names_are_the_documented_ones(trained) -> None:
    logged = {name for name in read_rows(trained / "metrics.csv")[0] if "/" in name}
    names = ("loss", "accuracy", "f1") if trained.name == "penguins" else ("loss", "rmse", "r2")
    assert logged == {"train/loss", *(f"{split}/{name}" for split in ("val", "test") for name in names)}


def test_checkpoint_loads_by_itself_and_is_as_good_as_it_was(trained) -> None:
    record = read_json(trained / "run.json")
    model = TableModel.load_from_checkpoint(trained / "checkpoints" / record["best_checkpoint"]).eval()
    data = DataModule(trained.name)
    data.setup("test")
    rows, indices = data.splits["test"]
    numbers, words, targets = rows[indices]
    with torch.inference_mode():
        outputs = model(numbers, words)
    metrics = read_json(trained / "test.json")
    if data.class_names:
        assert metrics["test/accuracy"] == pytest.approx((outputs.argmax(dim=1) == targets).float().mean().item())
    else:
        rmse = (outputs - targets).square().mean().sqrt().item() * data.facts["std"]
        assert metrics["test/rmse"] == pytest.approx(rmse, rel=1e-5)


def test_new_rows_are_predicted_from_a_file(trained, tmp_path, capsys) -> None:
    file = tmp_path / "new.csv"
    header = "island,bill_length_mm,bill_depth_mm,flipper_length_mm,body_mass_g,sex,year,species\n"
    file.write_text(header + "Dream,NA,18,190,3700,male,2009,Adelie\nMoon,50,15,220,5500,,2008,Gentoo\n")
    command = ["predict", str(file), "--run", str(trained), "--csv", str(tmp_path / "out.csv")]
    assert main(command) == 0
    assert "island Moon" in capsys.readouterr().err
    rows = read_rows(tmp_path / "out.csv")
    assert [row["file"] for row in rows] == [f"{file}:2", f"{file}:3"]
    assert "label" in rows[0] or 2500 < float(rows[0]["prediction"]) < 4800  # grams
