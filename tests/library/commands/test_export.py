import json
import math
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from lightning_runs import errors
from pytorch_lightning import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader
from toy import Toy, ToyData
from written import record

onnxruntime = pytest.importorskip("onnxruntime")
export = pytest.importorskip("lightning_runs.commands.export")

FOLDER = Path("runs/a/export")


class Sums(Toy):
    def forward(self, numbers: Tensor) -> Tensor:
        return self.layer(numbers)[:, 0]


class OnlyTestData(ToyData):
    predict_dataloader = LightningDataModule.predict_dataloader


def by_hand(numbers: Tensor) -> Tensor:
    checkpoint = Path("runs/a/checkpoints", record("a")["best_checkpoint"])
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    return (numbers @ state["layer.weight"].T + state["layer.bias"])[:, 0]


def session() -> Any:
    return onnxruntime.InferenceSession(FOLDER / "model.onnx")


def facts() -> dict[str, Any]:
    return json.loads(session().get_modelmeta().custom_metadata_map["facts"])


@pytest.fixture(autouse=True)
def finished_run(have) -> None:
    have("finished", "a")


def test_both_files_compute_what_the_checkpoint_does(run, capsys) -> None:
    assert run("export", "a", module=Sums) == 0
    for count in (1, 5):  # batches of any size
        numbers = torch.randn(count, 4)
        [by_onnx] = session().run(None, {"numbers": numbers.numpy()})
        assert by_onnx == pytest.approx(by_hand(numbers).numpy(), abs=1e-5)
        by_torch = torch.export.load(FOLDER / "model.pt2").module()(numbers=numbers)
        torch.testing.assert_close(by_torch, by_hand(numbers))
    printed = capsys.readouterr().out
    assert [line.split(":")[0] for line in printed.splitlines() if "largest difference" in line] == [
        f"prediction by {source}" for source in ("model.onnx", "model.pt2")
    ]
    assert sorted(file.name for file in FOLDER.iterdir()) == ["README.md", "model.onnx", "model.pt2"]


def test_both_files_and_the_card_hold_the_facts_of_the_run(run) -> None:
    assert run("export", "a", module=Sums, data=OnlyTestData) == 0
    files = {"facts.json": ""}
    torch.export.load(FOLDER / "model.pt2", extra_files=files)
    assert json.loads(files["facts.json"]) == facts()
    assert facts() == {
        "run": "a",
        "metrics": record("a", "test.json"),
        "inputs": [{"name": "numbers", "dtype": "float32", "shape": ["batch", 4]}],
        "outputs": [{"name": "prediction", "dtype": "float32", "shape": ["batch"]}],
    }
    card = (FOLDER / "README.md").read_text()
    assert f"| test/loss | {record('a', 'test.json')['test/loss']:.6g} |" in card
    assert 'session.run(None, {"numbers": numbers})' in card
    assert "None" not in card.replace("run(None", "")


class Signs(Toy):
    class_names = ("below", "above")

    def predict_step(self, batch: list[Tensor], batch_idx: int) -> dict[str, Tensor]:
        return {"probabilities": self.exported()(batch[0])}

    def exported(self) -> nn.Module:
        return SignNetwork(self.layer)


class SignNetwork(nn.Module):
    facts = {"kind": "rows", "unit": "a|b"}

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, columns: Tensor) -> Tensor:
        above = self.layer(columns).sigmoid()
        return torch.cat([1 - above, above], dim=1)


def test_exported_names_network_facts_and_classes(run, capsys) -> None:
    assert run("export", "a", module=Signs) == 0
    assert capsys.readouterr().out.count(", 0 of 16 labels differ") == 3
    assert facts()["class_names"] == ["below", "above"]
    assert facts()["kind"] == "rows"
    assert [tensor["name"] for tensor in facts()["inputs"] + facts()["outputs"]] == ["columns", "probabilities"]
    assert "| unit | a\\|b |" in (FOLDER / "README.md").read_text()


class Named(Toy):
    def forward(self, numbers: Tensor, scale: Any = None, offset: Any = None) -> dict[str, Tensor]:
        total = self.layer(numbers)[:, 0]
        return {"total": total, "above": total > offset}


class NamedData(ToyData):
    def predict_dataloader(self) -> DataLoader:
        items = [{"offset": torch.tensor(0.5), "other": "text", "numbers": torch.randn(4)} for _ in range(5)]
        return DataLoader(cast(Any, items), batch_size=2)


def test_a_dict_batch_gives_the_arguments_that_it_names(run) -> None:
    assert run("export", "a", module=Named, data=NamedData) == 0
    assert [one["name"] for one in facts()["inputs"]] == ["numbers", "offset"]
    numbers = torch.randn(3, 4)
    total, above = session().run(None, {"numbers": numbers.numpy(), "offset": np.zeros(3, np.float32)})
    assert total == pytest.approx(by_hand(numbers).numpy(), abs=1e-5)
    assert above.tolist() == (total > 0).tolist()


