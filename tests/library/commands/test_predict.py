import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_runs import errors
from lightning_runs.commands import predict, predict_onnx
from lightning_runs.reports.tables import Attachment
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from toy import Toy, ToyData

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


class Sums(Toy):
    def predict_step(self, batch: list[Tensor], batch_idx: int) -> dict[str, Tensor]:
        return {"prediction": batch[0].sum(dim=1), "index": batch[1], "probabilities": batch[0].softmax(dim=1)}


class Files(ToyData):
    """Predict files of four numbers each."""

    class_names = ("a", "b", "c", "d")

    def __init__(self, batch_size: int = 8, num_workers: int = 0, predict_paths: list[str] | None = None) -> None:
        super().__init__(batch_size, num_workers)
        self.predict_paths = predict_paths

    def predict_dataloader(self) -> DataLoader:
        files = [(i, Path(path)) for i, path in enumerate(self.predict_paths or []) if Path(path).is_file()]
        numbers = torch.tensor([[float(text) for text in file.read_text().split()] for _, file in files])
        return DataLoader(TensorDataset(numbers, torch.tensor([i for i, _ in files])), batch_size=2)


@pytest.fixture
def files(have, own_folder) -> list[str]:
    have("finished", "a")
    for i in range(3):
        (own_folder / f"{i}.txt").write_text(f"{i} 1 2 4")
    return ["0.txt", "1.txt", "2.txt"]


def cells(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_files_are_predicted_by_the_newest_run(run, files, capsys) -> None:
    assert run("predict", *files, module=Sums, data=Files) == 0
    header, *rows = cells(capsys.readouterr().out)[-4:]
    assert header == ["file", "prediction", "index", "label", "probability"]  # no column for each class
    assert [row[:2] for row in rows] == [[file, f"{7 + i:.4f}"] for i, file in enumerate(files)]
    assert {row[3] for row in rows} == {"d"}


def test_a_csv_file_has_all_columns(run, files) -> None:
    assert run("predict", *files, "--csv=out.csv", module=Sums, data=Files) == 0
    header, *rows = Path("out.csv").read_text().splitlines()
    assert header == "file,prediction,index,label,probability,p(a),p(b),p(c),p(d)"
    assert [row.split(",")[0] for row in rows] == files


def test_an_input_without_prediction_is_named(run, files, capsys) -> None:
    assert run("predict", "0.txt", "gone.txt", "2.txt", module=Sums, data=Files) == 1
    printed = capsys.readouterr()
    assert [row[0] for row in cells(printed.out)[-2:]] == ["0.txt", "2.txt"]
    assert "error: gone.txt" in printed.err


@pytest.mark.parametrize(
    ("args", "data", "text"),
    [
        (["new.txt"], ToyData, "predict_paths"),
        (["nowhere.txt"], Files, "nowhere.txt does not exist"),
        (["0.txt", "--run=nowhere"], Files, "no run nowhere"),
        (["0.txt", "--onnx=gone.onnx"], Files, "gone.onnx does not exist"),
    ],
)
def test_what_cannot_be_predicted_is_refused(run, files, capsys, args, data, text) -> None:
    assert run("predict", *args, module=Sums, data=data) == 1
    assert text in capsys.readouterr().err


def test_attached_files_are_not_printed(capsys) -> None:
    predict.show(["file", "mask"], [["cat.png", Attachment("cat.png", b"")]], None)
    assert capsys.readouterr().out.splitlines()[:2] == ["file", "cat.png"]
    with pytest.raises(errors.UserError, match="nothing was predicted"):
        predict.show(["file"], [], None)


# ---- An exported model, without torch

ROWS = {
    "kind": "rows",
    "class_names": list("abcd"),
    "columns": {name: {"mean": 0.0, "std": 1.0} for name in "wxyz"},
    "inputs": [{"name": "items", "dtype": "float32", "shape": ["batch", 4]}],
}
IMAGES = {"kind": "images", "inputs": [{"name": "items", "dtype": "uint8", "shape": ["batch", 1, 2, 2]}]}


def write_model(facts: Any, dtype: int = onnx.TensorProto.FLOAT, shape: tuple[int, ...] = (4,)) -> None:
    """Write model.onnx: the softmax of each item's four values."""
    nodes = [
        onnx.helper.make_node("Cast", ["items"], ["numbers"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Flatten", ["numbers"], ["rows"]),
        onnx.helper.make_node("Softmax", ["rows"], ["probabilities"]),
    ]
    items = onnx.helper.make_tensor_value_info("items", dtype, ["batch", *shape])
    outputs = onnx.helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["batch", 4])
    graph = onnx.helper.make_graph(nodes, "softmax", [items], [outputs])
    model = onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 20)])
    onnx.helper.set_model_props(model, facts if facts == {} else {"facts": json.dumps(facts)})
    Path("model.onnx").write_bytes(model.SerializeToString())


