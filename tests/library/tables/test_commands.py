"""Commands with the start's own classes, in this process."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import lightning_runs
import pytest
from lightning_runs.commands import predict_onnx
from starts import start_module
from written import assert_same, read_table, record, rows
from written_tables import DataModule, write

TableModel = start_module("table", "module").TableModel
MODEL = """
model:
  network: start_table.network.TableNet
  optimizer:
    class_path: torch.optim.AdamW
    init_args: {lr: 0.01}
  scheduler: lightning_runs.training.schedules.WarmupCosine
"""
PENGUINS = Path(sys.modules["start_table"].__path__[0]) / "penguins.csv"


def command(name: str, *options: str) -> int:
    return lightning_runs.run(TableModel, DataModule, [name, *options], package="start_table")


@pytest.fixture(autouse=True)
def configured(own_folder: Path) -> None:
    """Add the model to the configuration of the toy task's folder."""
    with (own_folder / "configs" / "default.yaml").open("a") as stream:
        stream.write(MODEL)


@pytest.fixture(scope="module", params=["penguins", "penguin_mass"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that is trained and exported."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "configs").mkdir()
    (folder / "configs" / "default.yaml").write_text(MODEL + "trainer: {accelerator: cpu, devices: 1}")
    with chdir(folder):
        options = ("--data.dataset", request.param, "--trainer.max_epochs", "8")
        assert command("fit", "--run", request.param, *options) == 0
        assert command("export", request.param) == 0
    return folder / "runs" / request.param


@pytest.mark.parametrize("cells", [("{0}.5", "1{1}"), ("word {0}", "other {1}")], ids=["numbers", "words"])
def test_a_table_with_one_kind_of_columns_is_exported(cells) -> None:
    lines = [",".join(cells).format(i % 3, i % 2) + f",{'xyz'[i % 3]}" for i in range(60)]
    Path("table.csv").write_text("\n".join(["a,b,kind", *lines]) + "\n")
    data = ("--data.dataset=csv_file", "--data.root=table.csv", "--data.target=kind")
    assert command("fit", "--run=a", "--trainer.max_epochs=1", *data) == 0
    assert command("export", "a") == 0


def test_the_record_and_the_report_are_those_of_the_target(trained) -> None:
    with chdir(trained.parents[1]):
        found = record(trained.name)
    assert found["headline"] == (["accuracy", "max", "%"] if trained.name == "penguins" else ["rmse", "min", ""])
    page = (trained / "report.html").read_text(encoding="utf-8")
    assert "could not be drawn" not in page
    baselines = {"penguins": "most frequent class", "penguin_mass": "mean of the training rows"}
    for text in (baselines[trained.name], "Which columns matter", "flipper_length_mm", "CC0"):
        assert text in page


def test_new_rows_are_predicted_alike_by_a_run_and_by_its_export(trained, tmp_path, capsys) -> None:
    new = tmp_path / "new.csv"
    new.write_text("\n".join([*PENGUINS.read_text().splitlines()[:40], "Adelie,Moon,,,,,NA,2009"]) + "\n")
    by_run = tmp_path / "by_run.csv"
    by_export = tmp_path / "by_export.csv"
    with chdir(trained.parents[1]):
        assert command("predict", str(new), "--run", trained.name, "--csv", str(by_run)) == 0
        assert "island Moon" in capsys.readouterr().err
        model = trained / "export" / "model.onnx"
        assert predict_onnx.main([str(new), "--onnx", str(model), "--csv", str(by_export)]) == 0
    assert "island Moon" in capsys.readouterr().err
    ours = read_table(by_run)
    theirs = read_table(by_export)
    assert [row["file"] for row in ours] == [f"{new}:{line}" for line in range(2, 42)]
    for one, other in zip(ours, theirs, strict=True):
        assert [one.pop(name, None) for name in ("file", "label")] == [
            other.pop(name, None) for name in ("file", "label")
        ]
        assert [*map(float, one.values())] == pytest.approx([*map(float, other.values())], rel=1e-4, abs=2e-6)


def test_an_interrupted_run_ends_like_one_that_was_not(interrupt: Callable[..., None]) -> None:
    options = ("--save_every_n_steps", "5", "--data.balance", "weights")
    assert command("fit", "--run", "whole", *options) == 0
    interrupt("stopped", *options, module=TableModel, data=DataModule)
    assert len(rows("stopped")) < len(rows("whole"))
    assert command("fit", "--resume") == 0
    assert_same("stopped", "whole")


def test_a_run_reads_new_rows_where_its_table_is_gone(tmp_path, capsys) -> None:
    lines = [["größe", "farbe", "art"]]
    lines += [
        [f"{i / 4:.2f}".replace(".", ","), ("rot", "grün")[i % 2], ("klein", "groß")[i // 60]] for i in range(120)
    ]
    table = write(tmp_path / "table.csv", lines, ";", "\r\n", "latin-1")
    options = ("--data.dataset", "csv_file", "--data.root", str(table), "--data.target", "art")
    assert command("fit", "--run", "own", *options) == 0
    new = table.rename(tmp_path / "new.csv")
    output = tmp_path / "own.csv"
    assert command("predict", str(new), "--run", "own", "--csv", str(output)) == 0
    right = [row["label"] == line[2] for row, line in zip(read_table(output), lines[1:], strict=True)]
    assert sum(right) > 100
    capsys.readouterr()
    assert command("test", "--run", "own") == 1
    assert f"{table} is not a file" in capsys.readouterr().err


def test_reading_needs_no_torch() -> None:
    code = f"import sys; sys.path[:] = {sys.path!r}; sys.modules['torch'] = None; import lightning_runs.tables.reading"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
