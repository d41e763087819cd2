import csv
from pathlib import Path

import lightning_runs
import pytest
import torch
from starts import DIGITS, add_options, predict_without_torch, start_module
from written_images import write_image_folder

SHORT = ("--trainer.max_epochs=2", "--trainer.limit_train_batches=4", "--trainer.limit_val_batches=1")


@pytest.fixture
def command(own_folder: Path):
    """Run a command of the images start, whose configuration is in the working folder."""
    add_options("images", "digits", own_folder / "configs" / "default.yaml")
    classes = start_module("images", "module").ImageClassifier, start_module("images", "data").DataModule

    def command(name: str, *options: str) -> int:
        return lightning_runs.run(*classes, [name, *options], package="start_images")

    return command


def rows(file: str) -> list[dict[str, str]]:
    with open(file, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_a_run_and_its_export_predict_images_alike(command, tmp_path, capsys) -> None:
    pytest.importorskip("onnxscript")
    write_image_folder(tmp_path)
    data = ("--data.dataset=image_folder", f"--data.root={tmp_path}", "--data.image_size=16", "--data.batch_size=4")
    options = ("--data.num_workers=0", "--data.balance=weights", "--data.augment=strong", "--data.mix=mixup")
    assert command("fit", "--run=own", *data, *options, "--model.label_smoothing=0.1", *SHORT) == 0
    assert "could not be drawn" not in Path("runs/own/report.html").read_text(encoding="utf-8")
    assert command("export", "own") == 0
    new = tmp_path / "test" / "dog"
    (new / "bad.png").write_bytes(b"no image")
    with pytest.warns(UserWarning, match=r"bad\.png can't be read as an image"):
        assert command("predict", str(new), "--run=own", "--csv=by_run.csv") == 1
    assert "bad.png has no prediction" in capsys.readouterr().err
    done = predict_without_torch(str(new), "--onnx=runs/own/export/model.onnx", "--csv=by_export.csv")
    assert done.returncode == 1, done.stderr
    assert "bad.png: it can't be read as a picture" in done.stderr
    by_run = rows("by_run.csv")
    by_export = rows("by_export.csv")
    assert [row["file"] for row in by_run] == [row["file"] for row in by_export]
    assert len(by_run) == 10
    for one, other in zip(by_run, by_export, strict=True):
        assert one["label"] == other["label"]
        assert float(one["p(dog)"]) == pytest.approx(float(other["p(dog)"]), abs=1e-4)


def test_weights_of_classes_reach_the_module_and_are_recorded(command) -> None:
    digits = ("--data.dataset=digits", "--data.balance=weights")
    assert command("fit", "--run=weighted", *digits, *SHORT) == 0
    checkpoint = torch.load("runs/weighted/checkpoints/last.ckpt", weights_only=True)
    weights = checkpoint["hyper_parameters"]["loss_weights"]
    data = start_module("images", "data").DataModule(balance="weights")
    assert weights == data.loss_weights
    assert command("test", "--run=weighted") == 0


def test_pretrained_weights_are_fine_tuned(command, tmp_path) -> None:
    small = "torchvision/shufflenet_v2_x0_5"
    network = "--model.network.init_args"
    pretrained = "--model.network=lightning_runs.images.pretrained.Pretrained"
    options = (pretrained, f"{network}.name={small}", f"{network}.image_size=32", "--model.layer_rate_decay=0.7")
    digits = ("--data.dataset=digits", "--trainer.limit_test_batches=1")
    assert command("fit", "--run=first", *options, f"{network}.weights=null", *digits, *SHORT) == 0
    file = Path("runs/first/checkpoints/last.ckpt").absolute()
    assert command("fit", "--run=second", *options, f"{network}.weights={file}", *digits, *SHORT) == 0
    rates = torch.load("runs/second/checkpoints/last.ckpt", weights_only=True)["optimizer_states"][0]["param_groups"]
    assert len({group["initial_lr"] for group in rates}) > 3


def test_the_bundled_digits_of_all_starts_are_the_same() -> None:
    files = list(DIGITS.parents[3].glob("*/src/*/digits.npz"))
    assert len(files) == 3
    assert len({file.read_bytes() for file in files}) == 1
