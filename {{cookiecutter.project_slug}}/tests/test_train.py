import csv
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from {{ cookiecutter.__package }} import hardware
from {{ cookiecutter.__package }}.data import DataModule
from {{ cookiecutter.__package }}.errors import UserError
from {{ cookiecutter.__package }}.module import ImageClassifier
from {{ cookiecutter.__package }}.train import main

# those of searches are no options of fit
CONFIGS = sorted(file for file in (Path(__file__).parents[1] / "configs").glob("*.yaml") if "sweep" not in file.stem)
SHORT = ("--trainer.max_epochs", "4", "--trainer.limit_train_batches", "4", "--trainer.log_every_n_steps", "1")


def read_rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def read_json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def test_training_learns(trained) -> None:
    assert read_json(trained / "test.json")["test/accuracy"] > 0.9
    losses = [float(row["train/loss"]) for row in read_rows(trained / "metrics.csv") if row["train/loss"]]
    assert losses[-1] < 0.5 * losses[0]


def test_logged_names_are_the_documented_ones(trained) -> None:
    logged = {name for name in read_rows(trained / "metrics.csv")[0] if "/" in name}
    assert logged == {f"{split}/{name}" for split in ("train", "val", "test") for name in ("loss", "accuracy")}


def test_checkpoint_loads_by_itself_and_is_as_accurate_as_it_was(trained) -> None:
    record = read_json(trained / "run.json")
    assert record["status"] == "finished"
    model = ImageClassifier.load_from_checkpoint(trained / "checkpoints" / record["best_checkpoint"]).eval()
    data = DataModule("digits")
    data.setup("test")
    images, labels = data.splits["test"][0][torch.arange(360)]
    with torch.inference_mode():
        correct = model(data.normalize(images)).argmax(dim=1) == labels
    accuracy = correct.float().mean().item()
    assert accuracy == pytest.approx(read_json(trained / "test.json")["test/accuracy"])


def test_checkpoints_hold_plain_data_alone(trained) -> None:
    files = list((trained / "checkpoints").glob("*.ckpt"))
    assert "last.ckpt" in [file.name for file in files]
    for file in files:
        weights = torch.load(file, weights_only=True)["state_dict"]  # this executes nothing
        assert all(key.startswith("network.") for key in weights if "_metrics" not in key)


def test_config_of_a_run_repeats_it(trained, tmp_path) -> None:
    root = ("--trainer.default_root_dir", str(tmp_path))
    assert main(["fit", "-c", str(trained / "config.yaml"), *root, "--run", "again"]) == 0
    assert read_rows(tmp_path / "again" / "metrics.csv") == read_rows(trained / "metrics.csv")


