import json
from pathlib import Path

import pytest
import torch
import yaml
from written import assert_same, record

DEFAULT = Path("configs/default.yaml")
STOPS = ("--early_stopping.monitor=val/loss", "--early_stopping.patience=1", "--early_stopping.min_delta=100")


def with_blocks(**blocks: object) -> None:
    """Put blocks into the configuration, in the place of its list of callbacks."""
    options = yaml.safe_load(DEFAULT.read_text())
    del options["trainer"]["callbacks"]
    DEFAULT.write_text(yaml.safe_dump(options | blocks))


def checkpoints(name: str) -> list[str]:
    return sorted(path.name for path in Path(f"runs/{name}/checkpoints").glob("epoch=*"))


def test_checkpoint_and_early_stopping_have_options(run) -> None:
    with_blocks(checkpoint={"monitor": "val/loss"})
    assert run("fit", "--run", "a", *STOPS, "--checkpoint.save_top_k=2", "--trainer.max_epochs=5") == 0
    assert record("a")["epochs"] == 2
    assert record("a")["metric"] == "val/loss"
    assert checkpoints("a") == ["epoch=000-step=6.ckpt", "epoch=001-step=12.ckpt"]


@pytest.mark.parametrize("text", ["early_stopping: null", "early_stopping:\n  monitor: null", "{}"])
def test_null_turns_early_stopping_off(text, run) -> None:
    with_blocks(checkpoint={"monitor": "val/loss"}, early_stopping={"monitor": "val/loss", "min_delta": 100.0})
    Path("on.yaml").write_text("early_stopping:\n  patience: 1\n")
    Path("off.yaml").write_text(text)
    assert run("fit", "--run", "on", "-c", "on.yaml") == 0
    option = ["--early_stopping", "null"] if text == "{}" else []
    assert run("fit", "--run", "off", "-c", "on.yaml", "-c", "off.yaml", *option) == 0
    assert (record("on")["epochs"], record("off")["epochs"]) == (2, 3)


def test_a_list_of_callbacks_in_a_second_file_leaves_the_checkpoints_alone(run) -> None:
    with_blocks(checkpoint={"monitor": "val/loss", "save_top_k": -1})
    Path("list.yaml").write_text("trainer:\n  callbacks: []\n")
    assert run("fit", "--run", "a", "-c", "list.yaml") == 0
    assert len(checkpoints("a")) == 3
    assert record("a")["metric"] == "val/loss"


def test_a_checkpoint_of_the_list_takes_the_place_of_one_without_a_monitor(run) -> None:
    assert run("fit", "--run", "a") == 0  # the list of the configuration has one on val/loss
    assert record("a")["metric"] == "val/loss"
    assert len(list(Path("runs/a/checkpoints").glob("*.ckpt"))) == 3  # the best one, the last one, and the one before


@pytest.mark.parametrize(("option", "name"), [("checkpoint", "ModelCheckpoint"), ("early_stopping", "EarlyStopping")])
def test_the_same_callback_twice_is_refused(option, name, run, capsys) -> None:
    added = f"--trainer.callbacks+=pytorch_lightning.callbacks.{name}"
    assert run("fit", added, "--trainer.callbacks.monitor=val/loss", f"--{option}.monitor=val/loss") == 1
    assert capsys.readouterr().err == (
        f"error: {name} on val/loss is given twice: by --{option}.monitor, and in the list trainer.callbacks."
        f" Remove the one of the list, or turn the other one off: --{option}.monitor null\n"
    )


def test_no_checkpoint_is_kept_but_the_last_where_checkpoints_are_off(run) -> None:
    with_blocks(checkpoint={"monitor": "val/loss"})
    assert run("fit", "--run", "a", "--trainer.enable_checkpointing=false") == 0
    assert checkpoints("a") == []


@pytest.mark.parametrize("option", ["dirpath=x", "save_last=true", "enable_version_counter=true"])
def test_what_would_break_a_resume_is_no_option(option, run, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("fit", f"--checkpoint.{option}")
    assert f"there is no option --checkpoint.{option.split('=')[0]}" in capsys.readouterr().err


def before_the_options(name: str) -> None:
    """Make a run look as before these callbacks had options, and the configuration as it is now."""
    config, last = Path(f"runs/{name}/config.yaml"), Path(f"runs/{name}/checkpoints/last.ckpt")
    options = yaml.safe_load(config.read_text())
    config.write_text(
        yaml.safe_dump({key: options[key] for key in options if key not in ("checkpoint", "early_stopping")})
    )
    state = torch.load(last, weights_only=True)
    saved = json.loads(state["callbacks"]["ExactResume"]["options"])
    saved = {key: saved[key] for key in saved if not key.startswith(("checkpoint.", "early_stopping."))}
    state["callbacks"]["ExactResume"]["options"] = json.dumps(saved)
    torch.save(state, last)
    with_blocks(checkpoint={"monitor": "val/loss"}, early_stopping={"monitor": "val/loss", "patience": 1})


def test_a_run_from_before_the_options_is_tested_and_resumed(run, have) -> None:
    have("finished", "whole")
    have("interrupted", "killed")
    before_the_options("killed")
    assert run("test", "--run", "killed") == 0
    assert run("fit", "--resume", "killed") == 0
    assert_same("killed", "whole")


def test_early_stopping_is_not_added_to_a_run_that_is_resumed(run, have, capsys) -> None:
    have("interrupted", "a")
    before_the_options("a")
    assert run("fit", "--resume", "a", "--early_stopping.monitor=val/loss") == 1
    assert "early_stopping.monitor is val/loss and was None" in capsys.readouterr().err
