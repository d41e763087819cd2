"""The documentation shows the training of a run with a plain Trainer; both reach the same numbers."""

import re
from importlib import resources
from pathlib import Path

import lightning_runs
import torch
from starts import add_options, start_module
from written import record, weights


def test_a_plain_trainer_reaches_the_numbers_of_a_run(monkeypatch) -> None:
    page = (resources.files("lightning_runs") / "docs" / "how-it-works.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    data = start_module("blank", "data")
    module = start_module("blank", "module")
    Path("configs/default.yaml").write_text("seed_everything: 42\ncheckpoint:\n  monitor: val/loss\n")
    add_options("blank", "", Path("configs/default.yaml"))
    args = ["fit", "--run=a", "--trainer.max_epochs=2", "--trainer.accelerator=cpu", "--logger=none"]
    assert lightning_runs.run(module.DigitClassifier, data.DigitsDataModule, args) == 0
    names: dict = {}
    exec(code.replace("PACKAGE", "start_blank").replace("max_epochs=20", "max_epochs=2"), names)
    assert names["metrics"] == {name: value for name, value in record("a", "test.json").items() if name != "checkpoint"}
    saved = names["trainer"].checkpoint_callback.best_model_path
    assert record("a")["best_checkpoint"].startswith("epoch=001")
    assert all(map(torch.equal, torch.load(saved)["state_dict"].values(), weights("a").values()))
