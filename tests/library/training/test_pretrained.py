from types import SimpleNamespace

import pytest
from lightning_runs.errors import UserError
from lightning_runs.training.pretrained import FineTuningHooks, PretrainedNetwork
from pytorch_lightning.strategies import FSDPStrategy
from torch import nn


class Counted(PretrainedNetwork):
    """Counts how often its weights are read."""

    def __init__(self, weights: str | None = "file.pth") -> None:
        super().__init__(weights)
        self.backbone = nn.Linear(2, 2)
        self.count = 0

    def load_weights(self) -> None:
        self.count += 1

    def layer_groups(self) -> list[list[nn.Module]]:
        return [[self.backbone]]


def hooks(network: nn.Module, ckpt_path: str | None = None, strategy: object = None) -> FineTuningHooks:
    module = FineTuningHooks()
    module.network = network
    module.trainer = SimpleNamespace(ckpt_path=ckpt_path, strategy=strategy)
    return module


def test_weights_are_read_when_a_new_training_starts() -> None:
    network = Counted()
    hooks(network, ckpt_path="last.ckpt").on_fit_start()
    assert network.count == 0
    hooks(network).on_fit_start()
    assert network.count == 1
    hooks(nn.Linear(2, 2)).on_fit_start()


def test_weights_are_not_read_into_layers_that_are_cut_up() -> None:
    with pytest.raises(UserError, match="strategy fsdp can't read pretrained weights"):
        hooks(Counted(), strategy=FSDPStrategy()).on_fit_start()
    hooks(Counted(weights=None), strategy=FSDPStrategy()).on_fit_start()


def test_groups_of_layers_are_the_network_s_or_its_children() -> None:
    network = Counted()
    assert hooks(network).layer_groups() == [[network.backbone]]
    assert hooks(network).backbone is network.backbone
    plain = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    assert hooks(plain).layer_groups() == [[plain[0]], [plain[1]]]