def test_newest_run_is_the_one_that_is_evaluated(trained, run, tmp_path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    (copy / "test.json").unlink()
    assert [run("validate"), run("test"), run("predict")] == [0, 0, 0]
    accuracy = read_json(copy / "test.json")["test/accuracy"]
    assert accuracy == read_json(trained / "test.json")["test/accuracy"]
    assert set(read_json(copy / "validate.json")) == {"checkpoint", "val/loss", "val/accuracy"}

    predictions = read_rows(copy / "predictions.csv")
    assert list(predictions[0]) == ["index", "label", "probability"]
    assert [int(row["index"]) for row in predictions] == list(range(360))
    data = DataModule("digits")
    data.setup("test")
    labels = data.splits["test"][0][torch.arange(360)][1].tolist()
    correct = [row["label"] == data.class_names[label] for row, label in zip(predictions, labels, strict=True)]
    assert sum(correct) / 360 == pytest.approx(accuracy)


def test_each_run_has_a_folder_of_its_own(run, tmp_path, capsys) -> None:
    assert run("fit", *SHORT, "--run", "a") == 0
    assert run("fit", *SHORT, "--run", "b") == 0
    assert run("fit", *SHORT, "--run", "a") == 1
    assert f"{tmp_path / 'a'} exists already" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_interrupted_run_goes_on_as_if_nothing_had_happened(run, tmp_path, monkeypatch) -> None:
    assert run("fit", *SHORT, "--run", "whole") == 0

    def press_ctrl_c(self: ImageClassifier) -> None:
        if self.current_epoch == 2:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(ImageClassifier, "on_train_epoch_start", press_ctrl_c)
        assert run("fit", *SHORT, "--run", "stopped") == 130
    assert read_json(tmp_path / "stopped" / "run.json")["status"] == "interrupted"
    assert run("fit", *SHORT, "--resume") == 0
    assert read_rows(tmp_path / "stopped" / "metrics.csv") == read_rows(tmp_path / "whole" / "metrics.csv")


def test_resumed_run_keeps_its_options_but_may_train_longer(run, tmp_path, capsys) -> None:
    assert run("fit", *SHORT, "--run", "a") == 0
    assert run("fit", *SHORT, "--resume", "a", "--data.batch_size", "32") == 1
    assert "data.batch_size is 32 and was 64" in capsys.readouterr().err
    assert run("fit", *SHORT, "--resume", "a", "--trainer.max_epochs", "5") == 0
    assert max(int(row["epoch"] or 0) for row in read_rows(tmp_path / "a" / "metrics.csv")) == 5


def test_evaluation_without_a_run_is_refused(run, tmp_path, capsys) -> None:
    for command in ("validate", "test", "predict"):
        assert run(command) == 1
        assert f"error: no finished run in {tmp_path}. Train one with: fit" in capsys.readouterr().err
    assert run("test", "--run", "lost") == 1
    assert "there is no run lost" in capsys.readouterr().err
    assert run("fit", "--resume") == 1
    assert "no unfinished run" in capsys.readouterr().err
    assert run("test", "--ckpt_path", "lost.ckpt") == 1
    assert "the checkpoint lost.ckpt does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("config", CONFIGS, ids=lambda file: file.stem)
def test_shipped_configuration_trains(config, run, tmp_path, capsys) -> None:
    with pytest.raises(SystemExit, match="0"):  # as it stands, whatever hardware it asks for
        main(["fit", "-c", str(config), "--print_config"])
    assert "default_root_dir: runs" in capsys.readouterr().out
    assert run("fit", "--trainer.fast_dev_run", "true", config=config) == 0
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []  # such a run leaves nothing


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--trainer.max_epoch", "3"], "there is no option --trainer.max_epoch. Did you mean --trainer.max_epochs"),
        (["--data.batchsize=3"], "there is no option --data.batchsize. Did you mean --data.batch_size"),
        (["--model.num_classes", "7"], "--model.num_classes can't be set: it is the number of classes in the data."),
        (["--data.batch_size", "many"], "--data.batch_size is 'many'"),
        (["--data.dataset", "imagenet"], "--data.dataset is 'imagenet'; it must be one of 'digits', 'mnist'"),
    ],
)
def test_mistake_on_the_command_line_is_told_in_a_few_lines(options, text, run, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("fit", *options)
    error = capsys.readouterr().err
    assert text in error
    assert len(error.splitlines()) <= 5


def test_value_out_of_bounds_is_told_without_a_traceback(run, capsys, tmp_path) -> None:
    assert run("fit", "--data.batch_size", "0") == 1
    assert capsys.readouterr().err.startswith("error: data.batch_size is 0; it must be at least 1")
    assert list(tmp_path.iterdir()) == []


def check(monkeypatch: pytest.MonkeyPatch, device: str, **options: Any) -> str:
    """Check trainer options on a machine that has this device alone."""
    monkeypatch.setattr(hardware.CUDAAccelerator, "is_available", lambda: device == "gpu")
    monkeypatch.setattr(hardware.MPSAccelerator, "is_available", lambda: device == "mps")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    usual = {"accelerator": "auto", "strategy": "auto", "precision": "32-true", "devices": "auto", "num_nodes": 1}
    usual |= {"gradient_clip_val": None, "gradient_clip_algorithm": None, "sync_batchnorm": False}
    return hardware.check(usual | options, fused_optimizer=True)


@pytest.mark.parametrize("device", ["cpu", "gpu", "mps"])
def test_the_device_that_is_there_is_chosen(device, monkeypatch) -> None:
    assert check(monkeypatch, device) == device


@pytest.mark.parametrize(
    ("device", "options", "text"),
    [
        ("cpu", {"precision": "16-mixed"}, "trainer.precision is 16-mixed, and the device is cpu"),
        ("cpu", {"strategy": "fsdp"}, "trainer.strategy is fsdp, and the device is cpu"),
        ("mps", {"strategy": "ddp"}, "trainer.strategy is ddp, and the device is mps"),
        ("mps", {"precision": "64-true"}, "trainer.precision is 64-true, and the device is mps"),
        ("mps", {"devices": 2}, "trainer.devices is 2, but an Apple GPU is a single device"),
        ("gpu", {"strategy": "fsdp", "precision": "64-true"}, "trainer.precision is 64-true, and the device is gpu"),
        ("gpu", {"devices": 3}, "trainer.devices is 3, but there are 2 GPUs"),
        ("cpu", {"accelerator": "gpu"}, "trainer.accelerator is gpu, but no GPU was found"),
        ("cpu", {"devices": -1}, "trainer.devices is -1; on a CPU it is the number of processes"),
        ("gpu", {"gradient_clip_val": 0.5, "precision": "16-mixed"}, "trainer.gradient_clip_val is 0.5: with"),
        ("gpu", {"gradient_clip_val": 0.5, "strategy": "fsdp"}, "trainer.gradient_clip_val is 0.5: FSDP can't clip"),
        ("cpu", {"sync_batchnorm": True}, "trainer.sync_batchnorm is true, and the device is cpu"),
        ("cpu", {"num_nodes": 4}, "trainer.num_nodes is 4, but nothing started this process on several machines"),
    ],
)
def test_what_the_device_cannot_do_is_refused(device, options, text, monkeypatch) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "GROUP_RANK", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError) as error:
        check(monkeypatch, device, **options)
    assert text in str(error.value)
