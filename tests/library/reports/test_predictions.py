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


def test_what_cannot_be_a_column_is_refused() -> None:
    with pytest.raises(UserError, match=r"Toy\.predict_step returns prediction as str"):
        predictions.join(["text"], "Toy")
    with pytest.raises(UserError, match="predict_dataloader yields no batch, so Toy"):
        predictions.join([], "Toy")


class Drawn(Toy):
    def rows(self, predictions: dict[str, Any], data: Any) -> tuple[list[str], list[list[Any]]]:
        return ["drawn"], [[Attachment("it.txt", f"{total}".encode())] for total in (0.25, 0.5)]


def test_the_users_own_rows_may_hold_files(run, have) -> None:
    have("finished", "a")
    assert run("predict", module=Drawn) == 0
    files = [Path("runs", "a", row["drawn"]) for row in rows("a", "predictions.csv")]
    assert [file.read_text() for file in files] == ["0.25", "0.5"]
    assert {file.parent.name for file in files} == {"predictions_files"}
