import pytest
import torch
from lightning_runs.masks.metrics import IGNORED, class_iou, count_pixels, dice_loss, mask_metrics
from torchmetrics.classification import MulticlassF1Score, MulticlassJaccardIndex


def test_metrics_are_those_of_torchmetrics() -> None:
    torch.manual_seed(0)
    masks = torch.randint(0, 3, (5, 8, 8))
    masks[:, 0] = IGNORED
    predicted = torch.randint(0, 3, (5, 8, 8))
    counts = count_pixels(masks, predicted, 3)
    assert counts[2, 0, 1] == ((masks[2] == 0) & (predicted[2] == 1)).sum()
    metrics = mask_metrics(counts.sum(dim=0))
    expected = MulticlassJaccardIndex(3, ignore_index=IGNORED)(predicted, masks)
    torch.testing.assert_close(metrics["mean_iou"], expected)
    torch.testing.assert_close(metrics["f1"], MulticlassF1Score(3, ignore_index=IGNORED)(predicted, masks))
    assert metrics["accuracy"] == (masks == predicted)[masks != IGNORED].float().mean()


def test_a_class_without_pixels_is_no_part_of_the_mean() -> None:
    counts = torch.tensor([[4, 0, 0], [2, 2, 0], [0, 0, 0]])
    assert mask_metrics(counts)["mean_iou"] == pytest.approx((4 / 6 + 2 / 4) / 2)
    assert class_iou(counts)[2].isnan()


def test_the_dice_loss_is_the_mean_over_the_classes() -> None:
    masks = torch.tensor([[[0, 1, 1, IGNORED]]])
    logits = torch.full((1, 2, 1, 4), -50.0)
    logits[0, 0, 0, :2] = (
        50  # two pixels of class 0, one of them wrong, and two of class 1, one of them without a class
    )
    logits[0, 1, 0, 2:] = 50
    assert dice_loss(logits, masks).item() == pytest.approx(((1 - 3 / 4) + (1 - 3 / 4)) / 2)
    assert bool(dice_loss(logits, torch.full_like(masks, IGNORED)).isfinite())