def test_an_exported_model_predicts_without_torch() -> None:
    write_model(ROWS)
    Path("new.csv").write_text("z,y,x,w\n1,0,0,0\n0,0,0,3\n")
    code = """if True:
        import sys, lightning_runs.commands
        code = lightning_runs.commands.early(["predict", "new.csv", "--onnx=model.onnx"])
        raise SystemExit(code or bool({"torch", "pytorch_lightning", "jsonargparse"} & {*sys.modules}))
    """
    environment = {"PYTHONPATH": str(Path(errors.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    probabilities = [f"{np.exp(value) / (np.exp(value) + 3):.4f}" for value in (1, 3)]
    assert cells(done.stdout)[1:] == [["new.csv:2", "d", probabilities[0]], ["new.csv:3", "a", probabilities[1]]]


def test_an_unreadable_file_is_named_beside_the_predictions(run, capsys) -> None:
    image = pytest.importorskip("PIL.Image")
    write_model(IMAGES, onnx.TensorProto.UINT8, (1, 2, 2))
    Path("pictures").mkdir()
    image.fromarray(np.array([[0, 0], [9, 0]], np.uint8)).save("pictures/good.png")
    Path("pictures/bad.png").write_bytes(b"text")
    assert run("predict", "pictures", "--onnx=model.onnx") == 1
    printed = capsys.readouterr()
    assert "error: pictures/bad.png" in printed.err
    assert cells(printed.out)[1][0] == "pictures/good.png"
    assert float(cells(printed.out)[1][3]) == pytest.approx(1, abs=1e-3)  # without names of classes, all are columns


def test_an_input_of_another_shape_is_refused(run, capsys) -> None:
    write_model(ROWS | {"columns": {"w": {"mean": 0.0, "std": 1.0}}})
    Path("new.csv").write_text("w,x\n1,0\n")
    assert run("predict", "new.csv", "--onnx=model.onnx") == 1
    assert "model.onnx can't take new.csv:2" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [None, "sounds", "os.path"])
def test_a_model_without_a_known_kind_is_refused(run, capsys, kind) -> None:
    write_model(ROWS | {"kind": kind})
    assert run("predict", "new.csv", "--onnx=model.onnx") == 1
    [error] = capsys.readouterr().err.splitlines()
    for text in ("model.onnx", repr(kind), "facts['kind']", *predict_onnx.READERS):
        assert text in error


def test_every_kind_has_a_reader() -> None:
    for module in predict_onnx.READERS.values():
        assert callable(import_module(f"lightning_runs.{module}").read)


@pytest.mark.parametrize("content", [b"", b"text", None])
def test_a_file_that_export_did_not_write_is_refused(run, capsys, content) -> None:
    write_model({})
    if content is not None:
        Path("model.onnx").write_bytes(content)
    assert run("predict", "new.csv", "--onnx=model.onnx") == 1
    assert "model.onnx can't be used" in capsys.readouterr().err
