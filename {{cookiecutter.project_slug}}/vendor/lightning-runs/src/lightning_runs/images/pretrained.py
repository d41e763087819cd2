"""Pretrained networks of timm and torchvision."""

import difflib
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UserError, reason, require
from ..training.pretrained import PretrainedNetwork

TIMEOUT = 10  # seconds without an answer, after which a download fails


class Pretrained(PretrainedNetwork):
    """Any network of timm or torchvision with a new output layer.

    Images are brought to the size, and to the mean and standard deviation of each channel, that the weights were
    trained with. All of this is read from the configuration of the weights.

    Args:
        input_shape: Channels, height and width of an image; with other than 3 channels the first layer is adapted.
        num_classes: Number of logits.
        name: A model of timm, such as ``resnet18`` or ``vit_tiny_patch16_224``, or of torchvision, such as
            ``torchvision/resnet18``.
        weights: default downloads the usual weights; a path is a file of them (.safetensors or .pth); null starts at
            random. They are read by `load_weights`, which only a new training calls.
        image_size: Height and width of the network's images, in pixels; null takes those of the weights.

    Raises:
        UserError: timm is not installed, does not know the name, or the network does not take such images.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int,
        name: str = "resnet18",
        weights: bool | str | None = "default",
        image_size: int | None = None,
    ) -> None:
        super().__init__(weights)
        self.name = name
        self.channels = input_shape[0]
        self.backbone, size, self.mean, self.std = self._build()
        self.image_size = image_size or size
        self.set_pixels((0.5,), (0.5,))
        try:
            with torch.no_grad():
                features = self.backbone.eval()(torch.zeros(2, self.channels, self.image_size, self.image_size))
        except Exception as error:
            raise UserError(f"{name} takes no images of {self.image_size} pixels: {reason(error)}") from error
        self.backbone.train()
        self.head = nn.Linear(features.shape[1], num_classes)

    def _build(self, pretrained: bool = False) -> tuple[nn.Module, int, Any, Any]:
        """Return the network without its output layer, and size, mean and standard deviation of its images."""
        if self.name.startswith("torchvision/"):
            return self._build_torchvision(self.name.removeprefix("torchvision/"), pretrained)
        require("pretrained", "timm")
        import timm  # pyright: ignore[reportMissingImports]
        from timm.data import resolve_data_config  # pyright: ignore[reportMissingImports]

        if not timm.is_model(self.name):
            similar = difflib.get_close_matches(self.name, timm.list_models()) or ["resnet18"]
            raise UserError(f"timm has no model {self.name!r}. timm.list_models() has {', '.join(similar)} and others.")
        network = timm.create_model(self.name, pretrained=pretrained, in_chans=self.channels, num_classes=0)
        config = resolve_data_config({}, model=network)
        return network, config["input_size"][1], config["mean"], config["std"]

    def _build_torchvision(self, name: str, pretrained: bool) -> tuple[nn.Module, int, Any, Any]:
        from torchvision import models

        if name not in models.list_models(module=models):
            raise UserError(f"torchvision has no model {name!r} that classifies images, as resnet18 does.")
        weights = models.get_model_weights(name).DEFAULT  # pyright: ignore[reportAttributeAccessIssue]
        network = models.get_model(name, weights=weights if pretrained else None)
        linear = [path for path, layer in network.named_modules() if isinstance(layer, nn.Linear)]
        if not linear or hasattr(network, "aux_logits"):
            raise UserError(f"torchvision/{name} has another kind of output layer. Choose one such as resnet18.")
        network.set_submodule(linear[-1], nn.Identity())
        first = next(layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
        if self.channels != first.in_channels:
            first.weight = nn.Parameter(adapted(first.weight.data, self.channels))
            first.in_channels = self.channels
        transforms = weights.transforms()
        return network, transforms.crop_size[0], transforms.mean, transforms.std

    def set_pixels(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Set the mean and standard deviation of each channel, 0 to 1, by which incoming images are normalised."""
        incoming_mean = torch.tensor(mean)[:, None, None]
        incoming_std = torch.tensor(std)[:, None, None]
        own_mean = torch.tensor(self.mean)[:, None, None]
        own_std = torch.tensor(self.std)[:, None, None]
        if len(own_mean) != self.channels:  # grey, or more channels than three
            own_mean = own_mean.mean(dim=0, keepdim=True)
            own_std = own_std.mean(dim=0, keepdim=True)
        self.scale = nn.Buffer(incoming_std / own_std, persistent=False)
        self.offset = nn.Buffer((incoming_mean - own_mean) / own_std, persistent=False)

    def load_weights(self) -> None:
        """Read the weights into all but the output layer.

        Raises:
            UserError: They can't be read, are of another network, or can't be downloaded.
        """
        is_download = self.weights in (True, "default")
        state = _downloaded_weights(self) if is_download else _read_weights(Path(str(self.weights)))
        needed = self.backbone.state_dict()
        fitting = {}
        for key, value in state.items():
            if key in needed and value.ndim == 4 and value.shape[1] == 3 != needed[key].shape[1] == self.channels:
                value = adapted(value, self.channels)
            if key in needed and value.shape == needed[key].shape:
                fitting[key] = value
        missing = [key for key in needed if key not in fitting and not key.endswith("num_batches_tracked")]
        if missing:
            raise UserError(
                f"the weights {self.weights} do not fit {self.name}: {len(missing)} of {len(needed)} are missing or"
                f" have another shape, such as {', '.join(missing[:3])}. Name the network of these weights."
            )
        self.backbone.load_state_dict(fitting, strict=False)
        unused = [key for key in state if key not in fitting]
        if unused:
            print(f"Of the weights {self.weights}, {len(unused)} are not used: {', '.join(unused[:4])}")

    def layer_groups(self) -> list[list[nn.Module]]:
        """Return the layers from the input to the output: each part of the backbone that has weights, and the head."""
        parts = [[part] for part in self.backbone.children() if any(True for _ in part.parameters())]
        return [*parts, [self.head]]

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(B, C, H, W)`` to logits ``(B, num_classes)``."""
        size = (self.image_size, self.image_size)
        if images.shape[2:] != size:
            images = F.interpolate(images, size, mode="bilinear", antialias=images.shape[2] > size[0])
        return self.head(self.backbone(images * self.scale + self.offset))


def adapted(weight: Tensor, channels: int) -> Tensor:
    """Return a first layer's weights ``(O, 3, H, W)`` for other channels, with the same sum over them."""
    return weight.sum(dim=1, keepdim=True).div(channels).repeat(1, channels, 1, 1)


