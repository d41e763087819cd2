import re
from typing import Any

import pytest
import torch
from lightning_runs.data.datamodule import SplitDataModule
from lightning_runs.data.levels import Levels
from lightning_runs.errors import UserError
from torch.utils.data import DataLoader


class Named(SplitDataModule):
    """Yields the name of the part."""

    def loader(self, part: str) -> DataLoader:
        return DataLoader([part])  # pyright: ignore[reportArgumentType]


def built(**options: Any) -> Named:
    return Named(**{"least": {}, "fold": 0, "num_folds": None} | options)


def test_each_part_has_its_loader() -> None:
    for part in ("train", "val", "test", "predict"):
        assert [*getattr(built(), f"{part}_dataloader")()] == [[part]]
    with pytest.raises(NotImplementedError):
        SplitDataModule({}, None, None).train_dataloader()


def test_the_part_for_validation_is_predicted_where_there_are_folds() -> None:
    parts = [built(fold=fold, num_folds=count).predicted for fold, count in ((0, None), (None, 3), (0, 3), (2, 3))]
    assert parts == ["test", "test", "val", "val"]


def test_what_is_known_is_what_a_checkpoint_gave() -> None:
    data = built()
    assert data.state_dict() == {}
    data.load_state_dict({"class_names": ["cat"]})
    assert data.known == data.state_dict() == {"class_names": ["cat"]}


def test_levels_are_normalised_and_come_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 2, 128, 1)
    of = Levels((0.2, 0.6), (0.5, 0.1))
    numbers = of.normalize(levels)
    assert numbers[0, 1, 0, 0].item() == pytest.approx((128 - 0.6 * 255) / (0.1 * 255))
    assert of.denormalize(numbers).equal(levels)
    assert not Levels((0.2,), (0.5,)).normalize(levels).equal(numbers)


def test_a_note_is_printed(capsys) -> None:
    built().tell("two rows are left out.")
    assert capsys.readouterr().err == "note: two rows are left out.\n"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"least": {"batch_size": (0, 1)}}, "data.batch_size is 0; it must be at least 1."),
        ({"share": 1.0}, "data.share is 1.0; it must lie between 0 and 1, such as 0.1."),
        ({"share": 0.0}, "data.share is 0.0; it must lie between 0 and 1, such as 0.1."),
        ({"num_folds": 1}, "data.fold is 0 of data.num_folds 1; of at least 2 folds, the first is 0."),
        ({"fold": 3, "num_folds": 3}, "data.fold is 3 of data.num_folds 3; of at least 2 folds, the first is 0."),
        ({"fold": -1, "num_folds": 3}, "data.fold is -1 of data.num_folds 3; of at least 2 folds, the first is 0."),
    ],
)
def test_values_out_of_bounds_are_refused(options, text) -> None:
    with pytest.raises(UserError, match=re.escape(text)):
        built(**options)
    built(least={"batch_size": (1, 1), "num_workers": (None, 0)}, share=0.5, fold=2, num_folds=3)
