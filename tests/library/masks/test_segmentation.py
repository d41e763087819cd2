import re

import pytest
import torch
from lightning_runs.masks import segmentation
from lightning_runs.masks.metrics import count_pixels
from lightning_runs.masks.segmentation import MaskReports, each_class
from starts import prepared


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
