import io
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from {{ cookiecutter.__package }} import datasets, inputs
from {{ cookiecutter.__package }}.data import DataModule
from lightning_runs.errors import UserError


@pytest.fixture(scope="module")
def scenes() -> DataModule:
    data = DataModule()
    data.setup("fit")
    return data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten pictures of different sizes whose right half is class 1, in all forms that a mask may have."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i in range(10):
        mask = np.zeros((20 + i, 30), np.uint8)
        mask[:, 15:] = 1
        Image.fromarray(100 + 100 * mask).convert("RGB").save(tmp_path / "images" / f"{i}.{('png', 'jpg')[i % 2]}")
        kinds = [Image.fromarray(mask), Image.fromarray(mask).convert("P"), Image.fromarray(mask.astype(np.uint16))]
        kinds[1].putpalette([9, 9, 9, 200, 0, 0])
        kinds.append(Image.fromarray(mask.astype(bool)))
        kinds[i % 4].save(tmp_path / "masks" / f"{i}.png")
    return tmp_path


def read(folder: Path, **options: Any) -> DataModule:
    data = DataModule("mask_folder", str(folder), image_size=16, **options)
    data.setup("fit")
    return data


def write_mask(folder: Path, numbers: np.ndarray, name: str = "0") -> None:
    Image.fromarray(numbers).save(folder / "masks" / f"{name}.png")


def refused(text: str):
    return pytest.raises(UserError, match=re.escape(text))


def test_scenes_are_the_same_each_time_and_have_every_class_in_every_part(scenes) -> None:
    again = DataModule()
    assert again.fingerprint() == scenes.fingerprint()
    assert [len(scenes.splits[part][1]) for part in ("train", "val", "test")] == [720, 80, 200]
    assert scenes.class_names == ["background", "0", "1", "2", "3", "4"]
    for part in ("train", "val", "test"):
        pairs, indices = scenes.splits[part]
        assert pairs.targets[indices].unique().tolist() == [0, 1, 2, 3, 4, 5]
    levels = scenes.splits["train"][0].images[:800] / 255
    assert scenes.facts["mean"][0] == pytest.approx(levels.mean().item(), abs=0.001)
    assert scenes.facts["std"][0] == pytest.approx(levels.std().item(), abs=0.001)


def test_scenes_of_the_test_have_digits_of_the_test_alone(monkeypatch) -> None:
    # the ink of a digit shows where it is from
    arrays = {f"{part}_images": np.full((10, 8, 8), ink) for part, ink in (("train", 100), ("test", 160))}
    arrays |= {f"{part}_labels": np.zeros(10, int) for part in ("train", "test")}
    monkeypatch.setattr(np, "load", lambda file: nullcontext(arrays))
    means = [images[:, 0][masks == 1].mean() for images, masks in map(datasets.make_scenes, ("train", "test"))]
    assert means == [pytest.approx(60 + 100 * 0.675, abs=3), pytest.approx(60 + 160 * 0.675, abs=3)]


def test_batches_have_the_promised_shapes(scenes) -> None:
    images, masks = scenes.on_after_batch_transfer(next(iter(scenes.train_dataloader())), 0)
    assert (images.shape, images.dtype) == ((16, 1, 32, 32), torch.float32)
    assert (masks.shape, masks.dtype) == ((16, 32, 32), torch.int64)
    assert abs(images.mean()) < 0.2
    assert 0.8 < images.std() < 1.2
    pixels, index = next(iter(scenes.predict_dataloader()))
    assert index.tolist() == list(range(800, 816))
    assert (scenes.denormalize(scenes.normalize(pixels)) == pixels).all()


