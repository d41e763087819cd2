from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
from lightning_runs.images.pretrained import Pretrained
from lightning_runs.training.pretrained import FineTuningHooks
from torch import nn
from toy import refused

SMALL = "torchvision/shufflenet_v2_x0_5"
OF_TIMM = pytest.param("resnet10t", ".safetensors", 1, marks=pytest.mark.slow)


def pretrained(channels: int = 1, name: str = SMALL, weights: str | None = None) -> Pretrained:
    return Pretrained((channels, 8, 8), 7, name, weights, image_size=32).eval()


def test_weights_bring_their_size_and_normalisation() -> None:
    network = Pretrained((3, 8, 8), 7, SMALL, None)
    assert network.image_size == 224
    network.set_pixels((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    white = (1 - torch.tensor([0.1, 0.2, 0.3])) / torch.tensor([0.4, 0.5, 0.6])
    seen = white[:, None, None] * network.scale + network.offset
    expected = (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])  # of ImageNet
    torch.testing.assert_close(seen.flatten(), expected)


@pytest.mark.parametrize(("name", "suffix", "channels"), [(SMALL, ".pth", 1), (SMALL, ".pth", 3), OF_TIMM])
def test_a_file_of_weights_is_read_by_a_new_training_alone(tmp_path, capsys, name, suffix, channels) -> None:
    file = tmp_path / f"weights{suffix}"
    source = pretrained(3, name).backbone.state_dict()
    save = torch.save if suffix == ".pth" else import_module("safetensors.torch").save_file
    save({"x": torch.ones(1), **{f"network.backbone.{key}": value for key, value in source.items()}}, file)
    module = FineTuningHooks()
    module.network = pretrained(channels, name, str(file))
    for checkpoint in ("last.ckpt", None):
        assert "are not used" not in capsys.readouterr().out
        module.trainer = SimpleNamespace(ckpt_path=checkpoint)
        module.on_fit_start()
    assert f"Of the weights {file}, 1 are not used: x" in capsys.readouterr().out
    state = module.network.backbone.state_dict()
    first, *others = state
    assert all(state[key].equal(source[key]) for key in others)
    torch.testing.assert_close(state[first].sum(dim=1), source[first].sum(dim=1))  # over the channels
    assert module.network(torch.rand(2, channels, 8, 8)).shape == (2, 7)
    parts = nn.ModuleList(part for group in module.network.layer_groups() for part in group)
    assert len([*parts.parameters()]) == len([*module.network.parameters()])


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        ({"fc.weight": torch.ones(2)}, f"{SMALL}: 280 of 336"),
        (None, "No such file"),
    ],
)
def test_a_file_that_is_not_fit_is_refused_in_a_sentence(tmp_path, content, text) -> None:
    file = tmp_path / "weights.pth"
    if content is not None:
        torch.save(content, file)
    with refused(text):
        pretrained(weights=str(file)).load_weights()


def test_networks_that_can_not_be_used_are_refused(monkeypatch) -> None:
    for name, text in (("resnet0", "no model 'resnet0'"), ("squeezenet1_0", "squeezenet1_0 has another kind")):
        with refused(text):
            pretrained(name=f"torchvision/{name}")
    monkeypatch.setattr("lightning_runs.errors.find_spec", lambda name: None)
    with refused("timm is not installed. Install with: pip install -e '.[pretrained]'"):
        pretrained(name="resnet18")


@pytest.mark.slow
def test_a_name_that_timm_does_not_know_has_a_suggestion() -> None:
    with refused("timm has no model 'resnet10'", "resnet10t"):
        pretrained(name="resnet10")


@pytest.mark.parametrize("name", [SMALL, pytest.param("resnet10t", marks=pytest.mark.slow)])
def test_offline_the_weights_are_refused_with_a_way_out(name, monkeypatch, tmp_path) -> None:
    def getaddrinfo(*args, **kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr("socket.getaddrinfo", getaddrinfo)
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path))
    with refused("can't be downloaded (") as error:
        pretrained(name=name, weights="default").load_weights()
    assert "--model.network.init_args.weights FILE" in str(error.value)
