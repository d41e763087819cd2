from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_runs.errors import UserError
from lightning_runs.reports import predictions
from lightning_runs.reports.predictions import Attached
from toy import Toy, ToyData
from written import rows


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


class Drawn(Toy):
    def rows(self, predictions: dict[str, Any], data: Any) -> tuple[list[str], list[list[Any]]]:
        return ["drawn", "sum"], [[Attached("it.txt", f"{total:.3f}".encode()), total] for total in (0.25, 0.5, 0.75)]


def test_a_cell_that_is_a_file_is_written_beside_the_table(run, have) -> None:
    have("finished", "a")
    assert run("predict", module=Drawn) == 0
    written = rows("a", "predictions.csv")
    assert [row["drawn"] for row in written] == [f"predictions_files/it{end}.txt" for end in ("", "_1", "_2")]
    assert [Path("runs", "a", row["drawn"]).read_text() for row in written] == ["0.250", "0.500", "0.750"]
    assert [row["sum"] for row in written] == ["0.25", "0.5", "0.75"]


def test_files_of_an_earlier_table_go_and_others_stay(tmp_path) -> None:
    table, folder = tmp_path / "out.csv", tmp_path / "out_files"
    for names in (["a.txt", "b.txt", "c.txt"], ["b.txt", "d.txt"]):
        predictions.write_csv(table, ["drawn"], [[Attached(name, name.encode())] for name in names])
        if names[0] == "a.txt":
            for other in (folder / "mine.txt", tmp_path / "c.txt"):
                other.write_text("of someone else")
            table.write_text(table.read_text() + "out_files/../mine.csv\nout_files/lost.txt\nelsewhere/mine.txt\n")
    assert sorted(file.name for file in folder.iterdir()) == ["b.txt", "d.txt", "mine.txt"]
    assert (tmp_path / "c.txt").read_text() == "of someone else"
    predictions.write_csv(table, ["sum"], [[1]])
    assert [file.name for file in folder.iterdir()] == ["mine.txt"]
    table.write_bytes(b'\xff "\x00' * 3)  # which no table is
    predictions.write_csv(table, ["drawn"], [[Attached("e.txt", b"")]])
    assert sorted(file.name for file in folder.iterdir()) == ["e.txt", "mine.txt"]


def test_a_file_that_can_t_be_written_is_named(tmp_path) -> None:
    (tmp_path / "out_files").write_text("in the way")
    with pytest.raises(UserError, match=r"out\.csv can't be written: "):
        predictions.write_csv(tmp_path / "out.csv", ["drawn"], [[Attached("it.txt", b"")]])
    assert [file.name for file in tmp_path.iterdir()] == ["out_files"]


def test_whole_numbers_of_an_export_may_differ_in_a_share_of_the_tolerance() -> None:
    export = pytest.importorskip("lightning_runs.commands.export")
    classes = torch.zeros(2, 100, dtype=torch.uint8)
    other = classes.clone()
    other[0, 0] = 200
    [line] = export._compare({"the checkpoint": {"mask": classes}, "model.onnx": {"mask": other}}, 0, 0.01)
    assert line == "model.onnx: share that differs of mask 5.0e-03 (tolerance 1.0e-02)"
    with pytest.raises(UserError, match=r"model\.onnx: share that differs of mask 5\.0e-03 \(tolerance 1\.0e-03\)"):
        export._compare({"the checkpoint": {"mask": classes}, "model.onnx": {"mask": other}}, 0, 0.001)