@pytest.mark.parametrize("size", [(24, 24), (17, 40)])
def test_light_augmentation_moves_image_and_mask_alike(size) -> None:
    data = DataModule("mask_folder", augment="light")
    torch.manual_seed(0)
    masks = torch.randint(0, 6, (64, *size), dtype=torch.uint8)
    masks[:, :3] = 255
    images, moved = data.augment_batch((masks % 50 * 40)[:, None], masks)
    assert (images.dtype, moved.dtype) == (torch.uint8, torch.uint8)
    there = moved != 255
    assert (images[:, 0][there] == moved[there] % 50 * 40).all()  # no pixel is mixed with another
    assert 0.6 < there.float().mean() < 0.9
    assert not (moved == masks).flatten(1).all(dim=1).any()
    rows = there.any(dim=2).sum(dim=1)  # a move down by three pixels at most, and up by as many
    assert set(rows.tolist()) == set(range(size[0] - 3 - size[0] // 8, size[0] - 2))


def test_strong_augmentation_moves_image_and_mask_alike() -> None:
    data = DataModule(augment="strong")
    torch.manual_seed(0)
    masks = torch.zeros(64, 40, 40, dtype=torch.uint8)
    masks[:, 10:25, 12:20] = 1
    images, moved = data.augment_batch((60 + masks * 120)[:, None], masks)
    for image, mask in zip(images[:, 0].float(), moved, strict=True):
        inside, outside = image[mask == 1], image[mask == 0]
        assert inside.median() > outside.median() + 80
        assert (inside < (inside.median() + outside.median()) / 2).float().mean() < 0.12  # pixels at the edge alone
        assert (outside > (inside.median() + outside.median()) / 2).float().mean() < 0.03
    sizes = (moved == 1).sum(dim=(1, 2)) / 120
    assert sizes.min() < 0.75
    assert sizes.max() > 1.3
    assert images.flatten(1).median(dim=1).values.unique().numel() > 20  # brightness
    assert set(moved.unique().tolist()) == {0, 1, 255}


def test_photos_are_mirrored_and_digits_are_not() -> None:
    torch.manual_seed(0)
    masks = torch.zeros(400, 16, 16, dtype=torch.uint8)
    masks[:, :, 8:] = 1
    cases: Any = (("digit_scenes", 0, 0), ("mask_folder", 150, 250))
    for dataset, low, high in cases:
        _, moved = DataModule(dataset).augment_batch(masks[:, None], masks)
        assert low <= int((moved[:, 8, 4] == 1).sum()) <= high


def test_augmentation_follows_the_seed_of_the_step(scenes) -> None:
    images, masks = next(iter(scenes.val_dataloader()))
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(scenes.augment_batch(images, masks))
    assert all(map(torch.equal, found[0], found[1]))
    assert not any(map(torch.equal, found[0], found[2]))


def test_masks_are_read_in_every_form_and_brought_to_one_size(folder) -> None:
    data = read(folder)
    assert data.class_names == ["label 0", "label 1"]
    pairs = data.splits["train"][0]
    assert pairs.targets.shape == (10, 16, 16)
    assert (pairs.targets[:, :, :8] == 0).all()
    assert (pairs.targets[:, :, 8:] == 1).all()
    assert pairs.images is not None
    assert pairs.images.shape == (10, 3, 16, 16)
    assert pairs.images[:, :, :, 12:].float().mean() == pytest.approx(200, abs=2)
    counts = {part: len(data.splits[part][1]) for part in ("train", "val", "test")}
    assert counts == {"train": 7, "val": 1, "test": 2}


def test_images_that_are_read_batch_by_batch_are_the_same(folder, monkeypatch) -> None:
    kept, fingerprint = read(folder), read(folder).fingerprint()
    monkeypatch.setattr(datasets, "KEPT", 0)
    data = read(folder, num_workers=0)
    assert data.splits["train"][0].images is None
    assert data.fingerprint() == fingerprint
    for one, other in zip(data.test_dataloader(), kept.test_dataloader(), strict=True):
        assert all(map(torch.equal, one, other))
    (folder / "images" / "0.png").touch()
    assert read(folder).fingerprint() != fingerprint


def test_labels_may_be_any_numbers_and_have_names(folder) -> None:
    for i in range(10):
        mask = np.full((20 + i, 30), 7, np.uint16)
        mask[:, 15:] = 300
        mask[0] = 255
        write_mask(folder, mask, str(i))
    data = read(folder)
    assert data.known == {"labels": [7, 300], "class_names": ["label 7", "label 300"], "trained": "mask_folder"}
    assert data.splits["train"][0].targets[0].unique().tolist() == [0, 1, 255]
    (folder / "classes.txt").write_text("300 cell\n\n7 all the rest\n")
    data = read(folder)
    assert (data.known["labels"], data.class_names) == ([300, 7], ["cell", "all the rest"])
    assert data.splits["train"][0].targets[0, 8].unique().tolist() == [0, 1]
    assert (data.splits["train"][0].targets[0, 8, :8] == 1).all()
    (folder / "classes.txt").write_text("7 rest\n255 edge\n300 cell\n")  # 255 is a class then
    assert read(folder).splits["train"][0].targets[0].unique().tolist() == [0, 1, 2]
    (folder / "classes.txt").write_text("sky blue\nsea\n")
    assert datasets.read_classes(folder) == {"labels": [0, 1], "class_names": ["sky blue", "sea"]}


def test_black_and_white_masks_are_two_classes_if_nothing_is_ignored(folder) -> None:
    for i in range(10):
        mask = np.zeros((20 + i, 30), np.uint8)
        mask[:, 15:] = 255
        write_mask(folder, mask, str(i))
    with refused("have the labels 0, 1 in all, beside 255, which is ignored (--data.ignore_index)"):
        read(folder)
    assert read(folder, ignore_index=None).class_names == ["label 0", "label 255"]


def test_weights_of_classes_count_pixels_of_the_training_part_alone(folder) -> None:
    for i in range(10):
        mask = np.zeros((20 + i, 30), np.uint8)
        mask[: 1 + i] = 1
        mask[-4:] = 255
        write_mask(folder, mask, str(i))
    data = read(folder, balance="weights")
    pairs, train = data.splits["train"]
    masks = pairs.targets[train]
    weights: Any = data.loss_weights
    sums = [(weights[label] * (masks == label).sum()).item() for label in (0, 1)]
    assert sums == [pytest.approx((masks != 255).sum().item() / 2)] * 2
    assert weights[0] != weights[1]
    assert read(folder).loss_weights is None


def test_images_are_drawn_so_that_each_class_is_as_often_the_rarest_of_one(scenes) -> None:
    masks = torch.zeros(5, 4, 4, dtype=torch.uint8)
    masks[1:3, 0] = 1
    masks[3, 0, :2] = 2
    masks[3, 1:] = 1
    masks[4] = 255
    masks[2, 1] = 255
    assert datasets.rarest(masks).tolist() == [0, 1, 1, 2, 0]  # of 2 there are two pixels in all

    drawn, usual = (DataModule(balance=balance) for balance in ("sampling", "none"))
    for data in (drawn, usual):
        data.setup("fit")
    pairs, train = drawn.splits["train"]
    classes = torch.full((1000,), -1)
    classes[train] = datasets.rarest(pairs.targets[train])
    sampler: Any = drawn.train_dataloader().sampler
    batches = []
    for epoch in range(20):
        sampler.set_epoch(epoch)
        batches += [*sampler]
    counts = classes[torch.cat(batches)].bincount(minlength=6)
    there = classes[train].unique()
    assert len(there) > 3
    expected = counts.sum().item() / len(there)
    assert counts[there].tolist() == [pytest.approx(expected, rel=0.1)] * len(there)
    assert len(drawn.train_dataloader()) == len(usual.train_dataloader())
    assert all(map(torch.equal, next(iter(drawn.val_dataloader())), next(iter(usual.val_dataloader()))))


def test_test_images_may_be_chosen(folder) -> None:
    for name in ("images", "masks"):
        (folder / "test" / name).mkdir(parents=True)
        for file in sorted((folder / name).iterdir())[:3]:
            file.rename(folder / "test" / name / file.name)
    data = read(folder)
    assert {data.splits["predict"][0].files[i].parts[-3] for i in data.splits["test"][1].tolist()} == {"test"}
    assert [len(data.splits[part][1]) for part in ("train", "val", "test")] == [6, 1, 3]


def test_folds_hold_each_image_out_once_and_are_predicted(folder) -> None:
    parts = [read(folder, fold=fold, num_folds=4).splits for fold in range(4)]
    held = torch.cat([splits["val"][1] for splits in parts])
    assert len(held) == len(set(held.tolist())) == 8
    assert all(splits["predict"][1].equal(splits["val"][1]) for splits in parts)
    assert not set(held.tolist()) & set(parts[0]["test"][1].tolist())
    refit = read(folder, fold=None, num_folds=4).splits
    assert [len(refit[part][1]) for part in ("train", "val", "predict")] == [8, 0, 2]


def test_new_images_need_no_masks_and_unreadable_ones_are_left_out(folder) -> None:
    (folder / "images" / "3.jpg").write_bytes(b"no picture")
    data = DataModule("mask_folder", "nowhere", predict_paths=[str(folder / "images")], num_workers=0)
    data.setup("predict")
    index = torch.cat([index for _, index in data.predict_dataloader()])
    files = data.splits["predict"][0].files
    assert [files[i].stem for i in index.tolist()] == ["0", "1", "2", "4", "5", "6", "7", "8", "9"]
    with refused("none of the 1 images can be read; the first is "):
        DataModule(predict_paths=[str(folder / "images" / "3.jpg")]).setup("predict")


def test_a_predicted_mask_has_the_size_and_the_numbers_of_the_data(folder) -> None:
    mask = np.zeros((16, 16), np.uint8)
    mask[:, 8:] = 9
    for labels in ([0, *range(51, 59), 200], [3, *range(51, 59), 300]):
        facts = {"class_names": list("abcdefghij"), "labels": labels}
        file = str(folder / "images" / "4.png")
        columns, rows = inputs.rows({"file": [file], "mask": [mask], "confidence": [0.75]}, facts)
        assert columns == ["file", "mask", "confidence", *(f"share({name})" for name in "abcdefghij")]
        assert rows[0][0::2] == [file, 0.75, *[0.0] * 4, 0.5]
        assert rows[0][1].name == "4.png"
        picture = Image.open(io.BytesIO(rows[0][1].content))
        numbers = np.asarray(picture)
        assert numbers.shape == (24, 30)
        assert (numbers[:, :15] == labels[0]).all()
        assert (numbers[:, 15:] == labels[9]).all()
        assert (picture.mode == "P") == (labels[9] == 200)
    columns, rows = inputs.rows({"index": [5], "mask": [mask], "confidence": [1.0]}, facts)
    assert (columns[0], rows[0][1].name) == ("index", "5.png")


def test_colours_are_those_of_pascal_voc() -> None:
    expected = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]]
    found = inputs.colours(256).tolist()
    assert (found[:5], found[20], found[255]) == (expected, [0, 64, 128], [224, 224, 192])


