from typing import Any

import numpy as np
import pytest
import torch
from lightning_runs.data.batches import Items
from lightning_runs.data.datamodule import SplitDataModule
from toy import refused

LABELS = np.array(["a"] * 60 + ["b"] * 30 + ["c"] * 10)


def parts(labels=None, groups=None, seed: int = 0, **folds) -> dict[str, torch.Tensor]:
    return SplitDataModule(8, 0.25, seed, **folds).split_items(100, labels, groups, test_fraction=0.2)


@pytest.mark.parametrize("labels", [None, LABELS])
def test_each_item_is_in_one_part_which_the_seed_chooses(labels) -> None:
    found = parts(labels)
    assert torch.cat([*found.values()]).sort().values.equal(torch.arange(100))
    assert [len(found[part]) for part in ("train", "val", "test")] == [60, 20, 20]
    assert parts(labels)["test"].equal(found["test"])
    assert not parts(labels, seed=1)["test"].equal(found["test"])


def test_each_part_has_its_share_of_each_class() -> None:
    for part, count in (("train", (36, 18, 6)), ("val", (12, 6, 2)), ("test", (12, 6, 2))):
        assert tuple(np.unique(LABELS[parts(LABELS)[part]], return_counts=True)[1]) == count
    for alone in range(100):  # a class of one item is for training
        labels = LABELS.copy()
        labels[alone] = "rare"
        assert alone in parts(labels)["train"]


def test_items_of_a_group_stay_together() -> None:
    groups = np.arange(100) // 5
    found = [set(groups[part]) for part in parts(groups=groups).values()]
    assert sum(map(len, found)) == len(set.union(*found)) == 20
    tested = parts(groups=groups)["test"].tolist()
    labels = np.where(np.isin(np.arange(100), tested), "tested alone", "other")
    with refused("leaves the class tested alone without a group"):
        parts(labels, groups)


def test_new_items_need_what_a_checkpoint_knows() -> None:
    data = SplitDataModule(2, 0.25)
    with refused("data.predict_paths needs a trained run. Use: predict PATH --run NAME."):
        data.check_known()
    data.load_state_dict({"class_names": ["cat"]})
    data.check_known()
    assert data.state_dict() == {"class_names": ["cat"]}


WRONG = [("batch_size", 0), ("val_fraction", 0.0), ("val_fraction", 1.0), ("num_folds", 1), ("fold", 3)]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_values_out_of_bounds_are_refused(name, value) -> None:
    options: Any = {"batch_size": 2, "val_fraction": 0.25, "num_folds": 3, name: value}
    with refused(f"data.{name} is {value}"):
        SplitDataModule(**options)


@pytest.mark.parametrize("brightest", [0, 15])
def test_images_of_a_single_value_or_all_dark_end_the_run(tmp_path, brightest) -> None:
    step = 1 if brightest else 20  # dark ones of two values, or bright ones of one
    images = torch.arange(0, 12 * step, step, dtype=torch.uint8)[:, None, None, None].expand(12, 3, 2, 2).clone()
    images[:, 0] = images[:, 0].clamp(min=brightest)
    data: Any = SplitDataModule(2, 0.25)
    items: Any = Items(images, torch.zeros(12))
    items.files = [tmp_path / f"{i}.png" for i in range(12)]
    for file in items.files:
        file.write_text(file.name)
    data.splits = {"train": (items, torch.arange(8)), "val": (items, torch.arange(8, 12))}
    with refused(f"{tmp_path / '0.png'} and all of 8 training images that were read have a single value"):
        data.check_items()
    images[3, 0] = 200
    data.check_items()
