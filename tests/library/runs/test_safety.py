"""Nothing that a file of a run holds is executed, and a hostile file is named in a sentence."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch


class Code:
    """What writes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("ran.txt", "w")


CHECKPOINTS = {
    "a pickle": pickle.dumps({"state_dict": Code()}, protocol=2),
    "code in a zip": {"state_dict": Code()},
    "nothing": b"",
    "a list": [1, 2],
    "no weights": {"state_dict": None, "hyper_parameters": {}, "pytorch-lightning_version": "2.6.6"},
}


@pytest.mark.parametrize("command", [["test", "--run=a"], ["fit", "--resume=a"]], ids=" ".join)
@pytest.mark.parametrize("content", CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_a_hostile_checkpoint_is_refused(content, command, have, run, capsys) -> None:
    have("interrupted" if command[0] == "fit" else "finished", "a")
    for file in Path("runs/a/checkpoints").glob("*.ckpt"):
        file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    assert run(*command) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert ".ckpt" in line
    assert not Path("ran.txt").exists()


def test_what_a_checkpoint_names_is_not_imported(have, run, own_folder, monkeypatch) -> None:
    (own_folder / "evil.py").write_text("open('ran.txt', 'w').close()\nclass Net: ...\n")
    monkeypatch.syspath_prepend(own_folder)
    have("finished", "a")
    for file in Path("runs/a/checkpoints").glob("*.ckpt"):
        checkpoint = torch.load(file, weights_only=True)
        checkpoint["hyper_parameters"] = {"network": {"class_path": "evil.Net"}, "_instantiator": "evil.Net"}
        torch.save(checkpoint, file)
    assert run("predict", "--run", "a") == 0
    assert not Path("ran.txt").exists()