def _read_weights(file: Path) -> dict[str, Tensor]:
    """Read a file of weights; no code in it is executed."""
    try:
        if file.suffix == ".safetensors":
            require("pretrained", "safetensors")
            from safetensors.torch import load_file  # pyright: ignore[reportMissingImports]

            state: Any = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
            for wrapper in ("state_dict", "model"):
                state = state.get(wrapper, state) if isinstance(state, dict) else {}
        state = {re.sub(r"^(module\.|network\.)*(backbone\.)?", "", key): value for key, value in state.items()}
        if not state or not all(isinstance(value, Tensor) for value in state.values()):
            raise TypeError("it holds no weights by their names")
    except UserError:
        raise
    except Exception as error:  # of a file that may hold anything
        raise UserError(f"the weights {file} can't be read: {reason(error)}.") from error
    return state


def _downloaded_weights(network: Pretrained) -> dict[str, Tensor]:
    """Return the usual weights, downloaded or from the cache; without a network this fails within seconds."""
    is_hub = not network.name.startswith("torchvision/")
    if is_hub:
        require("pretrained", "timm")
    try:
        with _short_timeout(), _offline_without_network() if is_hub else nullcontext():
            return network._build(pretrained=True)[0].state_dict()
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"the weights of {network.name} can't be downloaded ({reason(error)}) and are not in the cache. Name a file"
            " with --model.network.init_args.weights FILE, or null to start at random."
        ) from error


@contextmanager
def _short_timeout() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextmanager
def _offline_without_network() -> Iterator[None]:
    """Let the hub read its cache alone if it does not answer; else it would try for a minute, even for cached files."""
    from huggingface_hub import constants  # pyright: ignore[reportMissingImports]

    before = constants.HF_HUB_OFFLINE
    try:
        urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=5).close()
    except urllib.error.HTTPError:
        pass  # this is an answer too
    except OSError:
        constants.HF_HUB_OFFLINE = True  # huggingface_hub reads no other switch once it is imported
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
