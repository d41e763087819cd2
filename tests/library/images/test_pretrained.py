import importlib
import importlib.util
import urllib.request

import pytest
import torch
from lightning_runs import errors
from lightning_runs.images.pretrained import Pretrained
from starts import add_options, refused, run_start
from written import last_checkpoint

SMALL = "torchvision/shufflenet_v2_x0_5"


def pretrained(channels: int = 1, name: str = SMALL, weights: str | None = None) -> Pretrained:
    return Pretrained((channels, 8, 8), 7, name, weights, image_size=32).eval()


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_a_network_takes_images_of_any_size_and_channels(channels) -> None:
    assert pretrained(channels)(torch.rand(2, channels, 8, 8)).shape == (2, 7)


def test_weights_bring_their_size_and_normalisation() -> None:
    network = Pretrained((3, 8, 8), 7, SMALL, None)
    assert network.image_size == 224
    network.set_pixels((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    white = (1 - torch.tensor([0.1, 0.2, 0.3])) / torch.tensor([0.4, 0.5, 0.6])
    seen = white[:, None, None] * network.scale + network.offset
    expected = (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])  # of ImageNet
    torch.testing.assert_close(seen.flatten(), expected)


def test_a_file_of_weights_is_read_into_all_but_the_output_layer(tmp_path, capsys) -> None:
    file, source = tmp_path / "weights.pth", pretrained(3)
    state = {"network.backbone." + key: of for key, of in source.backbone.state_dict().items()}
    torch.save(state | {"x": torch.ones(1)}, file)
    network = pretrained(3, weights=str(file))
    network.load_weights()
    assert all(of.equal(source.backbone.state_dict()[key]) for key, of in network.backbone.state_dict().items())
    assert f"Of the weights {file}, 1 are not used: x" in capsys.readouterr().out
    grey = pretrained(1, weights=str(file))
    grey.load_weights()
    kernels = [next(of for of in net.backbone.parameters()) for net in (source, grey)]
    torch.testing.assert_close(kernels[0].sum(dim=1), kernels[1].sum(dim=1))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (torch.nn.Linear(2, 2), "can't be read: it holds torch.nn.modules.linear.Linear, and code in a file is never"),
        ([1, 2], "can't be read: it holds no weights by their names."),
        ({"fc.weight": torch.ones(2)}, f"do not fit {SMALL}: 280 of 336 are missing or have another shape"),
        (None, "can't be read: No such file or directory."),
    ],
)
def test_a_file_that_is_not_fit_is_refused_in_a_sentence(tmp_path, content, text) -> None:
    file = tmp_path / "weights.pth"
    if content is not None:
        torch.save(content, file)
    with refused(text):
        pretrained(weights=str(file)).load_weights()


def test_unknown_names_and_other_kinds_are_refused() -> None:
    with refused("torchvision has no model 'resnet0' that classifies images"):
        pretrained(name="torchvision/resnet0")
    with refused("torchvision/squeezenet1_0 has another kind of output layer"):
        pretrained(name="torchvision/squeezenet1_0")


def test_without_timm_the_command_that_installs_it_is_named(monkeypatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(errors, "find_spec", lambda name: None if name == "timm" else find(name))
    with refused("timm is not installed. Install with: pip install -e '.[pretrained]'"):
        pretrained(name="resnet18")


@pytest.mark.parametrize("name", [SMALL, "resnet10t"])
def test_offline_the_weights_are_refused_within_seconds(monkeypatch, tmp_path, name) -> None:
    def urlopen(*args, **kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setattr("torch.hub.urlopen", urlopen)
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path))
    if name != SMALL:
        pytest.importorskip("timm")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with refused("can't be downloaded (") as error:
        pretrained(name=name, weights="default").load_weights()
    assert "--model.network.init_args.weights FILE" in str(error.value)
    if name != SMALL:
        assert importlib.import_module("huggingface_hub.constants").HF_HUB_OFFLINE is False


def test_pretrained_weights_are_fine_tuned(own_folder) -> None:
    add_options("images", "digits", own_folder / "configs" / "default.yaml")
    network = "--model.network.init_args"
    options = ("--model.network=lightning_runs.images.pretrained.Pretrained", f"{network}.name={SMALL}")
    limits = [f"--trainer.limit_{part}_batches=2" for part in ("train", "val", "test")]
    options += (f"{network}.image_size=32", "--model.layer_rate_decay=0.7", "--trainer.max_epochs=1", *limits)
    assert run_start("images", "fit", "--run=first", *options, f"{network}.weights=null") == 0
    file = own_folder / "runs" / "first" / "checkpoints" / "last.ckpt"
    assert run_start("images", "fit", "--run=second", *options, f"{network}.weights={file}") == 0
    rates = last_checkpoint("second")["optimizer_states"][0]["param_groups"]
    assert len({group["initial_lr"] for group in rates}) > 3
