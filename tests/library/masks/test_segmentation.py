import io
import re

import numpy as np
import pytest
import torch
from lightning_runs.masks import reading, segmentation
from lightning_runs.masks.metrics import IGNORED, class_iou, count_pixels, dice_loss, mask_metrics
from lightning_runs.masks.segmentation import MaskReports, each_class
from PIL import Image
from starts import prepared
from torchmetrics.classification import MulticlassF1Score, MulticlassJaccardIndex


def test_sections_and_a_picture_show_what_was_predicted() -> None:
    data = prepared("masks")
    index = data.splits["test"][1]
    masks = data.splits["test"][0].labels[index].clone()
    masks[:2] = 0  # the digits of the first images are taken for background
    sections = {title: draw() for title, draw in MaskReports().sections({"index": index, "mask": masks}, data)}
    worst = re.findall(r"image (\d+)<br>mean IoU (\d\.\d+)", sections["Worst images"])
    assert {number for number, _ in worst[:2]} == {"800", "801"}
    assert [value == "1.000" for _, value in worst] == [False, False, *[True] * 10]
    assert "1 taken for background: " in sections["Confusion matrix"]
    assert "720 images to train, 80 to validate, 200 to test" in sections["Data"]
    assert sections["Data"].count("<img") == sections["Worst images"].count("<img") == 12
    batch = data.on_after_batch_transfer(next(iter(data.test_dataloader())), 0)
    [picture] = MaskReports().show([batch[1]], batch, data).values()
    assert picture.size == (8 * 128, 3 * 128)


def test_the_interval_is_that_of_the_choice_of_images() -> None:
    torch.manual_seed(0)
    masks = torch.randint(0, 2, (2000, 8, 8))
    share = torch.rand(2000, 1, 1)  # each image has a difficulty of its own
    predicted = torch.where(torch.rand(masks.shape) < share, masks, 1 - masks)
    page = segmentation.test_result(count_pixels(masks, predicted, 2))
    accuracy = re.findall(r"<td>([\d.]+)%</td><td>([\d.]+)% to ([\d.]+)%</td>", page)[2]
    value, low, high = map(float, accuracy)
    assert low < value < high
    assert high - low == pytest.approx(2 * 196 * (1 / 12) ** 0.5 / 2000**0.5, rel=0.15)  # of uniform shares


def test_measures_of_each_class_are_right() -> None:
    counts = torch.tensor([[6, 2, 0], [1, 3, 0], [0, 0, 0]])
    table = each_class(counts, ["sky", "sea", "ship"])
    for name, cells in (("sky", "none 0.667 0.857 0.750 66.67%"), ("ship", "- - - 0.00%")):
        values = ".*?".join(f"<td>{cell}</td>" for cell in cells.split())
        assert re.search(f">{name}</th>.*?{values}", table), name
    assert re.search(r">sea</th><td><span style=\"[^\"]*rgb\(128,0,0\)\"></span></td><td>0.500</td>", table)


@pytest.mark.parametrize("labels", [[0, *range(51, 59), 200], [3, *range(51, 59), 300]])
def test_a_predicted_mask_has_the_size_of_its_image(labels, tmp_path) -> None:
    file = str(tmp_path / "4.png")
    Image.new("RGB", (30, 24)).save(file)
    facts = {"class_names": list("abcdefghij"), "labels": labels}
    mask = np.repeat(np.array([[0, 9]], np.uint8), 16, axis=0).repeat(8, axis=1)  # the right half is class 9
    names, [row] = reading.rows({"file": [file], "mask": [mask], "confidence": [0.75]}, facts)
    assert names == ["file", "mask", "confidence", *(f"share({name})" for name in "abcdefghij")]
    assert row[0::2] == [file, 0.75, *[0.0] * 4, 0.5]
    picture = Image.open(io.BytesIO(row[1].content))
    assert np.array_equal(np.asarray(picture), np.full((24, 30), [labels[0]] * 15 + [labels[9]] * 15))
    assert (picture.mode == "P") == (labels[9] == 200)


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
    # two pixels of class 0, one of them wrong, and two of class 1, one of them without a class
    logits[0, 0, 0, :2] = 50
    logits[0, 1, 0, 2:] = 50
    assert dice_loss(logits, masks).item() == pytest.approx(((1 - 3 / 4) + (1 - 3 / 4)) / 2)
    assert bool(dice_loss(logits, torch.full_like(masks, IGNORED)).isfinite())
