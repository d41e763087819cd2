from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_runs.reports import predictions, tables
from lightning_runs.reports.tables import Attachment
from torch.utils.data import DataLoader
from toy import Toy, ToyData, refused
from written import rows


def test_rows_are_sorted_by_index() -> None:
    batches = [{"index": torch.tensor([2, 3]), "name": ["c", "d"]}, {"index": torch.tensor([1, 0]), "name": ["b", "a"]}]
    columns = predictions.join(batches, "Toy")
    assert (columns["index"].tolist(), columns["name"]) == ([0, 1, 2, 3], ["a", "b", "c", "d"])


ONE = torch.arange(3.0)
SEVERAL = torch.arange(6.0).reshape(3, 2)


@pytest.mark.parametrize(
    ("outputs", "header", "rows"),
    [
        ([ONE, ONE + 1], ["prediction_0", "prediction_1"], [[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]),
        ((ONE, SEVERAL), ["prediction_0", "prediction_1_0", "prediction_1_1"], [[0, 0, 1], [1, 2, 3], [2, 4, 5]]),
        ([ONE, ONE[:1], ONE[:0]], ["prediction"], [[[0, 1, 2]], [[0]], [[]]]),
        ([{"box": ONE}, {"box": ONE[:1]}, {"box": ONE[:0]}], ["box"], [[[0, 1, 2]], [[0]], [[]]]),
        ({"a": ONE, "b": [ONE, ONE[:2], ONE]}, ["a", "b"], [[0, [0, 1, 2]], [1, [0, 1]], [2, [0, 1, 2]]]),
        ([SEVERAL[:1]] * 3, ["prediction"], [[[[0, 1]]]] * 3),
        ([{"a": {"b": ONE}}, {"c": [ONE.numpy()]}], ["a", "c"], [[{"b": [0, 1, 2]}, None], [None, [[0, 1, 2]]]]),
        ({"probabilities": SEVERAL}, ["probabilities_0", "probabilities_1"], [[0, 1], [2, 3], [4, 5]]),
    ],
)
def test_each_item_has_one_row_whatever_is_returned(outputs, header, rows) -> None:
    columns = predictions.join([predictions.columns_of(outputs, len(rows), "Toy", {})], "Toy")
    lists = {name: column.tolist() if isinstance(column, torch.Tensor) else column for name, column in columns.items()}
    assert tables.table(lists, None) == (header, rows)


@pytest.mark.parametrize(
    ("batches", "named"),
    [
        (["text"], "1 prediction 3 items"),
        ([{"a": ONE, "b": ONE[:2]}], "3 'a' 2 'b'"),
        ([{"a": {1: 2}}], "1 'a'"),
        ([{"a": ONE}, {"b": ONE}], "Toy.predict_step a b"),
        ([ONE, None], "Toy.predict_step nothing"),
        ([ONE.mean()], "1 prediction"),
        ([SEVERAL.numpy().T], "2 prediction"),
        ([[SEVERAL] * 3], "3 tensors"),
        ([], "Toy predict_dataloader"),
    ],
)
def test_what_cannot_be_a_column_is_refused(batches, named) -> None:
    with refused(*named.split()):
        predictions.join([predictions.columns_of(outputs, 3, "Toy", {}) for outputs in batches], "Toy")


class TwoLoaders(ToyData):
    def predict_dataloader(self) -> Any:
        return [self.loader(16, 1), self.loader(12, 2)]


class Signals(ToyData):
    def predict_dataloader(self) -> DataLoader:
        items: Any = [torch.full((1, 5), float(i)) for i in range(10)]
        return DataLoader(items, batch_size=4, collate_fn=list)


class Pairs(Toy):
    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        means = torch.stack([item.mean() for item in batch])
        return means, -means


def test_the_loader_tells_how_many_items_a_batch_has(run, have) -> None:
    have("finished", "a")
    assert run("predict", module=Pairs, data=Signals) == 0  # the last batch has as many items as there are outputs
    found = [[float(value) for value in row.values()] for row in rows("a", "predictions.csv")]
    assert found == [[i, -i] for i in range(10)]


class Indexed(Toy):
    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> object:
        return super().predict_step(batch, batch_idx)


def test_several_loaders_have_a_column_that_says_which(run, have) -> None:
    have("finished", "a")
    assert run("predict", module=Indexed, data=TwoLoaders) == 0
    assert [row["dataloader"] for row in rows("a", "predictions.csv")] == ["0"] * 16 + ["1"] * 12


def test_a_step_that_writes_files_itself_returns_nothing(run, have, capsys, monkeypatch) -> None:
    have("finished", "a")
    monkeypatch.setattr(Toy, "predict_step", lambda self, batch, batch_idx: None)
    assert run("predict") == 0
    assert "Toy.predict_step" in capsys.readouterr().out
    assert not Path("runs/a/predictions.csv").exists()


@pytest.mark.parametrize("cell", ["=a", "+a", "-a", "@a"])
def test_a_formula_is_escaped(cell, tmp_path) -> None:
    tables.write_csv(tmp_path / "out.csv", [cell], [[cell], ["a=b"], ["-1.5"], [-3.0]])
    assert (tmp_path / "out.csv").read_text().splitlines() == [f"'{cell}", f"'{cell}", "a=b", "-1.5", "-3.0"]


def test_attachments_of_one_name_are_numbered(tmp_path) -> None:
    cells = [Attachment(name, str(i).encode()) for i, name in enumerate(["a.txt", "a_2.txt", "a.txt", "a.txt"])]
    tables.write_csv(tmp_path / "out.csv", ["file"], [[cell] for cell in cells])
    _, *paths = (tmp_path / "out.csv").read_text().splitlines()
    assert paths == [f"out_files/a{end}.txt" for end in ("", "_2", "_3", "_4")]
    assert [(tmp_path / path).read_text() for path in paths] == ["0", "1", "2", "3"]
