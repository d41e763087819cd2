import pytest
import torch
from torch.nn import functional as F
from torchmetrics.classification import MulticlassF1Score

from {{ cookiecutter.__package }} import evaluation
from {{ cookiecutter.__package }}.data import DataModule
from {{ cookiecutter.__package }}.module import TextClassifier
from {{ cookiecutter.__package }}.network import EmbeddingAverage


@pytest.fixture(scope="module")
def data() -> DataModule:
    data = DataModule(max_vocabulary=2000)
    data.setup("fit")
    return data


def built(data: DataModule) -> TextClassifier:
    return TextClassifier(data.vocabulary_size, 10, EmbeddingAverage, torch.optim.AdamW, facts=data.facts).eval()


def drawn(data: DataModule, wrong: int) -> dict[str, str]:
    """Sections of a model that is sure of what is true, but for the first test texts."""
    index = data.splits["test"][1]
    labels = data.splits["test"][0].labels[index].clone()
    labels[:wrong] = (labels[:wrong] + 1) % 10
    probabilities = F.one_hot(labels, 10) * 0.9 + 0.01
    probabilities[0, labels[0]] += 0.05
    sections = built(data).sections({"index": index, "probabilities": probabilities}, data)
    return {title: draw() for title, draw in sections}


def test_sections_show_which_classes_were_predicted_and_the_surest_mistakes(data) -> None:
    sections = drawn(data, wrong=7)
    assert "7 of 1000 texts are wrong." in sections["Surest mistakes"]
    assert sections["Surest mistakes"].count("glosses.csv.gz:") == 7
    first = data.splits["test"][1][0]
    assert data.row_names[first] in sections["Surest mistakes"].split("</tr>")[1]
    assert evaluation.charts.escape(data.texts[first]) in sections["Surest mistakes"]
    assert sections["Confusion matrix"].count("<tr>") == 11
    assert "Princeton" in sections["Data"]
    assert "<td>320</td><td>80</td><td>100</td>" in sections["Data"]
    assert drawn(data, wrong=0)["Surest mistakes"] == "<p>0 of 1000 texts are wrong.</p>"


def test_a_long_mistake_is_cut_and_nothing_in_it_is_html(data, monkeypatch) -> None:
    texts = ["<b>" + "x" * 500] * 5000
    monkeypatch.setattr(data, "texts", texts)
    shown = drawn(data, wrong=1)["Surest mistakes"]
    assert "&lt;b&gt;" + "x" * 297 + " …" in shown


def test_simple_models_are_trained_on_the_same_texts(data, monkeypatch) -> None:
    monkeypatch.setattr(evaluation, "find_spec", lambda name: None)
    expected = {"test/accuracy": pytest.approx(0.1), "test/f1": pytest.approx(2 / 11 / 10)}
    assert evaluation.baseline(data) == {"most frequent class": expected}
    assert "pip install -e" in evaluation.contents(data)
    monkeypatch.undo()
    pytest.importorskip("sklearn")
    assert 0.65 < data.baseline()["TF-IDF and logistic regression"]["test/accuracy"] < 0.8


def test_metrics_are_those_that_training_logs() -> None:
    labels, predicted = torch.tensor([0, 0, 1, 1, 2]), torch.tensor([0, 1, 1, 1, 4])
    found = evaluation.measure(labels, predicted, 6)
    assert found["test/accuracy"] == pytest.approx(0.6)
    assert found["test/f1"] == pytest.approx(MulticlassF1Score(6)(predicted, labels).item())


def test_the_picture_has_the_texts_and_their_classes_where_pillow_is_installed(data, monkeypatch) -> None:
    pytest.importorskip("PIL")
    batch = next(iter(data.val_dataloader()))
    model = built(data)
    picture = model.show([model(batch[0])], batch, data)["examples"]
    assert picture.size == (900, 8 + 40 * 16)
    assert len(picture.getcolors(10**6)) > 3
    monkeypatch.setattr(evaluation, "find_spec", lambda name: None)
    assert model.show([model(batch[0])], batch, data) == {}
