"""Classes that options and files name, instead of those of train.py, and examples of LightningCLI's documentation."""

import os
import shlex
from pathlib import Path

import pytest
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor, nn
from toy import Toy, ToyData, assert_fails
from written import assert_same, config


class Deep(Toy):
    """Learn the sum of four numbers by two layers."""

    groups: set[str | None] = set()

    def __init__(self, hidden: int = 5, lr: float = 0.01) -> None:
        super().__init__(lr)
        self.groups.add(os.environ.get("WANDB_RUN_GROUP"))
        self.layer = nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, numbers: Tensor) -> Tensor:
        return self.layer(numbers)


class Parts(Toy):
    """Has an optimizer, a class, a list and a text among its arguments."""

    def __init__(
        self, optimizer: OptimizerCallable, loss: nn.Module | None = None, sizes: tuple[int, ...] = (), name: str = ""
    ) -> None:
        super().__init__()
        self.configure_optimizers = lambda: optimizer(self.parameters())


class MoreData(ToyData):
    """More random numbers."""

    def __init__(self, batch_size: int = 16) -> None:
        super().__init__(batch_size)


MODEL = f"{__name__}.Deep"
DATA = f"{__name__}.MoreData"
OTHER = ("--model", MODEL, "--data", DATA, "--trainer.max_epochs=1")
NESTED = f"""
model:
  class_path: {MODEL}
  init_args: {{hidden: 8}}
data:
  class_path: {DATA}
  init_args: {{batch_size: 40}}
"""


def test_options_name_the_classes_of_a_run(run) -> None:
    assert run("fit", *OTHER, "--run=a", "--model.hidden=8", "--data.init_args.batch_size=20") == 0
    assert config("a")["model"] == {"class_path": MODEL, "init_args": {"hidden": 8, "lr": 0.01}}
    assert config("a")["data"]["init_args"]["batch_size"] == 20
    for command in ("test --run=a", "predict --run=a", "export a"):
        assert run(*command.split()) == 0, command
    assert run("fit", "--run=b", "--trainer.max_epochs=1") == 0
    assert "class_path" not in str(config("b")["model"])


@pytest.mark.parametrize("form", ["nested", "reference", "parts"])
def test_a_file_names_the_classes(run, form) -> None:
    text = NESTED
    if form == "reference":
        text = text.replace("40", "'${trainer.max_epochs}'")
    if form == "parts":
        Path("parts").mkdir()
        Path("parts/net.yaml").write_text(f"class_path: {MODEL}\ninit_args: {{hidden: 8}}", encoding="utf-8")
        text = f"model: net.yaml\ndata: {DATA}\n"
    file = Path("parts/other.yaml") if form == "parts" else Path("other.yaml")
    file.write_text(text, encoding="utf-8")
    assert run("fit", "-c", str(file), "--run=a", "--trainer.max_epochs=1") == 0
    assert config("a")["model"]["init_args"]["hidden"] == 8
    assert config("a")["data"]["class_path"] == DATA
    assert run("fit", "-c", "runs/a/config.yaml", "--run=again") == 0
    assert_same("a", "again")


ADAM = f"--model {__name__}.Parts --model.optimizer Adam"
PROFILER = "{class_path: pytorch_lightning.profilers.PyTorchProfiler, dict_kwargs: {profile_memory: true}}"
FILES = {
    "one": "trainer: {max_epochs: 3, limit_val_batches: 1}",
    "two": "trainer: {max_epochs: 1}",
    "trainer": "max_epochs: 1",
    "net": f"class_path: {__name__}.Parts\ninit_args: {{name: ./d, sizes: [3], optimizer: SGD}}",
    "data": "batch_size: 4",
    "profiler": f"trainer: {{profiler: {PROFILER}}}",
    "plugins": "trainer: {plugins: [{class_path: lightning.pytorch.plugins.environments.LightningEnvironment}]}",
    "callbacks": "trainer: {callbacks: [{class_path: lightning.pytorch.callbacks.LearningRateMonitor}]}",
}
# The words of a call, and texts that config.yaml then has.
EXAMPLES = {
    "-c one.yaml --config two.yaml": "max_epochs: 1|limit_val_batches: 1",
    "--trainer trainer.yaml --model net.yaml --data data.yaml": "max_epochs: 1|name: ./d|- 3|batch_size: 4",
    """--data "{batch_size: 5}" --model '{"lr":0.03}'""": "batch_size: 5|lr: 0.03",
    f"{ADAM} --model.optimizer.lr 0.03": "torch.optim.Adam|lr: 0.03",
    f"{ADAM} --model.loss L1Loss --model.loss.reduction sum": "torch.nn.L1Loss|reduction: sum",
    "-c profiler.yaml": "profile_memory: true",
    "-c plugins.yaml": "class_path: pytorch_lightning.plugins.environments.LightningEnvironment",
    "-c callbacks.yaml": "class_path: pytorch_lightning.callbacks.LearningRateMonitor",
    "--trainer.callbacks+=LearningRateMonitor --trainer.callbacks.logging_interval=step": "logging_interval: step",
}


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_lightnings_documentation_works(example, run, capsys, monkeypatch) -> None:
    monkeypatch.setenv("PL_FIT__TRAINER__MAX_EPOCHS", "9")  # which is not read
    for name, text in FILES.items():
        Path(f"{name}.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit):
        run("fit", *shlex.split(example), "--print_config")
    Path("printed.yaml").write_text(capsys.readouterr().out, encoding="utf-8")
    assert run("fit", "-c", "printed.yaml", "--run=a", "--trainer.max_epochs=1") == 0
    written = Path("runs/a/config.yaml").read_text(encoding="utf-8")
    assert [text for text in EXAMPLES[example].split("|") if text not in written] == []


def test_options_of_other_classes_in_the_default_file_stay_out(run) -> None:
    file = Path("configs/default.yaml")
    file.write_text(f"{file.read_text(encoding='utf-8')}\ndata: {{batch_size: 3}}\n", encoding="utf-8")
    assert run("fit", *OTHER, "--run=a") == 0
    assert config("a")["data"]["init_args"]["batch_size"] == 16


def test_a_project_without_data_takes_the_class_of_an_option(run) -> None:
    assert run("fit", *OTHER, "--run=a", data=None) == 0
    assert run("test", "--run=a", data=None) == 0


def test_a_run_keeps_its_classes(run) -> None:
    assert run("fit", *OTHER, "--run=a") == 0
    for command in (["test", "--run=a"], ["fit", "--resume=a"]):
        assert_fails(f"trained with {MODEL}, and toy.Toy is given", *command, "--model=toy.Toy")
    assert run("fit", "--resume=a", "--trainer.max_epochs=2") == 0


@pytest.mark.parametrize("name", ["toy.Toi", "nowhere.Net", "Toi", "pathlib.Path"])
def test_a_class_that_cannot_be_used_is_named(name) -> None:
    assert_fails(f"--model is {name}", "fit", "--model", name)


def test_search_and_repetition_train_the_named_classes(run) -> None:
    Path("space.yaml").write_text("{space: {model.lr: {uniform: [0.1, 0.2]}}, metric: val/loss, direction: minimize}")
    assert run("sweep", "s", "--trials=1", "--space=space.yaml", *OTHER) == 0
    assert run("repeat", "r", "--seeds=2", *OTHER) == 0
    for name in ("s-000", "r-seed-1", "r-seed-2"):
        assert config(name)["model"]["class_path"] == MODEL
    assert {"s", "r"} <= Deep.groups
    assert run("lr_find", *OTHER) == 0
