"""Fine-tuning: frozen layers do not change, a resume is exact, and all processes have the same weights."""

from __future__ import annotations

import re

import pytest
import torch
from project import PACKAGE, SMALL
from stress import differences
from trainings import SAVED, bake, callback, killed, killing, prepared, told, unlike_when_resumed
from warm import run, shared

UNFREEZING = [f"--trainer.callbacks+={PACKAGE}.runtime.finetune.Unfreezing", "--trainer.callbacks.epochs=[0,1]"]
BY_LAYER = [*UNFREEZING, "--model.layer_rate_decay=0.5"]
PRETRAINED = [
    f"--model.network={PACKAGE}.pretrained.Pretrained",
    "--model.network.init_args.name=torchvision/shufflenet_v2_x0_5",
    "--model.network.init_args.image_size=32",
]
TWO = ["--trainer.devices=2", "--trainer.strategy=ddp"]
# Each process writes a sum of its weights when it has trained.
SUMS = f"""
from {PACKAGE}.module import ImageClassifier
def on_train_end(self):
    with open(f"rank{{self.global_rank}}.txt", "w") as file:
        file.write(repr([of.double().sum().item() for of in self.network.parameters()]))
ImageClassifier.on_train_end = on_train_end
"""
WRITE_WEIGHTS = f"""
import torch
from {PACKAGE}.pretrained import Pretrained
made = Pretrained((1, 8, 8), 10, "torchvision/shufflenet_v2_x0_5", None, 32)
torch.save(made.backbone.state_dict(), "weights.pth")
"""


@pytest.mark.parametrize("step", [1, 3, 4], ids=["before", "at", "after"])
def test_a_run_that_is_killed_around_the_unfreezing_is_resumed_exactly(tmp_path, step):
    """``fit --run=killed`` with Unfreezing at epoch 1, SIGKILL, ``fit --resume=killed``; an epoch has three steps."""
    place = ("on_train_batch_start", f"self.global_step == {step}")
    assert unlike_when_resumed(bake(tmp_path), *SAVED, *BY_LAYER, place=place) == []


def test_frozen_layers_change_in_no_way_and_train_when_they_are_unfrozen(tmp_path):
    """``fit`` of one, two and three epochs with Unfreezing at epoch 2: weights and batch norm's statistics."""
    project = bake(tmp_path)
    late = [UNFREEZING[0], "--trainer.callbacks.epochs=[0,2]", "--model.scheduler=null"]
    lengths = [["fit", f"--run={n}", *SMALL, *late, f"--trainer.max_epochs={n}"] for n in (1, 2, 3)]
    prepared(project, *lengths)

    one, two, three = (
        torch.load(project / "runs" / str(n) / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for n in (1, 2, 3)
    )

    changed = {key for key in one if not one[key].equal(two[key])}
    assert changed == {"network.classifier.2.weight", "network.classifier.2.bias"}
    assert two["network.features.0.1.num_batches_tracked"] == 0
    assert three["network.features.0.1.num_batches_tracked"] == 3
    assert all(not two[key].equal(three[key]) for key in two if key.startswith("network.features"))


def test_two_processes_have_equal_weights_after_the_unfreezing_and_are_resumed_exactly(tmp_path):
    """Two processes with Unfreezing at epoch 1, SIGKILL of both in that epoch, ``fit --resume=killed``."""
    project = bake(tmp_path)
    both = killing("on_train_batch_start", "self.global_step == 4 and self.global_rank == 0", group=True)

    stopped = shared().start(project, [["fit", "--run=killed", *SAVED, *BY_LAYER, *TWO]], before=both, processes=2)
    assert stopped.wait() == -9, stopped.output()
    for arguments in (["fit", "--resume=killed"], ["fit", "--run=whole", *SAVED, *BY_LAYER, *TWO]):
        command = shared().start(project, [arguments], before=SUMS, processes=2)
        assert command.wait() == 0, command.output()
        assert (project / "rank0.txt").read_text() == (project / "rank1.txt").read_text()

    assert differences(project / "runs" / "whole", project / "runs" / "killed") == []


def test_a_pretrained_network_needs_its_weights_when_a_run_begins_and_never_again(tmp_path):
    """``fit`` with BackboneFinetuning, SIGKILL in the second epoch; the file of weights is then gone."""
    project = bake(tmp_path)
    options = [*PRETRAINED, "--model.network.init_args.weights=weights.pth", "--model.scheduler=null"]
    options += [*SAVED, *callback("BackboneFinetuning", unfreeze_backbone_at_epoch=1, backbone_initial_lr=0.001)]
    prepared(project, ["runs"], before=WRITE_WEIGHTS)
    prepared(project, ["fit", "--run=whole", *options])
    killed(project, ["fit", "--run=killed", *options], ("on_train_batch_start", "self.global_step == 4"))
    (project / "weights.pth").unlink()

    commands = [["fit", "--resume=killed"], *([name, "--run=killed"] for name in ("test", "predict"))]
    for (code, output), command in zip(
        run(project, *commands, ["report", "killed"], ["export", "killed"]), range(5), strict=True
    ):
        assert code == 0, (command, output)
    assert differences(project / "runs" / "whole", project / "runs" / "killed") == []

    [(code, output)] = run(project, ["fit", "--run=new", *options])
    assert code == 1
    assert told(output)[0] == "error: the weights weights.pth can't be read: No such file or directory."
    assert not (project / "runs" / "new").exists()


MISTAKES = {
    "late": ("[1,3]", "Unfreezing has epochs [1, 3]; they must rise from 0, such as [0, 3]"),
    "many": ("[0,1,2]", "Unfreezing has 3 epochs, and ImageClassifier has 2 groups of layers."),
}


@pytest.mark.parametrize(("epochs", "text"), MISTAKES.values(), ids=MISTAKES)
def test_epochs_that_can_not_be_are_refused_in_a_sentence(tmp_path, epochs, text):
    """``fit`` with Unfreezing and epochs that do not begin with 0, or are more than there are groups."""
    options = [UNFREEZING[0], f"--trainer.callbacks.epochs={epochs}"]

    [(code, output)] = run(bake(tmp_path), ["fit", *SMALL, *options])

    assert code != 0
    assert re.search(re.escape(text), " ".join(output.split())), output
    assert "Traceback" not in output
