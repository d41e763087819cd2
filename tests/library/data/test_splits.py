import numpy as np
import pytest
import torch
from lightning_runs.data.splits import split_indices
from lightning_runs.errors import UserError

LABELS = np.array(["a"] * 60 + ["b"] * 30 + ["c"] * 10)


def parts(labels=None, groups=None, seed: int = 0, **folds) -> dict[str, torch.Tensor]:
    return split_indices(100, labels, groups, test_fraction=0.2, val_fraction=0.25, seed=seed, **folds)


def test_each_item_is_in_one_part_which_the_seed_chooses() -> None:
    found = parts()
    assert torch.cat([*found.values()]).sort().values.equal(torch.arange(100))
    assert [len(found[part]) for part in ("train", "val", "test")] == [60, 20, 20]
    assert parts()["test"].equal(found["test"])
    assert not parts(seed=1)["test"].equal(found["test"])


def test_each_part_has_its_share_of_each_class() -> None:
    for part, count in (("train", (36, 18, 6)), ("val", (12, 6, 2)), ("test", (12, 6, 2))):
        assert tuple(np.unique(LABELS[parts(LABELS)[part]], return_counts=True)[1]) == count


def test_a_class_of_one_item_is_in_the_training_part() -> None:
    for alone in range(100):
        labels = LABELS.copy()
        labels[alone] = "rare"
        assert alone in parts(labels)["train"]


def test_items_of_a_group_stay_together() -> None:
    groups = np.arange(100) // 5
    found = [set(groups[of]) for of in parts(groups=groups).values()]
    assert sum(map(len, found)) == len(set.union(*found)) == 20
    tested = parts(groups=groups)["test"].tolist()
    labels = np.where(np.isin(np.arange(100), tested), "tested alone", "other")
    with pytest.raises(UserError, match="leaves the class tested alone without a group"):
        parts(labels, groups)


def test_what_is_not_tested_is_held_out_in_one_fold() -> None:
    found = [parts(LABELS, num_folds=4, fold=fold) for fold in range(4)]
    assert all(of["test"].equal(found[0]["test"]) for of in found)
    every = torch.cat([found[0]["test"], *(of["val"] for of in found)])
    assert every.sort().values.equal(torch.arange(100))
