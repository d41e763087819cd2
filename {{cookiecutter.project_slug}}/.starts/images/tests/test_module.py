from types import SimpleNamespace
from typing import Any, cast

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


def test_predictions_are_probabilities_and_the_table_names_the_most_probable_class() -> None:
    model, data = classifier().eval(), DataModule("digits")
    data.setup("test")
    images = torch.rand(5, 1, 8, 8)
    with torch.inference_mode():
        predicted = model.predict_step((images, torch.arange(5)), 0)
        assert predicted["probabilities"].equal(model(images).softmax(dim=1))
    columns, rows = model.rows(predicted, data)
    assert columns[:3] == ["index", "label", "probability"]
    assert [row[0] for row in rows] == [0, 1, 2, 3, 4]
    for row, probabilities in zip(rows, predicted["probabilities"].tolist(), strict=True):
        best = max(range(10), key=probabilities.__getitem__)
        assert row[1:3] == [str(best), round(probabilities[best], 6)]


def test_exported_module_maps_pixels_to_the_probabilities_of_the_model() -> None:
    data = DataModule("digits")
    model = classifier(facts=data.facts).eval()
    pixels = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    with torch.inference_mode():
        expected = model(data.normalize(pixels)).softmax(dim=1)
        assert (model.exported()(pixels) - expected).abs().max() < 1e-6
    assert model.exported().facts == data.facts


def test_a_metric_is_that_of_all_images_though_the_last_batch_is_smaller() -> None:
    model, images, labels = classifier(), torch.rand(5, 1, 8, 8), torch.arange(5)
    loader = DataLoader(TensorDataset(images, labels), batch_size=4)
    [found] = Trainer(accelerator="cpu", devices=1, logger=False).validate(model, loader, verbose=False)
    assert found["val/loss"] == pytest.approx(F.cross_entropy(model.eval()(images), labels).item(), rel=1e-5)


def test_labels_are_smoothed_in_training() -> None:
    model: Any = classifier(label_smoothing=0.2).eval()
    model.trainer = SimpleNamespace(is_last_batch=False, log_every_n_steps=10, global_step=0)
    images, labels = torch.rand(5, 1, 8, 8), torch.arange(5)
    loss = model.training_step((images, labels), 0)
    assert loss.item() == pytest.approx(F.cross_entropy(model(images), labels, label_smoothing=0.2).item())
    assert loss.item() != pytest.approx(F.cross_entropy(model(images), labels).item())


def test_weights_of_the_classes_are_in_the_loss_of_training_alone() -> None:
    data, model = DataModule("digits", balance="weights"), cast(Any, classifier().eval())
    data.setup("fit")
    model.trainer = SimpleNamespace(is_last_batch=False, log_every_n_steps=10, global_step=0, datamodule=data)
    model.trainer.ckpt_path = "last.ckpt"
    model.on_fit_start()
    images, labels = torch.rand(5, 1, 8, 8), torch.tensor([0, 1, 8, 8, 9])
    loss = model.training_step((images, labels), 0).item()
    assert loss == pytest.approx(F.cross_entropy(model(images), labels, weight=data.loss_weights).item())
    plain = F.cross_entropy(model(images), labels).item()
    assert loss != pytest.approx(plain)
    kept: dict[str, Any] = {}
    model.log_dict = lambda metrics, **_: kept.update(metrics)
    model.validation_step((images, labels), 0)
    assert kept["val/loss"].item() == pytest.approx(plain)


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_the_schedule_advances_as_it_is_told(interval) -> None:
    def halved(optimizer: Any) -> Any:
        return torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)

    made = classifier(scheduler=halved, scheduler_interval=interval).configure_optimizers()
    assert made["lr_scheduler"]["interval"] == interval


def test_compiling_leaves_the_names_of_the_weights_alone() -> None:
    plain, compiled = classifier(), classifier(compile=True)
    assert list(compiled.state_dict()) == list(plain.state_dict())


def test_channels_last_changes_the_order_in_memory_alone() -> None:
    plain, other = classifier().eval(), classifier(channels_last=True).eval()
    other.load_state_dict(plain.state_dict())
    images = torch.rand(5, 1, 8, 8)
    weights = next(of for of in other.network.parameters() if of.ndim == 4 and of.shape[1] > 1)
    assert weights.is_contiguous(memory_format=torch.channels_last)
    assert (other(images) - plain(images)).abs().max() < 1e-5
