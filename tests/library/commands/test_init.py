"""A project that has two classes and uses Lightning's own command line gets this library by one command."""

import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from lightning_runs.commands import without_project
from toy import CONFIG

MODEL = """
from toy import Toy


class Net(Toy):
    def __init__(self, num_layers: int, lr: float = 0.01, batch_size: int = 4):
        super().__init__(lr)
"""
DATA = """
from toy import ToyData


class Sums(ToyData):
    @property
    def num_layers(self):
        return 1
"""


@pytest.fixture(params=["", "src"])
def project(request, own_folder, monkeypatch) -> Path:
    """A package in the working folder or in src, without a configuration."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
        monkeypatch.delitem(sys.modules, name)
    Path("configs/default.yaml").unlink()
    folder = Path(request.param, "shop")
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "net.py").write_text(MODEL, encoding="utf-8")
    (folder / "data.py").write_text(DATA, encoding="utf-8")
    (folder / "cli.py").write_text("from pytorch_lightning.cli import LightningCLI\n", encoding="utf-8")
    return folder


def test_init_writes_what_trains_at_once(project, capsys) -> None:
    assert without_project(["init", "shop.models.net:Net", "shop.data:Sums"]) == 0
    assert capsys.readouterr().out.count("Written: ") == 3
    options = yaml.safe_load(Path("configs/default.yaml").read_text(encoding="utf-8"))
    assert options["model"] == {"lr": 0.01, "batch_size": 4}  # num_layers follows the data
    assert options["data"] == {"batch_size": 8, "num_workers": 0}
    main = import_module("shop.train").main
    assert main(["fit", "--trainer.max_epochs=1", "--run=a", "--trainer.accelerator=cpu", "--trainer.devices=1"]) == 0
    assert Path("runs/a/report.html").is_file()
    assert "project.main" not in (project / "__main__.py").read_text(encoding="utf-8")
    assert import_module("shop.__main__").Project("shop").main(["test", "--run=a"]) == 0


def test_init_changes_no_file(project, capsys) -> None:
    Path("configs/default.yaml").write_text(CONFIG, encoding="utf-8")
    (project / "train.py").write_text("mine", encoding="utf-8")
    assert without_project(["init", "shop.models.net:Net", "shop.data:Sums"]) == 1
    assert f"{project / 'train.py'} exists" in capsys.readouterr().err
    assert not (project / "__main__.py").exists()
    (project / "train.py").unlink()
    assert without_project(["init", "shop.models.net:Net"]) == 0
    assert Path("configs/default.yaml").read_text(encoding="utf-8") == CONFIG


@pytest.mark.parametrize("path", ["nowhere.net:Net", "json:JSONEncoder", "shop.data:Summ", "shop.data:ToyData"])
def test_a_class_that_is_no_model_is_refused(project, capsys, path) -> None:
    assert without_project(["init", path]) == 1
    assert path.partition(":")[0].partition(".")[0] in capsys.readouterr().err
    assert not (project / "train.py").exists()
