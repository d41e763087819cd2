"""Exported files compute what the checkpoint does, and nothing that differs is kept."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import onnxruntime
import pytest
import torch
from lightning_runs import errors
from pytorch_lightning import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader
from toy import Toy, ToyData
from written import record, rows

export = pytest.importorskip("lightning_runs.commands.export")
FOLDER = Path("runs/a/export")


class Sums(Toy):
    def forward(self, numbers: Tensor) -> Tensor:
        return self.layer(numbers)[:, 0]


def facts() -> dict[str, Any]:
    session = onnxruntime.InferenceSession(FOLDER / "model.onnx")
    return json.loads(session.get_modelmeta().custom_metadata_map["facts"])


@pytest.fixture(autouse=True)
def finished_run(have) -> None:
    have("finished", "a")


def test_both_files_compute_what_the_checkpoint_does(run, capsys) -> None:
    assert run("export", "a", module=Sums) == 0
    assert "size can change: numbers (batch, 4)" in capsys.readouterr().out
    checkpoint = torch.load(Path("runs/a/checkpoints", record("a")["best_checkpoint"]), weights_only=True)
    state = checkpoint["state_dict"]
    files = {"facts.json": ""}
    by_torch = torch.export.load(FOLDER / "model.pt2", extra_files=files).module()
    session = onnxruntime.InferenceSession(FOLDER / "model.onnx")
    for count in (1, 5):  # batches of any size
        numbers = torch.randn(count, 4)
        expected = (numbers @ state["layer.weight"].T + state["layer.bias"])[:, 0]
        torch.testing.assert_close(by_torch(numbers=numbers), expected)
        [by_onnx] = session.run(None, {"numbers": numbers.numpy()})
        assert by_onnx == pytest.approx(expected.numpy(), abs=1e-5)
    assert json.loads(files["facts.json"]) == facts()
    assert facts() == {
        "run": "a",
        "metrics": record("a", "test.json"),
        "inputs": [{"name": "numbers", "dtype": "float32", "shape": ["batch", 4]}],
        "outputs": [{"name": "prediction", "dtype": "float32", "shape": ["batch"]}],
    }
    assert 'session.run(None, {"numbers": numbers})' in (FOLDER / "README.md").read_text()


class Shifted(Sums):
    def predict_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self(batch[0]) + 0.01

    def exported(self) -> nn.Module:
        return self


def test_an_export_that_differs_leaves_the_earlier_files(run, capsys) -> None:
    FOLDER.mkdir()
    (FOLDER / "model.onnx").write_bytes(b"earlier")
    assert run("export", "a", module=Shifted) == 1
    error = capsys.readouterr().err
    assert [word for word in ("prediction by the Trainer", "1.0e-02") if word not in error] == []
    assert {file.name: file.read_bytes() for file in FOLDER.iterdir()} == {"model.onnx": b"earlier"}
    assert run("export", "a", "--tolerance=0.1", module=Shifted) == 0


class OnlyValidation(ToyData):
    predict_dataloader = LightningDataModule.predict_dataloader
    test_dataloader = LightningDataModule.test_dataloader


class NoLoader(OnlyValidation):
    val_dataloader = LightningDataModule.val_dataloader


class Items(ToyData):
    items: list[Any] = [{"offset": torch.tensor(0.5), "other": "text", "numbers": torch.randn(4)} for _ in range(5)]

    def predict_dataloader(self) -> DataLoader:
        return DataLoader(cast(Any, self.items), batch_size=2)


class Texts(Items):
    items = ["a", "b"]


class Named(Toy):
    def forward(self, numbers: Tensor, scale: Any = None, offset: Any = None) -> dict[str, Tensor]:
        total = self.layer(numbers)[:, 0]
        return {"total": total, "above": total > offset}


class Generator(Toy):
    example_input_array = {"noise": torch.randn(3, 4)}  # pyright: ignore

    def forward(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer(noise), noise.square()


@pytest.mark.parametrize(
    ("module", "data", "inputs", "outputs"),
    [
        (Sums, OnlyValidation, ["numbers"], ["prediction"]),
        (Named, Items, ["numbers", "offset"], ["total", "above"]),
        (Generator, NoLoader, ["noise"], ["output_0", "output_1"]),
    ],
)
def test_forward_is_exported_as_it_is(module, data, inputs, outputs, run) -> None:
    assert run("export", "a", module=module, data=data) == 0
    assert [one["name"] for one in facts()["inputs"]] == inputs
    assert [one["name"] for one in facts()["outputs"]] == outputs


class Loaded(Sums):
    def __init__(self, lr: float = 0.02) -> None:
        super(Toy, self).__init__()
        self.layer = cast(Any, None)

    def configure_model(self) -> None:
        self.layer = self.layer or nn.Linear(4, 1)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"]["layer.weight"] *= 2 if self.trainer.state.fn == "predict" else 0


class Newer(Sums):
    def __init__(self, lr: float = 0.02) -> None:
        super().__init__(lr)
        self.other = nn.Linear(4, 1)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] |= self.other.state_dict(prefix="other.")


@pytest.mark.parametrize("module", [Loaded, Newer])
def test_hooks_load_the_model_that_the_trainer_has(module, run) -> None:
    assert run("predict", module=module) == 0
    expected = [float(row["prediction"]) for row in rows("a", "predictions.csv")]
    assert run("export", "a", module=module) == 0
    [numbers] = [batch[0] for batch in ToyData(100).predict_dataloader()]
    [found] = onnxruntime.InferenceSession(FOLDER / "model.onnx").run(None, {"numbers": numbers.numpy()})
    assert found == pytest.approx(expected, abs=1e-5)


class Listed(Sums):
    def forward(self, numbers: Tensor) -> Any:
        return {"total": self.layer(numbers), "parts": [numbers]}


class OneSize(Sums):
    def forward(self, numbers: Tensor) -> Tensor:
        return super().forward(numbers.reshape(len(numbers.tolist()), 4))


@pytest.mark.parametrize(
    ("module", "data", "text"),
    [
        (Toy, ToyData, "Toy has no forward"),
        (Sums, NoLoader, "predict_dataloader to NoLoader"),
        (Sums, NoLoader, "example_input_array of Sums"),
        (Listed, ToyData, "output parts is not a tensor"),
        (Sums, Texts, "no tensor numbers"),
        (OneSize, ToyData, "OneSize can't be exported"),
    ],
)
def test_what_cannot_be_exported_is_refused(run, capsys, module, data, text) -> None:
    assert run("export", "a", module=module, data=data) == 1
    assert text in capsys.readouterr().err
    assert not FOLDER.exists()


@pytest.mark.parametrize(
    ("found", "expected", "tolerance", "is_close"),
    [
        ([1.0, 1000.0], [1.0, 1000.09], 1e-4, True),  # of the largest number
        ([1.0, 1000.0], [1.0, 1000.11], 1e-4, False),
        ([0.001], [0.00105], 1e-4, True),  # and at least of 1
        ([0, 1, 1, 1], [200, 1, 1, 1], 0.25, True),  # the fraction of different whole numbers
        ([0, 1, 1, 1], [200, 1, 1, 1], 0.2, False),
    ],
)
def test_the_tolerance_is_relative_above_1(found, expected, tolerance, is_close) -> None:
    with nullcontext() if is_close else pytest.raises(errors.UserError, match="it by file"):
        export.compare("it by file", torch.tensor(found), torch.tensor(expected), tolerance, "")
