import pytest
import torch

from {{ cookiecutter.__package }}.module import (
    ImageClassifier,
    WarmupCosine,
)
from {{ cookiecutter.__package }}.network import ConvNet, DenseNet


def classifier(**options) -> ImageClassifier:
    return ImageClassifier((1, 8, 8), 10, network=ConvNet, optimizer=torch.optim.AdamW, **options)


@pytest.mark.parametrize("network", [ConvNet, DenseNet])
@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 8, 8), (3, 5, 9), (1, 28, 28), (3, 64, 48)])
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


def test_predictions_are_the_most_probable_class_and_its_probability() -> None:
    model = classifier().eval()
    images = torch.rand(5, 1, 8, 8)
    predicted = model.predict_step((images, torch.arange(5)), 0)
    probabilities = model(images).softmax(dim=1)
    assert predicted["index"].tolist() == [0, 1, 2, 3, 4]
    assert predicted["label"].equal(probabilities.argmax(dim=1))
    assert predicted["probability"].equal(probabilities.amax(dim=1))


def test_compiling_leaves_the_names_of_the_weights_alone() -> None:
    plain, compiled = classifier(), classifier(compile=True)
    compiled.setup("fit")  # marks the network; it would be compiled when it is first called
    assert list(compiled.state_dict()) == list(plain.state_dict())
