"""A user's own classes are exported, or one line says which method to add."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from project import PACKAGE
from swap import project_with
from test_export import facts_of
from warm import run


def exported(
    project: Path, *edits: tuple[str, str], file: str = "module.py", options: tuple[str, ...] = ()
) -> tuple[int, str]:
    """Change a file of a project, train it and export it; the exit code and the output of ``export``."""
    path = project / "src" / PACKAGE / file
    text = path.read_text(encoding="utf-8")
    for before, after in edits:
        assert before in text
        text = text.replace(before, after)
    path.write_text(text, encoding="utf-8")
    fit, export = run(project, ["fit", "--run=a", "--trainer.max_epochs=1"], ["export", *options], own=True)
    assert fit[0] == 0, fit[1]
    return export


def test_a_regression_without_exported_exports_its_forward(tmp_path):
    project = project_with("regression", "regression_data", tmp_path, "val_rmse")
    code, output = exported(project)
    assert code == 0, output
    # the Trainer's predictions are compared too: predict_dataloader yields what forward takes
    assert output.count("largest difference of prediction ") == 3, output

    folder = project / "runs" / "a" / "export"
    facts = facts_of(folder)
    assert set(facts.pop("metrics")) == {"checkpoint", "test_rmse", "test_r2"}
    assert facts == {
        "run": "a",
        "commit": None,  # this is no git repository
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 4]}],
        "outputs": [{"name": "prediction", "dtype": "float32", "shape": ["batch", 1]}],
    }
    weights = torch.load(next((folder.parent / "checkpoints").glob("epoch*")), weights_only=True)["state_dict"]
    x = torch.randn(5, 4)
    hidden = (x @ weights["net.0.weight"].T + weights["net.0.bias"]).relu()
    expected = hidden @ weights["net.2.weight"].T + weights["net.2.bias"]
    [found] = onnxruntime.InferenceSession(folder / "model.onnx").run(None, {"x": x.numpy()})
    assert np.abs(found - expected.numpy()).max() < 1e-5
    card = (folder / "README.md").read_text()
    assert "| input | `x` | float32 | (batch, 4) |" in card
    assert "| test_rmse | " in card
    assert not re.search("accuracy|class", card, re.IGNORECASE)


def test_a_dict_batch_is_exported_by_the_names_of_the_arguments_of_forward(tmp_path):
    project = project_with("dict_module", "dict_data", tmp_path, "val/loss")
    edits = (
        ("def forward(self, input_ids):", "def forward(self, input_ids, lengths=None, labels=None):"),
        ("return self.classifier(self.embedding(input_ids))", DICT_FORWARD),
    )
    code, output = exported(project, *edits)
    assert code == 0, output

    folder = project / "runs" / "a" / "export"
    facts = facts_of(folder)
    assert [one["name"] for one in facts["inputs"]] == ["input_ids", "labels"]
    assert [one["name"] for one in facts["outputs"]] == ["logits", "right"]
    ids, labels = np.ones((3, facts["inputs"][0]["shape"][1]), np.int64), np.array([0, 1, 1])
    logits, right = onnxruntime.InferenceSession(folder / "model.onnx").run(None, {"input_ids": ids, "labels": labels})
    assert right.tolist() == (logits.argmax(axis=1) == labels).tolist()
    other = torch.export.load(folder / "model.pt2").module()(
        input_ids=torch.from_numpy(ids), labels=torch.from_numpy(labels)
    )
    assert np.abs(logits - other["logits"].detach().numpy()).max() < 1e-5


DICT_FORWARD = """logits = self.classifier(self.embedding(input_ids))
        return logits if labels is None else {"logits": logits, "right": logits.argmax(dim=1) == labels}"""
REGRESSION = ("regression", "regression_data", "val_rmse")
PREDICT = "def configure_optimizers(self):"
# The classes and the metric, what is changed in which file, and what the line says.
REFUSED: dict[str, tuple[tuple[str, str, str | None], tuple[tuple[str, str], ...], str, str]] = {
    "no forward": (
        *(("no_validation", "train_only_data", None), (), "module.py"),
        r"AutoEncoder has no forward .*Add to AutoEncoder a method exported\(\)",
    ),
    "two networks": (
        *(("gan", "plain_data", "val_d_loss"), (), "module.py"),
        r"GAN steps its optimizers itself.*Add to GAN a method exported\(\)",
    ),
    "no data to compare on": (
        *(REGRESSION, (("def predict_dataloader", "def predict"), ("def test_dataloader", "def test")), "data.py"),
        r"Add predict_dataloader or test_dataloader to HousesDataModule",
    ),
    "other predictions": (
        *(
            REGRESSION,
            ((PREDICT, f"def predict_step(self, batch):\n        return self(batch) + 0.01\n\n    {PREDICT}"),),
        ),
        *(
            "module.py",
            r"the Trainer: largest difference of prediction 1\.0e-02 .*exported\(\) .*must do what predict_step",
        ),
    ),
    "data that decide": (
        *(REGRESSION, (("return self.net(x)", "return self.net(x) if x.sum() > 0 else self.net(-x)"),), "module.py"),
        r"Regressor can't be exported for batches of any size: .*Add to Regressor a method exported\(\)",
    ),
    "a batch of one size": (
        *(REGRESSION, (("return self.net(x)", "return self.net(x.reshape(len(x.tolist()), 4))"),), "module.py"),
        r"Regressor can't be exported for batches of any size: .*Add to Regressor a method exported\(\)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_exported_is_refused_with_what_to_add(case, tmp_path):
    (module, data, metric), edits, file, text = REFUSED[case]
    project = project_with(module, data, tmp_path, metric)
    code, output = exported(project, *edits, file=file)

    assert code == 1, output
    assert "Traceback" not in output
    [line] = re.findall("^error: .*", output, re.MULTILINE)
    assert re.search(text, line), line
    assert not list((project / "runs" / "a").glob("*export*")), "something was written"


def test_what_a_killed_export_left_is_removed_by_the_next_one_and_a_refused_one_leaves_the_files(tmp_path):
    project = project_with("regression", "regression_data", tmp_path, "val_rmse")
    folder = project / "runs" / "a"
    code, output = exported(project)
    assert code == 0, output
    before = (folder / "export" / "model.onnx").read_bytes()
    for name, age in ((".export.k1ll3d", 2 * 86400), (".export.runs", 60)):  # seconds; the second one may be under way
        (folder / name).mkdir()
        (folder / name / "model.onnx").write_bytes(b"half")
        os.utime(folder / name, (time.time() - age, time.time() - age))
    [(code, output)] = run(project, ["export", "--tolerance=0"], own=True)

    assert code == 1, output
    assert [left.name for left in folder.glob(".export*")] == [".export.runs"]
    assert (folder / "export" / "model.onnx").read_bytes() == before


def test_a_data_module_that_takes_no_paths_is_told_what_to_add(tmp_path):
    project = project_with("regression", "regression_data", tmp_path, "val_rmse")
    [(code, output)] = run(project, ["predict", "new.csv"], own=True)

    assert code == 1
    assert "error: HousesDataModule can't be given paths. Add to the data module's __init__ an argument" in output
