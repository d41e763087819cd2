import re

import numpy as np
import pytest
import torch
from lightning_runs.tables import datamodule, reports
from starts import built, data_class, prepared, refused, start_module
from torch.nn import functional
from written_data import COLOURS, table_rows, write_table


def drawn(dataset: str, wrong: int) -> dict[str, str]:
    """Sections of a model that is right, but for the first test rows."""
    data = prepared("table", dataset=dataset)
    model = built("table", data)
    index = data.splits["test"][1]
    targets = data.splits["test"][0].labels[index]
    if dataset == "penguins":
        labels = targets.clone()
        labels[:wrong] = (labels[:wrong] + 1) % 3
        predictions = {"index": index, "probabilities": functional.one_hot(labels, 3) * 0.89 + 0.0367}
    else:
        numbers = targets * data.facts["std"] + data.facts["mean"]
        numbers[:wrong] += 1000
        predictions = {"index": index, "prediction": numbers}
    return {title: draw() for title, draw in model.sections(predictions, data)}


def test_sections_show_which_classes_were_predicted() -> None:
    sections = drawn("penguins", wrong=7)
    assert [*sections] == ["Confusion matrix", "Surest mistakes", "Which columns matter", "Data"]
    assert sections["Surest mistakes"].count("penguins.csv:") == 7
    assert sections["Confusion matrix"].count("<tr>") == 4
    for text in ("CC0", "Biscoe, Dream, Torgersen", "species", "220 rows to train, 55 to validate, 69 to test"):
        assert text in sections["Data"]


def test_sections_show_which_numbers_were_predicted() -> None:
    sections = drawn("penguin_mass", wrong=3)
    assert [*sections] == ["Predicted and true", "Largest errors", "Which columns matter", "Data"]
    assert sections["Predicted and true"].count("<circle") == 68 + 1  # that of the legend
    first = re.findall(r"<tr><th scope=\"row\">\S+:\d+</th>(.*?)</tr>", sections["Largest errors"])[:4]
    assert [row.endswith("<td>1000</td>") for row in first] == [True, True, True, False]


def test_the_column_that_a_model_looks_at_matters_most() -> None:
    data = prepared("table", dataset="penguin_mass")
    model = built("table", data)
    for parameter in model.network.parameters():
        parameter.data.zero_()
    model.network.linear.weight.data[0, 2] = 1.0  # flipper_length_mm is the third number
    index = data.splits["test"][1]
    true = data.splits["test"][0].labels[index].double() * data.facts["std"] + data.facts["mean"]
    table = reports.importance(data.splits["predict"][0].tensors[0][index], true, model.exported())
    changes = re.findall(r'<th scope="row">(\w+)</th><td>(\S+)</td>', table)
    assert changes[0][0] == "flipper_length_mm"
    assert float(changes[0][1]) > 50
    assert [float(change) for _, change in changes[1:]] == [0] * (len(changes) - 1)


def test_simple_models_are_trained_on_the_same_rows(monkeypatch) -> None:
    data = data_class("table")("penguins")
    monkeypatch.setattr(datamodule, "find_spec", lambda name: None)
    expected = {"test/accuracy": pytest.approx(30 / 69), "test/f1": pytest.approx(60 / 99 / 3)}
    assert data.baseline() == {"most frequent class": expected}
    monkeypatch.undo()
    pytest.importorskip("sklearn")
    found = data.baseline()
    assert [*found] == ["most frequent class", "linear model", "gradient boosting"]
    assert min(found["linear model"]["test/accuracy"], found["gradient boosting"]["test/accuracy"]) > 0.9
    found = data_class("table")("penguin_mass").baseline()
    assert found["mean of the training rows"]["test/r2"] == pytest.approx(0, abs=0.05)
    assert found["linear model"]["test/r2"] > 0.8
    assert 200 < found["gradient boosting"]["test/rmse"] < 400  # grams


def test_metrics_are_those_of_their_definitions() -> None:
    found = datamodule.table_metrics(torch.tensor([1, 0, 2]), torch.tensor([1, 1, 2]), 3)
    assert found == {"accuracy": pytest.approx(2 / 3), "f1": pytest.approx((0 + 2 / 3 + 1) / 3)}
    found = datamodule.table_metrics(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 2.0, 3.0]), 0)
    assert found == {"rmse": pytest.approx(3**-0.5), "r2": pytest.approx(0.5)}


# ---- The start's own classes


def test_a_number_is_predicted_and_measured_in_its_own_unit() -> None:
    data = prepared("table", dataset="penguin_mass")
    model = built("table", data)
    batch = next(iter(data.val_dataloader()))
    model.validation_step(batch, 0)
    grams = batch[2] * data.facts["std"] + data.facts["mean"]
    with torch.inference_mode():
        predicted = model.predict_step((None, *batch[:2], torch.arange(16)), 0)["prediction"]
    assert 2500 < grams.mean() < 6500
    rmse = (predicted - grams).square().mean().sqrt().item()
    assert model.val_metrics["rmse"].compute().item() == pytest.approx(rmse, rel=1e-4)
    assert model.headline == ("rmse", "min", "")
    with refused("data.balance is weights, but body_mass_g is a number"):
        prepared("table", dataset="penguin_mass", balance="weights")


def test_rows_of_a_group_stay_in_one_part(tmp_path) -> None:
    lines = [[*line, f"patient {i % 12}" if i else "patient"] for i, line in enumerate(table_rows())]
    root = write_table(tmp_path / "a.csv", lines)
    data = prepared("table", dataset="csv_file", root=str(root), target="kind", group="patient")
    patients = np.array([line[4] for line in lines[1:]])
    parts = [set(patients[data.splits[part][1]]) for part in ("train", "val", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 12
    assert "patient" not in data.facts["columns"]


def test_numbers_are_standardised_and_a_missing_one_is_marked(tmp_path) -> None:
    root = write_table(tmp_path / "a.csv", table_rows())
    data = prepared("table", dataset="csv_file", root=str(root), target="kind")
    indices = data.splits["train"][1]
    numbers, words, _ = data.splits["train"][0][indices]
    assert numbers[:, 0].mean().item() == pytest.approx(0, abs=1e-5)
    assert numbers[:, 0].std(correction=0).item() == pytest.approx(1, abs=1e-5)
    missing = torch.tensor([i % 7 == 0 for i in indices.tolist()])
    assert numbers[:, 2].bool().equal(missing)
    assert bool((numbers[missing, 1] == 0).all())
    assert [sorted(COLOURS)[i - 1] for i in words[:, 0].tolist()] == [COLOURS[i % 3] for i in indices.tolist()]


def test_members_of_an_ensemble_learn_apart() -> None:
    torch.manual_seed(0)
    network = start_module("table", "network").TableNet(3, [4, 2], 4, dropout=0.0)
    numbers = torch.randn(16, 3)
    words = torch.randint(0, 2, (16, 2))
    members = network(numbers, words).view(16, 8, 4)
    assert members.std(dim=1).min() > 0
    torch.testing.assert_close(network.eval()(numbers, words), members.mean(dim=1))
