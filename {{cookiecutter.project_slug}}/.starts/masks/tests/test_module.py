import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassF1Score, MulticlassJaccardIndex

from {{ cookiecutter.__package }} import evaluation
from {{ cookiecutter.__package }}.data import DataModule
from {{ cookiecutter.__package }}.datasets import IGNORED
from {{ cookiecutter.__package }}.module import SegmentationModel
from {{ cookiecutter.__package }}.network import UNet
from lightning_runs.errors import UserError

FACTS = {"class_names": ["a", "b", "c"], "labels": [0, 1, 2], "mean": (0.3,), "std": (0.2,)}


def built(network: Any = UNet, **options: Any) -> SegmentationModel:
    torch.manual_seed(0)
    return SegmentationModel((1, 12, 12), FACTS, network=network, optimizer=torch.optim.AdamW, **options)


@pytest.mark.parametrize("size", [(1, 1), (7, 13), (32, 20)])
@pytest.mark.parametrize(("channels", "depth"), [(1, 1), (3, 3)])
def test_network_takes_images_of_any_size(size, channels, depth) -> None:
    network = UNet((channels, *size), num_classes=5, width=4, depth=depth).eval()
    assert network(torch.rand(2, channels, *size)).shape == (2, 5, *size)


def test_gradient_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    network = UNet((1, 10, 10), num_classes=3, width=4, depth=2)
    network(torch.randn(4, 1, 10, 10)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.count_nonzero() > 0, name


def test_the_place_of_a_pixel_is_kept() -> None:
    network = UNet((1, 13, 13), num_classes=2, width=4, depth=2).eval()
    image = torch.zeros(1, 1, 13, 13)
    image[..., 12, 3] = 1
    changed = (network(image) - network(torch.zeros_like(image))).abs().sum(dim=1)[0]
    row, column = divmod(int(changed.argmax()), 13)
    assert abs(row - 12) <= 2
    assert abs(column - 3) <= 2


def test_loss_is_the_mean_of_pixels_with_a_class_and_the_dice_loss() -> None:
    torch.manual_seed(0)
    logits, masks = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    masks[0, :2] = IGNORED
    entropy = F.cross_entropy(logits, masks, ignore_index=IGNORED)
    torch.testing.assert_close(built(dice=0.0).loss(logits, masks), entropy)
    there = masks != IGNORED
    terms = []
    for label in range(3):
        predicted, true = logits.softmax(dim=1)[:, label][there], (masks == label)[there].float()
        terms.append(1 - (2 * (predicted * true).sum() + 1) / (predicted.sum() + true.sum() + 1))
    torch.testing.assert_close(built(dice=2.0).loss(logits, masks), entropy + 2 * sum(terms) / 3)


def test_weights_multiply_the_entropy_of_pixels_by_that_of_their_class() -> None:
    torch.manual_seed(0)
    logits, masks = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    masks[0, 0] = IGNORED
    weights, there = torch.tensor([0.5, 1.0, 3.0]), masks != IGNORED
    entropies = F.cross_entropy(logits, masks, ignore_index=IGNORED, reduction="none")[there] * weights[masks[there]]
    torch.testing.assert_close(built(dice=0.0).loss(logits, masks, weights), entropies.mean())
    model = built(dice=0.5)
    dice = model.loss(logits, masks) - F.cross_entropy(logits, masks, ignore_index=IGNORED)
    torch.testing.assert_close(model.loss(logits, masks, weights), entropies.mean() + dice)  # which has no weights


def test_weights_are_those_of_the_data_and_for_training_alone(monkeypatch) -> None:
    torch.manual_seed(0)
    model, weights = built(dice=0.0).eval(), torch.tensor([0.5, 1.0, 3.0])
    images, masks = torch.randn(2, 1, 12, 12), torch.randint(0, 3, (2, 12, 12))
    trainer = SimpleNamespace(datamodule=SimpleNamespace(loss_weights=weights))
    monkeypatch.setattr(SegmentationModel, "trainer", trainer)
    monkeypatch.setattr(model, "log", lambda *_, **__: None)
    model.on_fit_start()
    torch.testing.assert_close(model.training_step((images, masks), 0), model.loss(model(images), masks, weights))
    model.validation_step((images, masks), 0)
    torch.testing.assert_close(model.val_metrics["loss"].compute(), model.loss(model(images), masks))
    trainer.datamodule.loss_weights = None
    model.on_fit_start()
    torch.testing.assert_close(model.training_step((images, masks), 0), model.loss(model(images), masks))


def test_a_pixel_without_a_class_changes_nothing() -> None:
    model, masks = built(), torch.randint(0, 3, (2, 4, 4))
    masks[:, 1] = IGNORED
    logits = torch.randn(2, 3, 4, 4)
    other = logits.clone()
    other[:, :, 1] += 5 * torch.randn(2, 3, 4)
    assert model.loss(logits, masks) == model.loss(other, masks)
    nothing = torch.full_like(masks, IGNORED)
    assert bool(model.loss(logits, nothing).isfinite())
    counts = [evaluation.count(masks, of.argmax(dim=1), 3) for of in (logits, other)]
    assert torch.equal(*counts)
    assert counts[0].sum() == 2 * 12


def test_iou_is_that_of_torchmetrics() -> None:
    torch.manual_seed(0)
    masks, predicted = torch.randint(0, 3, (5, 8, 8)), torch.randint(0, 3, (5, 8, 8))
    masks[:, 0] = IGNORED
    counts = evaluation.count(masks, predicted, 3).sum(dim=0)
    expected = MulticlassJaccardIndex(3, average="none", ignore_index=IGNORED)(predicted, masks)
    torch.testing.assert_close(evaluation.iou(counts), expected)
    measures = evaluation.measure(counts)
    torch.testing.assert_close(measures["mean_iou"], expected.mean())
    f1 = MulticlassF1Score(3, ignore_index=IGNORED)(predicted, masks)
    torch.testing.assert_close(measures["f1"], f1)
    assert measures["accuracy"] == (masks == predicted)[masks != IGNORED].float().mean()


def test_a_class_that_is_not_there_is_no_part_of_the_mean() -> None:
    counts = torch.tensor([[4, 0, 0], [2, 2, 0], [0, 0, 0]])
    assert evaluation.measure(counts)["mean_iou"] == pytest.approx((4 / 6 + 2 / 4) / 2)


def test_metrics_are_of_the_whole_split_and_begin_anew(monkeypatch) -> None:
    model = built(level)
    logged: dict[str, float] = {}
    monkeypatch.setattr(model, "log_dict", lambda found, **_: logged.update(found))
    for right, wrong in ((3, 1), (1, 3)):
        model.test_step((torch.full((right, 1, 4, 4), 0.0), torch.zeros(right, 4, 4, dtype=torch.int64)), 0)
        model.test_step((torch.full((wrong, 1, 4, 4), 1.0), torch.zeros(wrong, 4, 4, dtype=torch.int64)), 1)
        model.on_test_epoch_end()
        assert logged["test/accuracy"] == pytest.approx(right / 4)
        assert logged["test/iou_a"] == pytest.approx(right / 4)
        assert logged["test/iou_b"] == 0
        assert logged["test/mean_iou"] == pytest.approx(right / 8)
        assert "test/iou_c" not in logged


class Level(nn.Module):
    """Takes the level of a pixel for its class."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([-20 * (images - of).abs() for of in range(3)], dim=1)


def level(input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    return Level()


def test_exported_module_maps_pixels_to_what_is_predicted() -> None:
    data, model = DataModule(), built().eval()
    model.facts = {**FACTS, "mean": data.facts["mean"], "std": data.facts["std"]}
    pixels = torch.randint(0, 256, (3, 1, 12, 12), dtype=torch.uint8)
    with torch.inference_mode():
        predicted = model.predict_step((data.normalize(pixels), torch.arange(3)), 0)
        exported = model.exported()(pixels)
    assert torch.equal(exported["mask"], predicted["mask"])
    torch.testing.assert_close(exported["confidence"], predicted["confidence"])
    assert exported["mask"].dtype == torch.uint8
    assert (exported["confidence"] > 1 / 3).all()


def test_what_a_network_returns_has_to_fit() -> None:
    model = built(lambda input_shape, num_classes: nn.Conv2d(1, 2, 3))
    with pytest.raises(UserError, match=re.escape("returns shape (1, 2, 10, 10); logits must be (1, 3, 12, 12)")):
        model(torch.zeros(1, 1, 12, 12))


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(UserError, match=re.escape("model.dice is -1.0; it must be 0 or more, such as 0.5.")):
        built(dice=-1.0)
