from typing import Any

import pytest
import torch
from toy import Toy, ToyData
from written import rows

from {{ cookiecutter.__package }}.runtime import predictions
from {{ cookiecutter.__package }}.runtime.errors import UserError


def test_a_tensor_is_a_column(run, have) -> None:
    have("finished", "a")
    assert run("predict") == 0
    written = rows("a", "predictions.csv")
    assert list(written[0]) == ["prediction"]
    # a sum of four numbers is learnt at once, so a prediction is nearly the sum of its item
    sums = [total for _, totals in ToyData().predict_dataloader() for total in totals.tolist()]
    assert len(written) == len(sums)
    assert torch.corrcoef(torch.tensor([sums, [float(row["prediction"]) for row in written]]))[0, 1] > 0.9


class Classes(Toy):
    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        index = torch.arange(len(batch[0])) + 8 * (1 - batch_idx)  # the second batch comes first
        above = self.layer(batch[0])[:, 0].sigmoid()
        names = [f"item {i}" for i in index.tolist()]
        return {"index": index, "name": names, "probabilities": torch.stack([1 - above, above], dim=1)}


class ClassesData(ToyData):
    class_names = ("below", "=above")


def test_a_dict_is_a_column_for_each_key_sorted_by_index(run, have) -> None:
    have("finished", "a")
    assert run("predict", module=Classes, data=ClassesData) == 0
    written = rows("a", "predictions.csv")
    # a spreadsheet would execute what begins with =
    assert list(written[0]) == ["index", "name", "label", "probability", "p(below)", "p(=above)"]
    assert [row["name"] for row in written] == [f"item {i}" for i in range(16)]
    for row in written:
        above = float(row["p(=above)"])
        assert row["label"] == ("'=above" if above > 0.5 else "below")
        assert float(row["probability"]) == pytest.approx(max(above, 1 - above), abs=1e-6)
        assert float(row["p(below)"]) == pytest.approx(1 - above, abs=2e-6)


def test_probabilities_without_class_names_are_numbered() -> None:
    header, body = predictions.table({"probabilities": [[0.25, 0.75]]}, None)
    assert (header, body) == (["probabilities_0", "probabilities_1"], [[0.25, 0.75]])


def test_text_that_a_spreadsheet_would_execute_is_quoted() -> None:
    for cell in ("=a", "+a", "-a", "@a"):
        assert predictions.harmless(cell) == f"'{cell}"
    for cell in ("a=b", "-1.5", "+2", -3.0):
        assert predictions.harmless(cell) == cell


def test_what_is_no_column_is_refused() -> None:
    with pytest.raises(UserError, match=r"Toy\.predict_step returns prediction as str\. Return a tensor with one row"):
        predictions.join(["text"], "Toy")
    with pytest.raises(UserError, match="predict_dataloader yields no batch, so Toy predicted nothing"):
        predictions.join([], "Toy")
