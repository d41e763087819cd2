import pytest
import torch
from lightning_runs.masks.augmentation import augment_alike
from lightning_runs.masks.metrics import IGNORED


@pytest.mark.parametrize(("size", "mirror"), [((24, 24), True), ((17, 40), False)])
def test_a_light_change_moves_image_and_mask_alike(size, mirror) -> None:
    torch.manual_seed(0)
    masks = torch.randint(0, 3, (64, *size), dtype=torch.uint8)
    masks[:, :, size[1] // 2 :] += 3  # the classes on the right
    images, moved = augment_alike((masks * 40)[:, None], masks, mirror=mirror, strong=False)
    has_class = moved != IGNORED
    assert (images[:, 0][has_class] == moved[has_class] * 40).all()  # no pixel is mixed with another
    rows = has_class.any(dim=2).sum(dim=1)  # a move by an eighth at most
    assert set(rows.tolist()) == set(range(size[0] - size[0] // 8, size[0] + 1))
    is_mirrored = moved[:, size[0] // 2, size[1] // 4] > 2
    assert is_mirrored.float().mean() == pytest.approx(0.5 * mirror, abs=0.2 * mirror)


def test_a_strong_change_moves_image_and_mask_alike() -> None:
    torch.manual_seed(0)
    masks = torch.zeros(64, 40, 40, dtype=torch.uint8)
    masks[:, 10:25, 12:20] = 1
    images, moved = augment_alike((60 + masks * 120)[:, None], masks, mirror=False, strong=True)
    for image, mask in zip(images[:, 0].float(), moved, strict=True):
        inside = image[mask == 1]
        outside = image[mask == 0]
        assert inside.median() > outside.median() + 80
        assert (inside < (inside.median() + outside.median()) / 2).float().mean() < 0.12  # pixels at the edge alone
    sizes = (moved == 1).sum(dim=(1, 2)) / 120
    assert sizes.min() < 0.75
    assert sizes.max() > 1.3
    assert images.flatten(1).median(dim=1).values.unique().numel() > 20  # brightness
