import pytest
import torch
from pytorch_lightning import Trainer
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from {{ cookiecutter.__package }}.data import DataModule
from {{ cookiecutter.__package }}.module import ImageClassifier
from {{ cookiecutter.__package }}.network import ConvNet, DenseNet


def classifier(**options) -> ImageClassifier:
    return ImageClassifier((1, 8, 8), 10, network=ConvNet, optimizer=torch.optim.AdamW, **options)


@pytest.mark.parametrize("network", [ConvNet, DenseNet])
@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 5, 9), (3, 64, 48)])
def test_network_maps_images_of_any_size_to_logits(network, shape) -> None:
    assert network(shape, 7)(torch.rand(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize("network", [ConvNet, DenseNet])
def test_gradient_reaches_every_parameter(network) -> None:
    torch.manual_seed(0)
    built = network((3, 16, 16), 10)
    built(torch.randn(16, 3, 16, 16)).logsumexp(dim=1).sum().backward()
    for name, parameter in built.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.count_nonzero() > 0, name


def test_metrics_count_all_images_of_a_smaller_last_batch() -> None:
    model = classifier()
    images = torch.rand(5, 1, 8, 8)
    labels = torch.arange(5)
    loader = DataLoader(TensorDataset(images, labels), batch_size=4)
    [metrics] = Trainer(accelerator="cpu", devices=1, logger=False).validate(model, loader, verbose=False)
    assert metrics["val/loss"] == pytest.approx(F.cross_entropy(model.eval()(images), labels).item(), rel=1e-5)


def test_exported_module_maps_pixels_to_probabilities() -> None:
    data = DataModule("digits")
    model = classifier(facts=data.facts).eval()
    pixels = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    with torch.inference_mode():
        predicted = model.predict_step((data.levels(pixels), torch.arange(5)), 0)
        torch.testing.assert_close(model.exported()(pixels), predicted["probabilities"])
