"""An exported model without a kind reads its items from JSON and NumPy files, in `predict --onnx` and in `serve`."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands.test_serve import client, save_model
from toy import assert_fails
from written import read_table

GRAPH = """(float[batch, 2] a, int64[batch] b) => (float[batch, 2] total)
    <int64[1] last = {1}> {c = Cast<to=1>(b) d = Unsqueeze(c, last) total = Add(a, d)}"""
INPUTS = [
    {"name": "a", "dtype": "float32", "shape": ["batch", 2]},
    {"name": "b", "dtype": "int64", "shape": ["batch"]},
]
ITEMS = [{"a": [0.5, 1], "b": 2}, {"a": [0, 0.25], "b": -1}]
ANSWERS = [{"total_0": 2.5, "total_1": 3.0}, {"total_0": -1.0, "total_1": -0.75}]


@pytest.fixture
def model() -> Path:
    return save_model(GRAPH, {"run": "toy", "inputs": INPUTS})


@pytest.mark.parametrize("content", [ITEMS, {"inputs": ITEMS}])
def test_items_of_a_json_file_are_predicted(content, model, run) -> None:
    Path("new.json").write_text(json.dumps(content))
    assert run("predict", "new.json", f"--onnx={model}", "--csv=out.csv") == 0
    for i, (row, answer) in enumerate(zip(read_table(Path("out.csv")), ANSWERS, strict=True)):
        assert row == {"file": f"new.json:{i}"} | {name: str(value) for name, value in answer.items()}


def test_items_are_served(model) -> None:
    asked = client(model)
    assert asked.post("/predict", json={"inputs": ITEMS}).json() == {"predictions": ANSWERS}
    response = asked.post("/predict", json={"inputs": [ITEMS[0], {"a": [1, 2, 3], "b": 0}]})
    assert (response.status_code, response.json()["detail"]) == (422, "body:1: a has the shape [3]; it must be [2].")


def test_rows_of_a_numpy_file_are_items(run, capsys) -> None:
    save_model("(float[batch, 2] a) => (float[batch, 2] total) {total = Add(a, a)}", {"inputs": INPUTS[:1]})
    np.save("new.npy", np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert run("predict", "new.npy", "--onnx=model.onnx") == 0
    assert capsys.readouterr().out.split()[-6:] == ["new.npy:0", "2.0000", "4.0000", "new.npy:1", "6.0000", "8.0000"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "new.json is neither JSON nor"),
        (b"[" * 100_000, "new.json is neither JSON nor"),
        (b'{"rows": []}', "new.json must have a list of items"),
        (b'[{"a": [1, 2]}]', "new.json:0: it has no b"),
        (b'[{"a": [1, "x"], "b": 1}]', "new.json:0: could not convert string to float: np.str_('x')"),
        (b'[{"a": [1, [2]], "b": 1}]', "new.json:0: "),
        (b'[{"a": [1, 2], "b": 1.5}]', "new.json:0: b has values that are not of the type int64"),
        (b'[{"a": [1, 2], "b": 1e400}]', "new.json:0: "),
    ],
)
def test_wrong_items_are_refused_by_name(content, words, model) -> None:
    Path("new.json").write_bytes(content)
    assert_fails(words, "predict", "new.json", f"--onnx={model}")
