import re

import pytest
import torch
from lightning_runs.masks import segmentation
from lightning_runs.masks.metrics import IGNORED, count_pixels, dice_loss
from lightning_runs.masks.segmentation import MaskReports, each_class
from starts import built, prepared, refused
from torch.nn import functional


@pytest.fixture(scope="module")
def data():
    return prepared("masks")


def test_sections_show_what_was_predicted(data) -> None:
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


def test_the_interval_shrinks_with_the_number_of_images() -> None:
    torch.manual_seed(0)
    widths = []
    for count in (20, 2000):
        masks = torch.randint(0, 2, (count, 8, 8))
        share = torch.rand(count, 1, 1)  # each image has a difficulty of its own
        predicted = torch.where(torch.rand(masks.shape) < share, masks, 1 - masks)
        page = segmentation.test_result(count_pixels(masks, predicted, 2))
        accuracy = re.findall(r"<td>([\d.]+)%</td><td>([\d.]+)% to ([\d.]+)%</td>", page)[2]
        value, low, high = map(float, accuracy)
        assert low < value < high
        widths.append(high - low)
    assert widths[0] == pytest.approx(widths[1] * 10, rel=0.3)  # the root of 100
    assert widths[1] == pytest.approx(2 * 196 * (1 / 12) ** 0.5 / 2000**0.5, rel=0.15)  # of uniform shares


def test_measures_of_each_class_are_right() -> None:
    counts = torch.tensor([[6, 2, 0], [1, 3, 0], [0, 0, 0]])
    table = each_class(counts, ["sky", "sea", "ship"])
    for name, cells in (("sky", "none 0.667 0.857 0.750 66.67%"), ("ship", "- - - 0.00%")):
        values = ".*?".join(f"<td>{cell}</td>" for cell in cells.split())
        assert re.search(f">{name}</th>.*?{values}", table), name
    assert re.search(r">sea</th><td><span style=\"[^\"]*rgb\(128,0,0\)\"></span></td><td>0.500</td>", table)


def test_the_most_frequent_class_is_the_baseline(data) -> None:
    masks = data.splits["test"][0].labels[data.splits["test"][1]]
    background = (masks == 0).float().mean().item()
    expected = {
        "test/mean_iou": pytest.approx(background / 6),
        "test/f1": pytest.approx(2 * background / (1 + background) / 6),
        "test/accuracy": pytest.approx(background),
    }
    assert data.baseline() == {"most frequent class": expected}


def test_pictures_colour_the_classes_but_no_background(data) -> None:
    image = torch.full((1, 1, 4, 6), 100, dtype=torch.uint8)
    mask = torch.zeros(1, 4, 6, dtype=torch.uint8)
    mask[0, 0, 0] = 1
    mask[0, 0, 1] = IGNORED
    [picture] = MaskReports().show([mask], (data.levels(image), torch.zeros_like(mask)), data).values()
    row = picture.height * 2 // 3
    assert picture.getpixel((2, 2)) == picture.getpixel((2, row // 2 + 2)) == (100, 100, 100)
    assert picture.getpixel((2, row + 2)) == (int(40 + 128 * 0.6), 40, 40)
    assert picture.getpixel((30, row + 2)) == (100, 100, 100)


# ---- The start's own model


def test_the_loss_is_that_of_pixels_and_of_dice(data) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 6, 4, 4)
    masks = torch.randint(0, 6, (2, 4, 4))
    masks[0, :2] = IGNORED
    weights = torch.arange(6) + 0.5
    entropies = functional.cross_entropy(logits, masks, weights, ignore_index=IGNORED, reduction="none")
    expected = entropies[masks != IGNORED].mean() + 2 * dice_loss(logits, masks)
    torch.testing.assert_close(built("masks", data, dice=2.0).loss(logits, masks, weights), expected)
    with refused("model.dice is -1.0; it must be 0 or more, such as 0.5."):
        built("masks", data, dice=-1.0)


def test_metrics_are_of_the_whole_split_and_start_again(data, monkeypatch) -> None:
    model = built("masks", data)
    logged: dict[str, float] = {}
    monkeypatch.setattr(model, "log_dict", lambda metrics, **_: logged.update(metrics))
    monkeypatch.setattr(model, "forward", lambda images: functional.one_hot(images[:, 0].long(), 6).movedim(3, 1) * 9.0)
    for right, wrong in ((3, 1), (1, 3)):
        for count, label in ((right, 0), (wrong, 1)):
            model.test_step((torch.full((count, 1, 4, 4), label), torch.zeros(count, 4, 4, dtype=torch.int64)), 0)
        model.on_test_epoch_end()
        assert logged["test/accuracy"] == logged["test/iou_background"] == pytest.approx(right / 4)
        assert logged["test/mean_iou"] == pytest.approx(right / 8)
        assert "test/iou_1" not in logged  # it has no pixels
