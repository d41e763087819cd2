"""``fit --weights``: a new run starts from the weights of another run, or of a file."""

import shutil
from pathlib import Path

import pytest
import torch
from lightning_runs.training.pretrained import FineTuningHooks, PretrainedNetwork
from torch import nn
from toy import Toy, assert_fails
from written import assert_same, record, weights

STILL = ("--run=a", "--model.lr=0", "--trainer.max_epochs=1")


class Wider(FineTuningHooks, Toy):
    """Has a layer more than the toy, made late, and a pretrained network that can't be read."""

    def configure_model(self) -> None:
        self.other = nn.Linear(4, 2)
        self.network = PretrainedNetwork("file.pth")


@pytest.fixture
def best(have) -> Path:
    have("finished", "b")
    return Path("runs/b/checkpoints", record("b")["best_checkpoint"])


@pytest.mark.parametrize("source", ["b", "runs/b", "best.ckpt", "state.pt"])
def test_a_run_starts_from_the_weights_of_a_run_or_file(source, best, run) -> None:
    state = torch.load(best, weights_only=True)["state_dict"]
    shutil.copy(best, "best.ckpt")
    torch.save(state, "state.pt")
    assert run("fit", "--weights", source, *STILL) == 0
    torch.testing.assert_close(weights("a"), state, rtol=0, atol=0)
    assert Path(record("a")["weights"]).is_file()


def test_a_resumed_run_reads_no_weights_again(best, run, interrupt) -> None:
    assert run("fit", "--run=whole", "--weights=b") == 0
    interrupt("a", "--weights=b")
    shutil.rmtree("runs/b")
    assert run("fit", "--resume", "a") == 0
    assert_same("a", "whole")


def test_weights_that_do_not_fit_are_listed_or_left_out(best, run, capsys) -> None:
    assert_fails("other.weight", "fit", "--weights=b", *STILL, module=Wider)
    assert not Path("runs/a").exists()
    assert run("fit", "--weights=b", "--weights_strict=false", *STILL, module=Wider) == 0
    assert capsys.readouterr().out.count("other.bias") == 1
    assert record("a")["weights_left_out"] == ["other.weight", "other.bias"]


@pytest.mark.parametrize(("content", "text"), [({}, "Toy"), (nn.Linear(2, 2), "Linear")])
def test_a_file_that_can_not_be_used_is_named(content, text, run, capsys) -> None:
    torch.save(content, "file.pt")
    assert run("fit", "--weights=file.pt") == run("fit", "--weights=nowhere") == run("test", "--weights=file.pt") == 1
    error = capsys.readouterr().err
    assert [word for word in (text, "file.pt", "nowhere", "--resume and --weights") if word not in error] == []
