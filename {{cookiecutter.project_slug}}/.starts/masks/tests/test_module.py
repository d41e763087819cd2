import pytest
import torch
from torch.nn import functional as F

from {{ cookiecutter.__package }}.data import DataModule
from {{ cookiecutter.__package }}.module import SegmentationModel
from {{ cookiecutter.__package }}.network import UNet

FACTS = {"class_names": ["a", "b", "c"], "labels": [0, 1, 2], "mean": (0.3,), "std": (0.2,)}


def built(**options) -> SegmentationModel:
    torch.manual_seed(0)
    return SegmentationModel((1, 12, 12), FACTS, network=UNet, optimizer=torch.optim.AdamW, **options)


@pytest.mark.parametrize("size", [(1, 1), (7, 13), (32, 20)])
def test_network_maps_images_of_any_size_to_logits(size) -> None:
    network = UNet((3, *size), num_classes=5, width=4, depth=3).eval()
    assert network(torch.rand(2, 3, *size)).shape == (2, 5, *size)


def test_gradient_reaches_every_parameter() -> None:
    network = built().network
    network(torch.randn(4, 1, 10, 10)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.count_nonzero() > 0, name


def test_the_loss_is_that_of_pixels_and_of_dice() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, 4)
    masks = torch.randint(0, 3, (2, 4, 4))
    masks[0, :2] = 255
    entropy = F.cross_entropy(logits, masks, ignore_index=255)
    torch.testing.assert_close(built(dice=0.0).loss(logits, masks), entropy)
    assert built(dice=2.0).loss(logits, masks) > entropy


def test_exported_module_maps_pixels_to_the_predicted_masks() -> None:
    model = built().eval()
    data = DataModule()
    model.facts = {**FACTS, "mean": data.about.mean, "std": data.about.std}
    pixels = torch.randint(0, 256, (3, 1, 12, 12), dtype=torch.uint8)
    with torch.inference_mode():
        predicted = model.predict_step((data.levels(pixels), torch.arange(3)), 0)
        exported = model.exported()(pixels)
    assert exported["mask"].equal(predicted["mask"])
    torch.testing.assert_close(exported["confidence"], predicted["confidence"])
