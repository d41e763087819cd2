import re

import pytest
import torch
from lightning_runs.tables import datamodule, reports
from starts import start_module
from torch.nn import functional
from written_tables import DataModule, prepared

TableModel = start_module("table", "module").TableModel
TableNet = start_module("table", "network").TableNet
BUNDLED = ("penguins", "penguin_mass")


def built(dataset: str):
    torch.manual_seed(0)
    data = prepared(dataset=dataset)
    return TableModel(data.facts, network=TableNet, optimizer=torch.optim.AdamW).eval(), data


def drawn(dataset: str, wrong: int) -> dict[str, str]:
    """Sections of a model that is right, but for the first test rows."""
    model, data = built(dataset)
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
    model, data = built("penguin_mass")
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


@pytest.mark.parametrize("dataset", BUNDLED)
def test_the_exported_module_maps_columns_to_the_predictions(dataset) -> None:
    model, data = built(dataset)
    batch = next(iter(data.predict_dataloader()))
    with torch.inference_mode():
        predictions = model.predict_step(batch, 0)
        expected = predictions["probabilities" if dataset == "penguins" else "prediction"]
        assert (model.exported()(batch[0]) - expected).abs().max() < 1e-5 * expected.abs().max()
    assert model.exported().facts == {"kind": "rows", **data.facts}


@pytest.mark.parametrize(
    ("dataset", "columns"),
    [
        ("penguins", ["file", "label", "probability", "p(Adelie)", "p(Chinstrap)", "p(Gentoo)"]),
        ("penguin_mass", ["file", "prediction"]),
    ],
)
def test_predictions_are_a_table_with_the_names_of_rows(dataset, columns) -> None:
    model, data = built(dataset)
    with torch.inference_mode():
        predictions = model.predict_step(next(iter(data.predict_dataloader())), 0)
    header, rows = model.rows(predictions, data)
    assert header == columns
    names = [data.row_names[i] for i in predictions["index"].tolist()]
    assert [row[0] for row in rows] == names
    assert all(re.fullmatch(r"penguins\.csv:\d+", name) for name in names)


def test_simple_models_are_trained_on_the_same_rows(monkeypatch) -> None:
    data = DataModule("penguins")
    monkeypatch.setattr(datamodule, "find_spec", lambda name: None)
    expected = {"test/accuracy": pytest.approx(30 / 69), "test/f1": pytest.approx(60 / 99 / 3)}
    assert data.baseline() == {"most frequent class": expected}
    monkeypatch.undo()
    pytest.importorskip("sklearn")
    found = data.baseline()
    assert [*found] == ["most frequent class", "linear model", "gradient boosting"]
    assert min(found["linear model"]["test/accuracy"], found["gradient boosting"]["test/accuracy"]) > 0.9
    found = DataModule("penguin_mass").baseline()
    assert found["mean of the training rows"]["test/r2"] == pytest.approx(0, abs=0.05)
    assert found["linear model"]["test/r2"] > 0.8
    assert 200 < found["gradient boosting"]["test/rmse"] < 400  # grams


def test_metrics_are_those_of_their_definitions() -> None:
    found = datamodule.table_metrics(torch.tensor([1, 0, 2]), torch.tensor([1, 1, 2]), 3)
    assert found == {"accuracy": pytest.approx(2 / 3), "f1": pytest.approx((0 + 2 / 3 + 1) / 3)}
    found = datamodule.table_metrics(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 2.0, 3.0]), 0)
    assert found == {"rmse": pytest.approx(3**-0.5), "r2": pytest.approx(0.5)}
