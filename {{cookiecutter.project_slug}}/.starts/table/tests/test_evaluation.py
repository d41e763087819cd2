import re
from typing import Any

import pytest
import torch

from {{ cookiecutter.__package }} import evaluation
from {{ cookiecutter.__package }}.data import DataModule
from {{ cookiecutter.__package }}.module import TableModel
from {{ cookiecutter.__package }}.network import TableNet


def built(dataset: str) -> tuple[TableModel, DataModule]:
    torch.manual_seed(0)
    data = DataModule(dataset)
    data.setup("fit")
    return TableModel(data.facts, network=TableNet, optimizer=torch.optim.AdamW).eval(), data


def drawn(dataset: str, wrong: int) -> dict[str, str]:
    """Sections of a model that is sure of what is true, but for the first test rows."""
    model, data = built(dataset)
    index = data.splits["test"][1]
    targets = data.splits["test"][0].tensors[2][index]
    if dataset == "penguins":
        labels = targets.clone()
        labels[:wrong] = (labels[:wrong] + 1) % 3
        predictions = {"index": index, "probabilities": torch.nn.functional.one_hot(labels, 3) * 0.89 + 0.0367}
    else:
        numbers = targets * model.std + model.mean
        numbers[:wrong] += 1000
        predictions = {"index": index, "prediction": numbers}
    return {title: draw() for title, draw in model.sections(predictions, data)}


def test_sections_show_which_classes_were_predicted() -> None:
    sections = drawn("penguins", wrong=7)
    assert "7 of 69 rows are wrong." in sections["Surest mistakes"]
    assert sections["Surest mistakes"].count("penguins.csv:") == 7
    assert sections["Confusion matrix"].count("<tr>") == 4
    assert "CC0" in sections["Data"]
    assert "Biscoe, Dream, Torgersen" in sections["Data"]
    nothing = drawn("penguins", wrong=0)["Surest mistakes"]
    assert nothing == "<p>0 of 69 rows are wrong.</p>"


def test_sections_show_which_numbers_were_predicted() -> None:
    sections = drawn("penguin_mass", wrong=3)
    assert sections["Predicted and true"].count("<circle") == 68 + 1  # that of the legend
    first = re.findall(r"<tr><th scope=\"row\">\S+:\d+</th>(.*?)</tr>", sections["Largest errors"])[:4]
    assert [row.endswith("<td>1000</td>") for row in first] == [True, True, True, False]


def test_the_column_that_a_model_looks_at_is_the_one_that_matters() -> None:
    model, data = built("penguin_mass")
    network: Any = model.network
    for parameter in network.parameters():
        parameter.data.zero_()
    network.linear.weight.data[0, 2] = 1.0  # flipper_length_mm is the third number
    rows, index = data.splits["test"]
    true = rows.tensors[2][index].double() * model.std + model.mean
    table = evaluation.importance(index, true, model.exported(), data)
    changes = re.findall(r'<th scope="row">(\w+)</th><td>(\S+)</td>', table)
    assert changes[0][0] == "flipper_length_mm"
    assert float(changes[0][1]) > 50
    assert [float(change) for _, change in changes[1:]] == [0] * (len(changes) - 1)


def test_simple_models_are_trained_on_the_same_rows(monkeypatch) -> None:
    data = DataModule("penguins")
    monkeypatch.setattr(evaluation, "find_spec", lambda name: None)
    expected = {"test/accuracy": pytest.approx(30 / 69), "test/f1": pytest.approx(60 / 99 / 3)}
    assert evaluation.baseline(data) == {"most frequent class": expected}
    assert "pip install -e" in evaluation.contents(data)
    monkeypatch.undo()
    pytest.importorskip("sklearn")
    found = data.baseline()
    assert list(found) == ["most frequent class", "linear model", "gradient boosting"]
    assert min(found["linear model"]["test/accuracy"], found["gradient boosting"]["test/accuracy"]) > 0.9
    found = DataModule("penguin_mass").baseline()
    assert found["mean of the training rows"]["test/r2"] == pytest.approx(0, abs=0.05)
    assert found["linear model"]["test/r2"] > 0.8
    assert 200 < found["gradient boosting"]["test/rmse"] < 400  # grams


def test_metrics_are_those_of_their_definitions() -> None:
    assert evaluation.measure(torch.tensor([1, 0, 2]), torch.tensor([1, 1, 2]), 3) == {
        "test/accuracy": pytest.approx(2 / 3),
        "test/f1": pytest.approx((0 + 2 / 3 + 1) / 3),
    }
    found = evaluation.measure(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 2.0, 3.0]), 0)
    assert found == {"test/rmse": pytest.approx(3**-0.5), "test/r2": pytest.approx(0.5)}
