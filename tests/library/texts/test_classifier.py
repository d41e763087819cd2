import json
from typing import Any

import pytest
from lightning_runs.texts import datamodule
from lightning_runs.texts.reports import TextReports
from markupsafe import escape
from starts import prepared, refused, start_module
from torch.nn import functional
from written_data import text_rows, write_table, write_texts

network = start_module("text", "network")


@pytest.fixture(scope="module")
def data() -> Any:
    return prepared("text", max_vocabulary=2000)


def drawn(data: Any, wrong: int) -> dict[str, str]:
    """Sections of a model that is right, but for the first test texts; it is surest of the first."""
    model: Any = TextReports()
    model.facts = json.loads(data.facts)
    index = data.splits["test"][1]
    labels = data.splits["test"][0].labels[index].clone()
    labels[:wrong] = (labels[:wrong] + 1) % 10
    probabilities = functional.one_hot(labels, 10) * 0.9 + 0.01
    probabilities[0, labels[0]] += 0.05
    return {title: draw() for title, draw in model.sections({"index": index, "probabilities": probabilities}, data)}


def test_sections_show_predictions_and_the_surest_mistakes(data) -> None:
    sections = drawn(data, wrong=7)
    assert [*sections] == ["Confusion matrix", "Surest mistakes", "Data"]
    assert sections["Surest mistakes"].count("glosses.csv.gz:") == 7
    first = data.splits["test"][1][0]
    row = sections["Surest mistakes"].split("</tr>")[1]
    assert data.row_names[first] in row
    assert escape(data.texts[first]) in row
    for text in ("Princeton", "<td>320</td><td>80</td><td>100</td>", "2000 different tokens"):
        assert text in sections["Data"]


def test_a_long_mistake_is_cut_and_nothing_in_it_is_html(data, monkeypatch) -> None:
    monkeypatch.setattr(data, "texts", ["<b>" + "x" * 500] * 5000)
    assert "&lt;b&gt;" + "x" * 297 + " …" in drawn(data, wrong=1)["Surest mistakes"]


def test_simple_models_are_trained_on_the_same_texts(data, monkeypatch) -> None:
    monkeypatch.setattr(datamodule, "find_spec", lambda name: None)
    expected = {"test/accuracy": pytest.approx(0.1), "test/f1": pytest.approx(2 / 11 / 10)}
    assert data.baseline() == {"most frequent class": expected}
    monkeypatch.undo()
    pytest.importorskip("sklearn")
    assert 0.65 < data.baseline()["TF-IDF and logistic regression"]["test/accuracy"] < 0.8


# ---- The data module


def test_batches_are_texts_of_like_length_and_padding(data) -> None:
    for loader in (data.train_dataloader(), data.val_dataloader()):
        batches = [tokens for tokens, _ in loader]
        padding = sum(int((tokens == network.PAD).sum()) for tokens in batches)
        assert 0 < padding < 0.1 * sum(tokens.numel() for tokens in batches)
    tokens, index = next(iter(data.predict_dataloader()))
    assert tokens.shape == (32, 64)
    assert index.equal(data.splits["test"][1][:32])


def test_a_folder_has_a_whole_text_in_each_file(tmp_path) -> None:
    data = prepared("text", dataset="text_folder", root=str(write_texts(tmp_path / "texts")))
    assert data.class_names == ["sea", "wood"]
    assert data.row_names[0] == "texts/sea/000.txt"
    assert data.known["whole_files"] is True
    # one text in each checkpoint, because it takes long to write its thousands of values one by one
    assert isinstance(data.state_dict()["tokenizer"], str)


def test_empty_texts_are_left_out_and_long_ones_cut(tmp_path, capsys) -> None:
    rows = text_rows()
    rows[1][0] = "wave " * 20_000
    rows[3][0] = ""
    rows[5][0] = "  "
    file = write_table(tmp_path / "a.csv", rows)
    data = prepared("text", dataset="csv_texts", root=str(file))
    notes = capsys.readouterr().err
    assert f"2 of 40: {file}:4, {file}:6\n" in notes
    assert notes.count("1 of 38 texts are cut to data.max_tokens, 64") == 1
    assert len(data.texts) == 38
    assert int(data.splits["train"][0].lengths.max()) == 64


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("text,label\n,sea\n,wood\n", "there are no texts"),
        ("text,label\n", "there are no texts"),
        ("text,label\n" + "a,sea\n" * 9, "all texts of {root} have the class sea"),
        ("text,label\na,b\nc,d\ne,f\n", "{root} has 3 classes for 3 texts"),
    ],
)
def test_texts_that_can_not_be_learned_from_are_refused(tmp_path, text, problem) -> None:
    file = tmp_path / "a.csv"
    file.write_text(text)
    with refused(problem.format(root=file)):
        prepared("text", dataset="csv_texts", root=str(file))


def test_folders_that_can_not_be_learned_from_are_refused(tmp_path) -> None:
    with refused(f"{tmp_path / 'none'} is not a folder"):
        prepared("text", dataset="text_folder", root=str(tmp_path / "none"))
    for part in ("train", "test"):
        write_texts(tmp_path / part)
    with refused(f"{tmp_path} has folders train and test"):
        prepared("text", dataset="text_folder", root=str(tmp_path))
    with refused(f"{tmp_path} is not a file"):
        prepared("text", dataset="csv_texts", root=str(tmp_path))
