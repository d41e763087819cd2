import re
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_runs.data.classes import class_metrics, labels_from_names
from lightning_runs.data.datamodule import SplitDataModule, check_fraction, check_minimum
from lightning_runs.data.folders import print_note
from lightning_runs.data.items import Items
from lightning_runs.data.levels import Levels
from lightning_runs.errors import UserError
from torch.utils.data import DataLoader


class Numbers(SplitDataModule):
    """Has twelve numbers: eight of class 0, three of class 1, and one of class 2."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"batch_size": 2, "val_fraction": 0.25} | options)
        self.prepared = 0

    def prepare_data(self) -> None:
        self.prepared += 1

    def setup(self, stage: str) -> None:
        if self.splits:
            return
        self.known = {"class_names": ["many", "few", "one"]}
        labels = torch.tensor([0] * 8 + [1] * 3 + [2])
        items = Items(torch.arange(12.0), labels)
        parts = self.split_items(12, labels.numpy(), test_fraction=0.25)
        self.splits = {part: (items, indices) for part, indices in parts.items()}

    def loader(self, part: str) -> DataLoader:
        return DataLoader([part])  # pyright: ignore[reportArgumentType]


def prepared(**options: Any) -> Numbers:
    data = Numbers(**options)
    data.setup("fit")
    return data


def refused(text: str):
    return pytest.raises(UserError, match=re.escape(text))


def test_each_part_has_its_loader() -> None:
    for part in ("train", "val", "test", "predict"):
        assert [*getattr(prepared(), f"{part}_dataloader")()] == [[part]]
    with pytest.raises(NotImplementedError):
        SplitDataModule(1, 0.1).val_dataloader()


def test_the_validation_part_is_predicted_where_there_are_folds() -> None:
    folds = ((0, None), (None, 3), (0, 3), (2, 3))
    parts = [Numbers(fold=fold, num_folds=count).predicted_part for fold, count in folds]
    assert parts == ["test", "test", "val", "val"]


def test_what_is_known_is_what_a_checkpoint_gave() -> None:
    data = Numbers()
    assert data.state_dict() == {}
    with refused("data.predict_paths needs a trained run. Use: predict PATH --run NAME."):
        data.check_known()
    data.load_state_dict({"class_names": ["cat"]})
    data.check_known()
    assert data.known == data.state_dict() == {"class_names": ["cat"]}


def test_classes_are_known_before_the_parts_are_asked_for() -> None:
    assert Numbers().class_names == ["many", "few", "one"]
    assert Numbers().num_classes == 3


def test_items_of_each_class_are_counted_by_part() -> None:
    data = prepared()
    counts = {part: data.class_counts(part).tolist() for part in ("train", "val", "test")}
    assert torch.tensor([*counts.values()]).sum(dim=0).tolist() == [8, 3, 1]
    assert counts["train"][2] == 1


def test_weights_of_classes_follow_the_training_part() -> None:
    data = Numbers(balance="weights")
    weights = torch.tensor(data.loss_weights)
    assert data.prepared == 1
    counts = data.class_counts("train")
    assert (weights * counts).tolist() == pytest.approx([counts.sum().item() / 3] * 3)
    assert Numbers(balance="sampling").loss_weights is None
    assert Numbers().loss_weights is None


def test_the_baseline_predicts_the_most_frequent_training_class() -> None:
    data = prepared()
    labels = data.part_classes("test")
    expected = class_metrics(torch.zeros_like(labels), labels, 3)
    assert expected["accuracy"] == pytest.approx((labels == 0).float().mean().item())
    assert data.baseline() == {"most frequent class": {f"test/{name}": value for name, value in expected.items()}}


def test_the_fingerprint_follows_items_and_labels_and_no_option() -> None:
    before = Numbers().fingerprint()
    assert Numbers(split_seed=1, batch_size=5).fingerprint() == before
    for tensor in (0, 1):
        data = prepared()
        data.splits["test"][0].tensors[tensor][3] += 1
        assert data.fingerprint() != before


def test_parts_with_too_few_items_are_named() -> None:
    parts = {"train": torch.arange(5), "val": torch.arange(0), "test": torch.arange(1)}
    with refused("the part val has 0 of the 6 items of table.csv; it needs 1."):
        Numbers().check_parts(parts, "table.csv")
    Numbers(fold=None, num_folds=3).check_parts(parts, "table.csv")
    with refused("the part test has 1 of the 6 items of table.csv; it needs 2."):
        Numbers(fold=None, num_folds=3).check_parts(parts, "table.csv", minimum=2)


def test_labels_are_the_positions_of_their_names() -> None:
    assert labels_from_names(["b", "a", "b"], ["a", "b"], "table.csv").tolist() == [1, 0, 1]
    with refused("table.csv has the class c, but the model was trained with a, b."):
        labels_from_names(["a", "c"], ["a", "b"], "table.csv")


def test_items_are_gathered_and_numbered() -> None:
    items = Items(torch.arange(6).view(3, 2), torch.tensor([7, 8, 9]))
    values, labels = items[torch.tensor([2, 0])]
    assert (values.tolist(), labels.tolist()) == ([[4, 5], [0, 1]], [9, 7])
    assert items.numbered().labels.tolist() == [0, 1, 2]
    assert items.labels.tolist() == [7, 8, 9]


def test_levels_are_normalised_and_come_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 2, 128, 1)
    normalize = Levels((0.2, 0.6), (0.5, 0.1))
    numbers = normalize(levels)
    assert numbers[0, 1, 0, 0].item() == pytest.approx((128 - 0.6 * 255) / (0.1 * 255))
    assert normalize.denormalize(numbers).equal(levels)
    assert not Levels((0.2,), (0.5,))(levels).equal(numbers)


def test_the_first_process_alone_prints_a_note(capsys, monkeypatch) -> None:
    print_note("two rows are left out.")
    monkeypatch.setenv("LOCAL_RANK", "1")
    print_note("two rows are left out.")
    assert capsys.readouterr().err == "note: two rows are left out.\n"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"batch_size": 0}, "data.batch_size is 0; it must be at least 1."),
        ({"val_fraction": 1.0}, "data.val_fraction is 1.0; it must lie between 0 and 1, such as 0.1."),
        ({"num_folds": 1}, "data.fold is 0 and data.num_folds is 1; at least 2 folds are needed"),
        ({"fold": 3, "num_folds": 3}, "data.fold is 3 and data.num_folds is 3;"),
        ({"fold": -1, "num_folds": 3}, "data.fold is -1 and data.num_folds is 3;"),
    ],
)
def test_values_out_of_bounds_are_refused(options, text) -> None:
    with refused(text):
        Numbers(**options)
    Numbers(batch_size=1, val_fraction=0.5, fold=2, num_folds=3)


def test_options_of_a_subclass_are_checked_by_name() -> None:
    check_minimum("data.size", None, 4)
    check_minimum("data.size", 4, 4)
    with refused("data.size is 3; it must be at least 4."):
        check_minimum("data.size", 3, 4)
    check_fraction("data.share", 0.5)
    for share in (0.0, 1.0):
        with refused(f"data.share is {share}; it must lie between 0 and 1, such as 0.1."):
            check_fraction("data.share", share)


class Files(Items):
    """Images of one brightness each, or not, with a file for each."""

    def __init__(self, files: list[Path], images: torch.Tensor) -> None:
        super().__init__(images, torch.zeros(len(files)))
        self.files = files


def with_files(root: Path, images: torch.Tensor) -> Numbers:
    files = [root / f"{i}.png" for i in range(12)]
    for i, file in enumerate(files):
        file.write_text("same" if i in (0, 9) else f"number {i}")
    data = prepared()
    parts = {"train": torch.arange(8), "val": torch.arange(8, 10), "test": torch.arange(10, 12)}
    data.splits = {part: (Files(files, images), indices) for part, indices in parts.items()}
    return data


def test_copies_of_training_items_are_reported_once(tmp_path, capsys) -> None:
    data = with_files(tmp_path, torch.randint(0, 255, (12, 1, 2, 2), dtype=torch.uint8))
    data.train_dataloader()
    note = capsys.readouterr().err
    assert f"1 of 2 items of the part val are in training too, such as {tmp_path / '9.png'}." in note
    assert note.count("note: ") == 1
    data.train_dataloader()
    assert capsys.readouterr().err == ""


def test_images_of_a_single_value_end_the_run(tmp_path, capsys) -> None:
    images = torch.arange(12, dtype=torch.uint8)[:, None, None, None].expand(12, 3, 2, 2).clone()
    with refused(f"{tmp_path / '0.png'} and all of 8 training images that were read have a single value"):
        with_files(tmp_path, images).train_dataloader()
    images[3, 0] = 200
    with_files(tmp_path, images).train_dataloader()
    assert "note: 7 of 8 training images" in capsys.readouterr().err
