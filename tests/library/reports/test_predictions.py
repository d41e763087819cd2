from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_runs.errors import UserError
from lightning_runs.reports import predictions
from lightning_runs.reports.tables import Attachment
from toy import Toy, ToyData
from written import rows


def test_a_tensor_is_a_column(run, have) -> None:
    have("finished", "a")
    assert run("predict") == 0
    written = rows("a", "predictions.csv")
    assert list(written[0]) == ["prediction"]
    # a sum of four numbers is learnt at once, so a prediction is nearly the sum of its item
    sums = [total for _, totals in ToyData().predict_dataloader() for total in totals.tolist()]
    assert torch.corrcoef(torch.tensor([sums, [float(row["prediction"]) for row in written]]))[0, 1] > 0.9


class Classes(Toy):
    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        index = torch.arange(len(batch[0])) + 8 * (1 - batch_idx)  # the second batch comes first
        above = self.layer(batch[0])[:, 0].sigmoid()
        names = [f"item {i}" for i in index.tolist()]
        return {"index": index, "name": names, "probabilities": torch.stack([1 - above, above], dim=1)}


class ClassesData(ToyData):
    class_names = ("below", "above")


def test_a_dict_is_a_column_for_each_key_sorted_by_index(run, have) -> None:
    have("finished", "a")
    assert run("predict", module=Classes, data=ClassesData) == 0
    written = rows("a", "predictions.csv")
    assert list(written[0]) == ["index", "name", "label", "probability", "p(below)", "p(above)"]
    assert [row["name"] for row in written] == [f"item {i}" for i in range(16)]
    for row in written:
        above = float(row["p(above)"])
        assert row["label"] == ("above" if above > 0.5 else "below")
        assert float(row["probability"]) == pytest.approx(max(above, 1 - above), abs=1e-6)


def test_probabilities_without_class_names_are_numbered() -> None:
    header, body = predictions.table({"probabilities": [[0.25, 0.75]]}, None)
    assert (header, body) == (["probabilities_0", "probabilities_1"], [[0.25, 0.75]])


ONE = torch.arange(3.0)
SEVERAL = torch.arange(6.0).reshape(3, 2)


@pytest.mark.parametrize(
    ("outputs", "header", "rows"),
    [
        ([ONE, ONE + 1], ["prediction_0", "prediction_1"], [[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]),
        ((ONE, SEVERAL), ["prediction_0", "prediction_1_0", "prediction_1_1"], [[0, 0, 1], [1, 2, 3], [2, 4, 5]]),
        ([ONE, ONE[:1], ONE[:0]], ["prediction"], [[[0, 1, 2]], [[0]], [[]]]),
        (["a", "b", "c"], ["prediction"], [["a"], ["b"], ["c"]]),
        ([{"box": ONE}, {"box": ONE[:1]}, {"box": ONE[:0]}], ["box"], [[[0, 1, 2]], [[0]], [[]]]),
        ({"a": ONE, "b": [ONE, ONE[:2], ONE]}, ["a", "b"], [[0, [0, 1, 2]], [1, [0, 1]], [2, [0, 1, 2]]]),
        ({"a": ONE, "b": [[1, 2], [3], []]}, ["a", "b"], [[0, [1, 2]], [1, [3]], [2, []]]),
    ],
)
def test_each_item_has_one_row_whatever_is_returned(outputs, header, rows) -> None:
    columns = predictions.join([predictions.columns_of(outputs, 3, "Toy")], "Toy")
    lists = {name: column.tolist() if isinstance(column, torch.Tensor) else column for name, column in columns.items()}
    assert predictions.table(lists, None) == (header, rows)


@pytest.mark.parametrize(
    ("outputs", "named"),
    [("text", "prediction as str"), ({"a": ONE, "b": ONE[:2]}, "3 of a, 2 of b"), ({"a": {1: 2}}, "a as dict")],
)
def test_what_cannot_be_a_column_is_refused(outputs, named) -> None:
    with pytest.raises(UserError, match=rf"Toy\.predict_step returns .*{named}"):
        predictions.columns_of(outputs, 3, "Toy")


@pytest.mark.parametrize(
    ("batches", "named"), [([], "predict_dataloader yields no batch"), ([{"a": ONE}, {"b": ONE}], "other keys than a")]
)
def test_batches_that_cannot_be_joined_are_refused(batches, named) -> None:
    with pytest.raises(UserError, match=named):
        predictions.join(batches, "Toy")


class TwoLoaders(ToyData):
    def predict_dataloader(self) -> Any:
        return [self.loader(16, 1), self.loader(12, 2)]


class Lists(Toy):
    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> list[torch.Tensor]:
        return [self.layer(batch[0])[:, 0], batch[1]]


class Boxes(Toy):
    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        return {"boxes": [[1.5] * i for i in range(len(batch[0]))]}


class Writes(Toy):
    def predict_step(self, batch: Any, batch_idx: int) -> None:
        Path("written.txt").write_text("own")


def test_several_loaders_have_a_column_that_says_which(run, have) -> None:
    have("finished", "a")
    assert run("predict", module=Lists, data=TwoLoaders) == 0
    assert [row["dataloader"] for row in rows("a", "predictions.csv")] == ["0"] * 16 + ["1"] * 12


def test_a_list_of_a_step_is_its_outputs(run, have) -> None:
    have("finished", "a")
    assert run("predict", module=Lists) == 0
    written = rows("a", "predictions.csv")
    assert (len(written), list(written[0])) == (16, ["prediction_0", "prediction_1"])


def test_lists_of_any_length_are_cells(run, have) -> None:
    have("finished", "a")
    assert run("predict", module=Boxes) == 0
    assert [row["boxes"] for row in rows("a", "predictions.csv")][:3] == ["[]", "[1.5]", "[1.5, 1.5]"]


def test_a_step_that_writes_files_itself_returns_nothing(run, have, capsys) -> None:
    have("finished", "a")
    assert run("predict", module=Writes) == 0
    assert "Writes.predict_step" in capsys.readouterr().out
    assert not Path("runs/a/predictions.csv").exists()


class Drawn(Toy):
    def rows(self, predictions: dict[str, Any], data: Any) -> tuple[list[str], list[list[Any]]]:
        return ["drawn"], [[Attachment("it.txt", f"{total}".encode())] for total in (0.25, 0.5)]


def test_the_users_own_rows_may_hold_files(run, have) -> None:
    have("finished", "a")
    assert run("predict", module=Drawn) == 0
    files = [Path("runs", "a", row["drawn"]) for row in rows("a", "predictions.csv")]
    assert [file.read_text() for file in files] == ["0.25", "0.5"]
    assert {file.parent.name for file in files} == {"predictions_files"}
