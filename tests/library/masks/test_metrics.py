import pytest
import torch
from lightning_runs.masks.metrics import IGNORED, class_iou, count_pixels, dice_loss, mask_metrics
from torchmetrics.classification import MulticlassF1Score, MulticlassJaccardIndex


def random_masks() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    masks = torch.randint(0, 3, (5, 8, 8))
    masks[:, 0] = IGNORED
    return masks, torch.randint(0, 3, (5, 8, 8))


def test_metrics_are_those_of_torchmetrics() -> None:
    masks, predicted = random_masks()
    counts = count_pixels(masks, predicted, 3).sum(dim=0)
    expected = MulticlassJaccardIndex(3, average="none", ignore_index=IGNORED)(predicted, masks)
    torch.testing.assert_close(class_iou(counts), expected)
    metrics = mask_metrics(counts)
    torch.testing.assert_close(metrics["mean_iou"], expected.mean())
    torch.testing.assert_close(metrics["f1"], MulticlassF1Score(3, ignore_index=IGNORED)(predicted, masks))
    assert metrics["accuracy"] == (masks == predicted)[masks != IGNORED].float().mean()


def test_a_class_without_pixels_is_no_part_of_the_mean() -> None:
    counts = torch.tensor([[4, 0, 0], [2, 2, 0], [0, 0, 0]])
    assert mask_metrics(counts)["mean_iou"] == pytest.approx((4 / 6 + 2 / 4) / 2)
    assert class_iou(counts)[2].isnan()


def test_pixels_are_counted_by_image_and_ignored_ones_are_not() -> None:
    masks, predicted = random_masks()
    counts = count_pixels(masks, predicted, 3)
    assert counts.shape == (5, 3, 3)
    assert counts.sum(dim=(1, 2)).tolist() == [56] * 5
    assert counts[2, 0, 1] == ((masks[2] == 0) & (predicted[2] == 1)).sum()


def test_the_dice_loss_is_the_mean_over_the_classes() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, 4)
    masks = torch.randint(0, 3, (2, 4, 4))
    masks[0, :2] = IGNORED
    has_class = masks != IGNORED
    terms = []
    for label in range(3):
        predicted = logits.softmax(dim=1)[:, label][has_class]
        true = (masks == label)[has_class].float()
        terms.append(1 - (2 * (predicted * true).sum() + 1) / (predicted.sum() + true.sum() + 1))
    torch.testing.assert_close(dice_loss(logits, masks), sum(terms) / 3)
    assert bool(dice_loss(logits, torch.full_like(masks, IGNORED)).isfinite())