def test_a_photo_that_is_marked_as_turned_is_turned(tmp_path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "photo.jpg", exif=exif)
    assert inputs.size_of(tmp_path / "photo.jpg") == (20, 40)


# ---- What is refused


def test_values_out_of_bounds_are_refused() -> None:
    cases: Any = (
        ({"batch_size": 0}, "data.batch_size is 0; it must be at least 1."),
        ({"num_workers": -1}, "data.num_workers is -1; it must be at least 0."),
        ({"image_size": 7}, "data.image_size is 7; it must be at least 8."),
        ({"val_fraction": 1.0}, "data.val_fraction is 1.0; it must lie between 0 and 1"),
        ({"test_fraction": 0.0}, "data.test_fraction is 0.0; it must lie between 0 and 1"),
        ({"num_folds": 1}, "data.fold is 0 of data.num_folds 1; of at least 2 folds, the first is 0."),
    )
    for options, text in cases:
        with refused(text):
            DataModule(**options)


def test_an_unknown_label_is_refused(folder) -> None:
    (folder / "classes.txt").write_text("sky\nsea\n")
    write_mask(folder, np.full((20, 30), 4, np.uint8))
    with refused("0.png has the label 4, which is not known; known are 0, 1, and --data.ignore_index 255"):
        read(folder)
    (folder / "classes.txt").unlink()
    data = DataModule("mask_folder", str(folder), image_size=16)
    data.load_state_dict({"labels": [0, 1], "class_names": ["sky", "sea"]})  # those of a run
    with refused("0.png has the label 4, which is not known"):
        data.setup("test")


