"""Commands with the start's own classes, in this process."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lightning_runs
import pytest
from lightning_runs.commands import predict_onnx
from starts import start_module
from written import assert_same, read_table, rows
from written_texts import DataModule, text_rows, write_encoder, write_folder

TextClassifier = start_module("text", "module").TextClassifier
MODEL = """
model:
  network: start_text.network.EmbeddingAverage
  optimizer:
    class_path: torch.optim.AdamW
    init_args: {lr: 0.01}
data: {max_vocabulary: 500, max_tokens: 32}
"""
FEW = tuple(f"--trainer.limit_{part}_batches={count}" for part, count in (("train", 20), ("val", 5), ("test", 5)))


def command(name: str, *options: str) -> int:
    return lightning_runs.run(TextClassifier, DataModule, [name, *options], package="start_text")


@pytest.fixture(autouse=True)
def configured(own_folder: Path) -> None:
    """Add the model to the configuration of the toy task's folder."""
    with (own_folder / "configs" / "default.yaml").open("a") as stream:
        stream.write(MODEL)


def test_a_run_its_report_and_its_export_agree(tmp_path, capsys) -> None:
    assert command("fit", "--run", "glosses", *FEW) == 0
    assert command("export", "glosses") == 0
    folder = Path("runs") / "glosses"
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "could not be drawn" not in page
    for text in (
        "Confusion matrix",
        "Surest mistakes",
        "most frequent class",
        "Princeton University",
        "glosses.csv.gz:",
    ):
        assert text in page
    assert len((folder / "export" / "README.md").read_text(encoding="utf-8")) < 9000  # without the vocabulary
    new = tmp_path / "new.txt"
    new.write_text("a fish\n\n" + "the act of running " * 50 + "\r\nÄrger 漢字 🙂\n", encoding="utf-8")
    by_run = tmp_path / "by_run.csv"
    by_export = tmp_path / "by_export.csv"
    assert command("predict", str(new), "--run", "glosses", "--csv", str(by_run)) == 0
    model = folder / "export" / "model.onnx"
    capsys.readouterr()
    assert predict_onnx.main([str(new), "--onnx", str(model), "--csv", str(by_export)]) == 0
    assert f"1 of 4: {new}:2" in capsys.readouterr().err
    ours = read_table(by_run)
    theirs = read_table(by_export)
    assert [row["file"] for row in ours] == [f"{new}:{line}" for line in (1, 3, 4)]
    for one, other in zip(ours, theirs, strict=True):
        assert [one.pop(name) for name in ("file", "label")] == [other.pop(name) for name in ("file", "label")]
        assert [*map(float, one.values())] == pytest.approx([*map(float, other.values())], rel=1e-4, abs=2e-6)


@pytest.mark.parametrize("balance", ["none", "sampling"])
def test_an_interrupted_run_ends_like_one_that_was_not(interrupt: Callable[..., None], balance) -> None:
    options = (*FEW, "--save_every_n_steps", "5", "--data.balance", balance)
    assert command("fit", "--run", "whole", *options) == 0
    interrupt("stopped", *options, module=TextClassifier, data=DataModule)
    assert len(rows("stopped")) < len(rows("whole"))
    assert command("fit", "--resume") == 0
    assert_same("stopped", "whole")


def test_a_run_reads_new_texts_where_its_folder_is_gone(tmp_path, capsys) -> None:
    texts = write_folder(tmp_path / "texts", text_rows())
    options = ("--data.dataset", "text_folder", "--data.root", str(texts), "--data.batch_size", "8")
    assert command("fit", "--run", "folder", *options, "--trainer.max_epochs", "15") == 0
    texts.rename(tmp_path / "gone")
    new = tmp_path / "new.txt"
    new.write_text("wave fish ship\nharbour salt tide\n")
    output = tmp_path / "new.csv"
    assert command("predict", str(new), "--run", "folder", "--csv", str(output)) == 0
    assert [(row["file"], row["label"]) for row in read_table(output)] == [(str(new), "sea")]
    capsys.readouterr()
    assert command("test", "--run", "folder") == 1
    assert f"{texts} is not a folder" in capsys.readouterr().err


def test_a_run_is_fine_tuned_and_then_needs_no_hub(tmp_path) -> None:
    pytest.importorskip("transformers")
    tiny = write_encoder(tmp_path / "model")
    options = ("--data.tokenizer", str(tiny), "--model.network", "lightning_runs.texts.pretrained.PretrainedEncoder")
    options += ("--model.layer_rate_decay", "0.8", "--trainer.callbacks+=lightning_runs.training.finetuning.Unfreezing")
    assert command("fit", "--run", "tuned", *FEW, *options, "--trainer.callbacks.epochs", "[0,1]") == 0
    tiny.rename(tmp_path / "gone")
    new = tmp_path / "new.txt"
    new.write_text("a small fish\n")
    output = tmp_path / "new.csv"
    assert command("predict", str(new), "--run", "tuned", "--csv", str(output)) == 0
    assert [row["file"] for row in read_table(output)] == [f"{new}:1"]
    assert command("fit", "--resume", "tuned", "--trainer.max_epochs", "4") == 0


def test_reading_needs_no_torch() -> None:
    code = f"import sys; sys.path[:] = {sys.path!r}; sys.modules['torch'] = None; import lightning_runs.texts.reading"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