def test_an_export_that_differs_leaves_the_earlier_files(run, capsys) -> None:
    class Shifted(Sums):
        def predict_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            return self(batch[0]) + 0.01

        def exported(self) -> nn.Module:
            return self

    FOLDER.mkdir()
    (FOLDER / "model.onnx").write_bytes(b"earlier")
    assert run("export", "a", module=Shifted) == 1
    error = capsys.readouterr().err
    assert "prediction by the Trainer differs" in error
    assert "1.0e-02" in error
    assert "exported() of Shifted" in error
    assert {file.name: file.read_bytes() for file in FOLDER.iterdir()} == {"model.onnx": b"earlier"}
    assert run("export", "a", "--tolerance=0.1", module=Shifted) == 0
    assert (FOLDER / "model.onnx").read_bytes() != b"earlier"


class Logits(Sums):
    """Its predict_step returns something else than its forward."""

    def predict_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self(batch[0]) > 0


class OnlyValidation(OnlyTestData):
    test_dataloader = LightningDataModule.test_dataloader


class Generator(Toy):
    """A GAN's forward takes noise, which no batch has."""

    def __init__(self, lr: float = 0.02) -> None:
        super().__init__(lr)
        self.automatic_optimization = False
        self.example_input_array = torch.randn(3, 4)

    def forward(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer(noise), noise.square()


class Keywords(Generator):
    def __init__(self, lr: float = 0.02) -> None:
        super().__init__(lr)
        self.example_input_array = {"noise": torch.randn(3, 4)}


@pytest.mark.parametrize(
    ("module", "data", "outputs"),
    [
        (Logits, ToyData, ["prediction"]),
        (Sums, OnlyValidation, ["prediction"]),
        (Generator, ToyData, ["output_0", "output_1"]),
        (Keywords, ToyData, ["output_0", "output_1"]),
    ],
)
def test_forward_is_exported_as_it_is(module, data, outputs, run) -> None:
    assert run("export", "a", module=module, data=data) == 0
    assert [one["name"] for one in facts()["outputs"]] == outputs


class Manual(Sums):
    def __init__(self, lr: float = 0.02) -> None:
        super().__init__(lr)
        self.automatic_optimization = False


class Branches(Sums):
    def forward(self, numbers: Tensor) -> Tensor:
        return super().forward(numbers if numbers.sum() > 0 else -numbers)


class OneSize(Sums):
    def forward(self, numbers: Tensor) -> Tensor:
        return super().forward(numbers.reshape(len(numbers.tolist()), 4))


class NoLoader(OnlyTestData):
    test_dataloader = LightningDataModule.test_dataloader
    val_dataloader = LightningDataModule.val_dataloader


class NoBatch(ToyData):
    def predict_dataloader(self) -> list[Tensor]:
        return []


class Texts(ToyData):
    def predict_dataloader(self) -> DataLoader:
        return DataLoader(cast(Any, ["a", "b"]))


@pytest.mark.parametrize(
    ("module", "data", "texts"),
    [
        (Toy, ToyData, ("Toy has no forward", "method exported() to Toy")),
        (Manual, ToyData, ("Manual steps its optimizers itself", "method exported() to Manual")),
        (Sums, NoLoader, ("predict_dataloader or test_dataloader to NoLoader",)),
        (Sums, NoBatch, ("no batch",)),
        (Sums, Texts, ("no tensor numbers", "method exported() to Sums")),
        (Branches, ToyData, ("Branches can't be exported", "method exported() to Branches")),
        (OneSize, ToyData, ("OneSize can't be exported", "method exported() to OneSize")),
    ],
)
def test_what_cannot_be_exported_is_refused(run, capsys, module, data, texts) -> None:
    assert run("export", "a", module=module, data=data) == 1
    error = capsys.readouterr().err
    assert error.count("error: ") == 1
    for text in texts:
        assert text in error
    assert not FOLDER.exists()


def test_bad_options_and_folders_are_named(run, capsys, monkeypatch) -> None:
    for options, text in ((["--tolerance=2"], "--tolerance is 2.0"), (["nowhere"], "no run nowhere")):
        assert run("export", *options, module=Sums) == 1
        assert text in capsys.readouterr().err
    FOLDER.write_text("in the way")
    assert run("export", "a", module=Sums) == 1
    assert str(FOLDER) in capsys.readouterr().err
    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    assert run("export", "a", module=Sums) == 1
    assert "[export]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("found", "expected", "tolerance", "is_close"),
    [
        ([1.0, 1000.0], [1.0, 1000.09], 1e-4, True),  # of the largest number
        ([1.0, 1000.0], [1.0, 1000.11], 1e-4, False),
        ([0.001], [0.0012], 1e-4, False),  # and at least of 1
        ([math.inf], [math.inf], 0.0, True),
        ([math.nan], [math.nan], 1.0, False),
        ([0, 1, 1, 1], [200, 1, 1, 1], 0.25, True),  # the fraction of different whole numbers
        ([0, 1, 1, 1], [200, 1, 1, 1], 0.2, False),
    ],
)
def test_the_tolerance_is_relative_above_1(found, expected, tolerance, is_close) -> None:
    network = SimpleNamespace(class_names=[], hint="")
    with nullcontext() if is_close else pytest.raises(errors.UserError, match="it by file differs"):
        export.compare("it by file", torch.tensor(found), torch.tensor(expected), tolerance, network)