def test_a_run_is_not_asked_about_another_data_set(folder) -> None:
    cases: Any = ({}, {"predict_paths": [str(folder / "images")]})
    for options in cases:
        data = DataModule("mask_folder", str(folder), **options)
        data.load_state_dict({"labels": [0, 1], "class_names": ["0", "1"], "trained": "digit_scenes"})  # those of a run
        with refused("data.dataset is mask_folder, but the run was trained with digit_scenes. Leave it out."):
            data.setup("predict")


def test_a_mask_of_another_size_is_refused(folder) -> None:
    write_mask(folder, np.zeros((30, 20), np.uint8))
    with refused("0.png is 20 pixels wide and 30 high, and "):
        read(folder)


def test_an_image_or_a_mask_that_is_alone_is_refused(folder) -> None:
    (folder / "masks" / "2.png").rename(folder / "masks" / "x.png")
    with refused(f"2.png has no mask {folder / 'masks' / '2.png'} (1 in all). Add it, or remove the file."):
        read(folder)
    (folder / "masks" / "3.png").unlink()
    with refused("(2 in all)"):
        read(folder)
    for name in ("2.png", "3.jpg"):
        (folder / "images" / name).unlink()
    with refused(f"x.png has no image {folder / 'images' / 'x.png'}"):
        read(folder)


