import json
from typing import Any

from lightning_runs.texts.reports import TextReports
from starts import prepared, refused
from torch.nn import functional
from written_data import text_rows, write_table, write_texts


def test_sections_show_the_surest_mistakes_as_text(monkeypatch) -> None:
    data = prepared("text", max_vocabulary=2000)
    model: Any = TextReports()
    model.facts = json.loads(data.facts)
    index = data.splits["test"][1]
    labels = data.splits["test"][0].labels[index].clone()
    labels[:7] = (labels[:7] + 1) % 10
    probabilities = functional.one_hot(labels, 10) * 0.9 + 0.01
    probabilities[0, labels[0]] += 0.05  # the model is surest of the first text
    monkeypatch.setattr(data, "texts", ["<b>" + "x" * 500] * 5000)
    sections = {title: draw() for title, draw in model.sections({"index": index, "probabilities": probabilities}, data)}
    mistakes = sections["Surest mistakes"]
    assert mistakes.count("glosses.csv.gz:") == 7
    row = mistakes.split("</tr>")[1]
    assert data.row_names[index[0]] in row
    assert "&lt;b&gt;" + "x" * 297 + " …" in row
    for text in ("Princeton", "<td>320</td><td>80</td><td>100</td>", "2000 different tokens"):
        assert text in sections["Data"]


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


def test_folders_that_can_not_be_learned_from_are_refused(tmp_path) -> None:
    with refused(f"{tmp_path / 'none'} is not a folder"):
        prepared("text", dataset="text_folder", root=str(tmp_path / "none"))
    for part in ("train", "test"):
        write_texts(tmp_path / part)
    with refused(f"{tmp_path} has folders train and test"):
        prepared("text", dataset="text_folder", root=str(tmp_path))
    with refused(f"{tmp_path} is not a file"):
        prepared("text", dataset="csv_texts", root=str(tmp_path))
