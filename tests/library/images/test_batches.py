import pytest
import torch
from lightning_runs.images.augmentation import mix_images, move_and_mirror
from lightning_runs.images.classifier import ImageReports
from starts import prepared
from torch.nn import functional


def test_images_move_by_exactly_their_offsets(monkeypatch) -> None:
    images = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    images[:, :, 2, 3] = 200
    offsets = torch.tensor([[0, 3], [2, 1]])[..., None]  # with 2 added: up by 2 or down by 1; not, or 1 to the left
    monkeypatch.setattr(torch, "randint", lambda *args, **kwargs: offsets)
    moved = move_and_mirror(images, mirror=False)
    assert moved.dtype == torch.uint8
    assert moved.nonzero().tolist() == [[0, c, 4, 3] for c in range(3)] + [[1, c, 1, 4] for c in range(3)]


@pytest.mark.parametrize("mirror", [False, True])
def test_only_images_that_may_be_mirrored_are(mirror) -> None:
    torch.manual_seed(0)
    images = torch.zeros(64, 1, 16, 16, dtype=torch.uint8)
    images[..., 0] = 255  # a line on the left, which a move brings no further than an eighth
    assert bool(move_and_mirror(images, mirror)[..., -1].any()) is mirror


@pytest.mark.parametrize("method", ["mixup", "cutmix"])
def test_labels_are_mixed_in_the_fractions_of_their_images(method) -> None:
    torch.manual_seed(0)
    black_and_white = torch.tensor([0.0, 1.0] * 4)[:, None, None, None].expand(-1, 1, 8, 8)
    images, labels = mix_images(black_and_white, torch.tensor([3, 5] * 4), method, 10)
    white = images.mean(dim=(1, 2, 3))
    assert labels.shape == (8, 10)
    assert labels[:, 5].tolist() == pytest.approx(white.tolist(), abs=0.01)
    assert labels[:, 3].tolist() == pytest.approx((1 - white).tolist(), abs=0.01)


def test_sections_and_a_picture_show_images() -> None:
    data = prepared("images")
    test = data.splits["test"][0]
    predicted = test.labels.clone()
    predicted[:36] = (predicted[:36] + 1) % 10
    predictions = {"index": torch.arange(360), "probabilities": functional.one_hot(predicted, 10) * 0.89 + 0.011}
    drawn = {title: draw() for title, draw in ImageReports().sections(predictions, data)}
    assert "324 of 360 images" in drawn["Test result"]
    assert (drawn["Surest mistakes"].count("<img"), drawn["Data"].count("<img")) == (24, 10)
    batch = (data.levels(test.tensors[0]), test.labels)
    [picture] = ImageReports().show([predictions["probabilities"]], batch, data).values()
    assert picture.size == (4 * 128, 4 * 144)
