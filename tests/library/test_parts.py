"""The parts by themselves: each works with a plain Trainer and in any folder, as the library's README shows."""

import json
import re
from pathlib import Path

import pytest
import torch
from lightning_runs import Report, export, hardware
from lightning_runs.commands import without_project
from page import page_of
from pytorch_lightning import Trainer
from sizes import ROOT
from torch import Tensor, nn
from toy import refused


def test_the_examples_of_the_parts_work(capsys) -> None:
    page = (ROOT.parents[1] / "README.md").read_text(encoding="utf-8")
    section = page.partition("## The parts by themselves\n")[2].partition("\n## ")[0]
    for code in re.findall(r"^```python\n(.*?)^```", section, flags=re.M | re.S):
        assert sum(bool(line.strip()) for line in code.splitlines()) <= 10
        exec(code, {})
    output = capsys.readouterr().out
    assert re.search(r"^epoch 1/1  val_loss \d", output, flags=re.M)
    assert "prediction by ONNX: largest difference" in output
    assert {file.suffix for file in Path().glob("model.*")} == {".onnx", ".pt2"}
    (args,) = re.findall(r"^python -m lightning_runs (.*)$", section, flags=re.M)
    assert without_project(args.split()) == 0
    _, row = capsys.readouterr().out.splitlines()
    assert re.match(r"lightning_logs/version_0 +- +val_loss +\d+\.\d{4} +\d", row)
    report = page_of("logs/lightning_logs/version_0/report.html").text
    shown = ("no test.json, no run.json", "val_loss", "epoch=1-step=128.ckpt")
    assert [text for text in shown if text not in report] == []

    with refused("empty has no metrics.csv"):
        Report("empty")


@pytest.mark.parametrize(("values", "best"), [({"metric": "val_acc", "mode": "max"}, "0.5"), ({}, "")])
def test_a_plain_script_is_listed_with_its_status(values, best, capsys) -> None:
    Path("runs/a").mkdir(parents=True)
    Path("a.csv").write_text("epoch,step,train_loss,val_acc\n0,1,2.5,\n0,2,,0.5\n1,4,,0.25\n")
    Path("runs/a/run.json").write_text(json.dumps({"status": "finished", "csv_files": ["a.csv"]} | values))
    assert without_project(["runs", "runs", "--csv"]) == 0
    assert f"\na,finished,val_acc,{best},0.25," in capsys.readouterr().out
    assert "val_acc" in page_of(Report("runs/a").write()).text


def test_a_trainer_that_the_machine_cannot_carry_out() -> None:
    trainer = Trainer(accelerator="cpu", logger=False, precision="16-true")
    with refused("trainer.precision is 16-true"):
        hardware.check(trainer)
    assert hardware.check(Trainer(accelerator="cpu", logger=False)) == "cpu"


class Noisy(nn.Module):
    def forward(self, numbers: Tensor) -> Tensor:
        return numbers + torch.rand_like(numbers) / 100


def test_a_module_is_exported_as_it_is_or_not_at_all() -> None:
    with refused("prediction by ONNX"):
        export(Noisy(), torch.zeros(2, 3), "noisy.onnx")
    assert not list(Path().glob("noisy.*"))
    module = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)).double()
    export(module, [torch.zeros(2, 3), "other"], "a/net.onnx")
    assert sorted(file.name for file in Path("a").iterdir()) == ["net.onnx", "net.pt2"]
    assert (module.training, module[0].weight.dtype) == (True, torch.float64)
