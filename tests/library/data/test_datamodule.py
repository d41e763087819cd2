from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_runs.data.batches import Items
from lightning_runs.data.datamodule import SplitDataModule
from lightning_runs.data.folders import print_note
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


def test_what_is_not_tested_is_held_out_in_one_fold() -> None:
    found = [parts(LABELS, num_folds=4, fold=fold) for fold in range(4)]
    assert all(fold["test"].equal(found[0]["test"]) for fold in found)
    every = torch.cat([found[0]["test"], *(fold["val"] for fold in found)])
    assert every.sort().values.equal(torch.arange(100))
    assert len(parts(LABELS, num_folds=4, fold=None)["val"]) == 0


def data_of(items: Any) -> Any:
    data: Any = SplitDataModule(2, 0.25)
    indices = {"train": torch.arange(8), "val": torch.arange(8, 12), "test": torch.arange(0)}
    data.splits = {part: (items, some) for part, some in indices.items()}
    return data


def test_the_fingerprint_follows_items_and_labels() -> None:
    values = torch.arange(12)
    other = values + (values == 3)
    found = [data_of(Items(*tensors)).fingerprint() for tensors in ((values, values), (other, values), (values, other))]
    assert len(set(found)) == 3
    assert data_of(Items(values, values.clone())).fingerprint() == found[0]


def test_new_items_need_what_a_checkpoint_knows() -> None:
    data = SplitDataModule(2, 0.25)
    with refused("data.predict_paths needs a trained run. Use: predict PATH --run NAME."):
        data.check_known()
    data.load_state_dict({"class_names": ["cat"]})
    data.check_known()
    assert data.state_dict() == {"class_names": ["cat"]}


def test_the_first_process_alone_prints_a_note(capsys, monkeypatch) -> None:
    print_note("two rows are left out.")
    monkeypatch.setenv("LOCAL_RANK", "1")
    print_note("two rows are left out.")
    assert capsys.readouterr().err == "note: two rows are left out.\n"


@pytest.mark.parametrize(("name", "value"), [("batch_size", 0), ("val_fraction", 1.0), ("num_folds", 1), ("fold", 3)])
def test_values_out_of_bounds_are_refused(name, value) -> None:
    options: Any = {"batch_size": 2, "val_fraction": 0.25, "num_folds": 3, name: value}
    with refused(f"data.{name} is {value}"):
        SplitDataModule(**options)


def with_files(root: Path, images: torch.Tensor) -> Any:
    items: Any = Items(images, torch.zeros(12))
    items.files = [root / f"{i}.png" for i in range(12)]
    for i, file in enumerate(items.files):
        file.write_text("same" if i in (0, 9) else f"number {i}")
    return data_of(items)


def test_copies_of_training_items_are_reported_once(tmp_path, capsys) -> None:
    data = with_files(tmp_path, torch.randint(0, 255, (12, 1, 2, 2), dtype=torch.uint8))
    data.check_items()
    data.check_items()
    note = capsys.readouterr().err
    assert f"1 of 4 items of the part val are in training too, such as {tmp_path / '9.png'}." in note
    assert note.count("note: ") == 1


def test_images_of_a_single_value_end_the_run(tmp_path) -> None:
    images = torch.arange(12, dtype=torch.uint8)[:, None, None, None].expand(12, 3, 2, 2).clone()
    with refused(f"{tmp_path / '0.png'} and all of 8 training images that were read have a single value"):
        with_files(tmp_path, images).check_items()
    images[3, 0] = 200
    with_files(tmp_path, images).check_items()