def test_two_images_of_one_name_are_refused(folder) -> None:
    Image.new("RGB", (30, 20)).save(folder / "images" / "0.jpg")
    with refused("0.png have the same name. Rename one of them, or remove it."):
        read(folder)


def test_a_missing_or_empty_folder_is_refused(tmp_path, folder) -> None:
    with refused(f"{tmp_path / 'none' / 'images'} is missing: put your images into "):
        read(tmp_path / "none")
    for file in (folder / "masks").iterdir():
        file.unlink()
    (folder / "masks" / "._0.png").write_bytes(b"of a Mac")
    with refused(f"{folder / 'masks'} has no file that ends in one of .jpg"):
        read(folder)
    (folder / "masks" / "._0.png").unlink()
    (folder / "masks").rmdir()
    with refused(f"{folder / 'masks'} is missing"):
        read(folder)


def test_colours_and_jpeg_are_no_masks(folder) -> None:
    Image.new("RGB", (30, 20)).save(folder / "masks" / "0.png")
    with refused("0.png is a picture of mode RGB; a mask holds the number of each pixel's class. Save it as a PNG"):
        read(folder)
    (folder / "masks" / "0.png").unlink()
    Image.new("L", (30, 20)).save(folder / "masks" / "0.jpg")
    with refused("0.jpg is no PNG file. A mask needs the exact number of each pixel's class: save it as PNG."):
        read(folder)


def test_a_damaged_file_is_named(folder) -> None:
    (folder / "images" / "1.jpg").write_bytes(b"no picture")
    with refused("1.jpg can't be read as an image: "):
        read(folder)
    (folder / "masks" / "1.png").write_bytes((folder / "masks" / "2.png").read_bytes()[:40])
    with refused("1.png can't be read as a mask: "):
        read(folder)


def test_a_mask_without_a_class_is_refused(folder) -> None:
    write_mask(folder, np.full((20, 30), 255, np.uint8))
    with refused("0.png has no class: all of it is 255, which is ignored. Remove it and its image."):
        read(folder)


def test_grey_levels_are_no_classes(folder) -> None:
    write_mask(folder, np.arange(600).reshape(20, 30).astype(np.uint16))
    with refused("have the labels 0, 1, 2, 3, 4 …, 599 in all, beside 255, which is ignored"):
        read(folder)


def test_classes_are_named_once_and_not_too_many(folder) -> None:
    (folder / "classes.txt").write_text("1 sky\n1 sea\n")
    with refused("classes.txt has the label 1 more than once."):
        read(folder)
    (folder / "classes.txt").write_text("name\n" * 256)
    with refused("classes.txt has 256 classes; at most 255 are possible."):
        read(folder)


def test_a_part_without_an_image_is_refused(folder) -> None:
    with refused("the part test has none of the 10 images of "):
        read(folder, test_fraction=0.01)
