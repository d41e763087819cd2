import json

import pytest
import torch
from lightning_runs.texts import datamodule
from markupsafe import escape
from starts import start_module
from torch.nn import functional
from written_texts import prepared

EmbeddingAverage = start_module("text", "network").EmbeddingAverage
TextClassifier = start_module("text", "module").TextClassifier


@pytest.fixture(scope="module")
def data():
    return prepared(max_vocabulary=2000)


@pytest.fixture(scope="module")
def model(data):
    torch.manual_seed(0)
    return TextClassifier(data.vocabulary_size, 10, EmbeddingAverage, torch.optim.AdamW, facts=data.facts).eval()


def drawn(model, data, wrong: int) -> dict[str, str]:
    """Sections of a model that is right, but for the first test texts; it is surest of the first."""
    index = data.splits["test"][1]
    labels = data.splits["test"][0].labels[index].clone()
    labels[:wrong] = (labels[:wrong] + 1) % 10
    probabilities = functional.one_hot(labels, 10) * 0.9 + 0.01
    probabilities[0, labels[0]] += 0.05
    return {title: draw() for title, draw in model.sections({"index": index, "probabilities": probabilities}, data)}


def test_sections_show_predictions_and_the_surest_mistakes(model, data) -> None:
    sections = drawn(model, data, wrong=7)
    assert [*sections] == ["Confusion matrix", "Surest mistakes", "Data"]
    assert sections["Surest mistakes"].count("glosses.csv.gz:") == 7
    first = data.splits["test"][1][0]
    row = sections["Surest mistakes"].split("</tr>")[1]
    assert data.row_names[first] in row
    assert escape(data.texts[first]) in row
    assert sections["Confusion matrix"].count("<tr>") == 11
    for text in ("Princeton", "<td>320</td><td>80</td><td>100</td>", "2000 different tokens"):
        assert text in sections["Data"]


def test_a_long_mistake_is_cut_and_nothing_in_it_is_html(model, data, monkeypatch) -> None:
    monkeypatch.setattr(data, "texts", ["<b>" + "x" * 500] * 5000)
    assert "&lt;b&gt;" + "x" * 297 + " …" in drawn(model, data, wrong=1)["Surest mistakes"]


def test_the_exported_module_maps_tokens_to_the_predictions(model, data) -> None:
    batch = next(iter(data.predict_dataloader()))
    with torch.inference_mode():
        predictions = model.predict_step(batch, 0)
        assert model.exported()(batch[0]).equal(predictions["probabilities"])
    assert model.exported().facts == {"kind": "texts", **json.loads(data.facts)}
    assert model.exported().facts["class_names"] == data.class_names


def test_predictions_are_a_table_with_the_names_of_texts(model, data) -> None:
    with torch.inference_mode():
        predictions = model.predict_step(next(iter(data.predict_dataloader())), 0)
    header, rows = model.rows(predictions, data)
    assert header == ["file", "label", "probability", *(f"p({name})" for name in data.class_names)]
    assert rows[0][0] == data.row_names[data.splits["test"][1][0]]
    assert rows[0][0].startswith("glosses.csv.gz:")


def test_simple_models_are_trained_on_the_same_texts(data, monkeypatch) -> None:
    monkeypatch.setattr(datamodule, "find_spec", lambda name: None)
    expected = {"test/accuracy": pytest.approx(0.1), "test/f1": pytest.approx(2 / 11 / 10)}
    assert data.baseline() == {"most frequent class": expected}
    monkeypatch.undo()
    pytest.importorskip("sklearn")
    assert 0.65 < data.baseline()["TF-IDF and logistic regression"]["test/accuracy"] < 0.8
