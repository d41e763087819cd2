"""What the own data modules and models of all starts promise alike."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from pytorch_lightning import Trainer
from starts import DIGITS, MODELS, STARTS, built, data_class, prepared
from torch import nn
from toy import refused
from written_data import table_rows, text_rows, write_images, write_masks, write_table, write_texts


@pytest.fixture(scope="module")
def bundled() -> dict[str, Any]:
    return {start: prepared(start) for start in MODELS}


@pytest.mark.parametrize("start", MODELS)
def test_folds_hold_each_item_out_once_and_are_predicted(start) -> None:
    folds = [prepared(start, fold=fold, num_folds=3).splits for fold in (0, 1, 2, None)]
    held_out = [splits["val"][1] for splits in folds]
    count = len(held_out[0]) + len(folds[0]["train"][1])
    assert torch.cat(held_out).unique().numel() == sum(map(len, held_out)) == count == len(folds[3]["train"][1])
    for splits, predicted in zip(folds, [*held_out[:3], folds[0]["test"][1]], strict=True):
        assert splits["predict"][1].equal(predicted)


@pytest.mark.parametrize("start", MODELS)
def test_balance_draws_and_weighs_classes_alike(start) -> None:
    data = prepared(start, balance="weights")
    items, train = data.splits["train"]
    items.labels[train[::2]] = 0
    count = data.num_classes
    sums = torch.tensor(data.loss_weights) * data.class_counts("train")
    assert sums.tolist() == pytest.approx([len(data.part_classes("train")) / count] * count)
    if start != "masks":
        data.balance = "sampling"
        drawn = torch.cat([batch[-1] for _ in range(10) for batch in data.train_dataloader()]).bincount()
        assert (drawn / drawn.sum()).tolist() == pytest.approx([1 / count] * count, abs=0.08)
        validated = torch.cat([batch[-1] for batch in data.val_dataloader()])
        assert sorted(validated.tolist()) == sorted(items.labels[data.splits["val"][1]].tolist())


@pytest.mark.parametrize(
    ("start", "dataset", "metric", "expected"),
    [
        ("images", "digits", "accuracy", [0.1]),  # of the most frequent class
        ("masks", "digit_scenes", "mean_iou", [0.15]),
        pytest.param("table", "penguins", "f1", [0.2, 1, 1], marks=pytest.mark.slow),  # and two models of scikit-learn
        pytest.param("table", "penguin_mass", "r2", [0, 0.85, 0.9], marks=pytest.mark.slow),
        pytest.param("text", "glosses", "accuracy", [0.1, 0.7], marks=pytest.mark.slow),
    ],
)
def test_simple_models_are_measured_on_the_test_items(start, dataset, metric, expected) -> None:
    found = [metrics[f"test/{metric}"] for metrics in prepared(start, dataset=dataset).baseline().values()]
    assert found == pytest.approx(expected, abs=0.06)


WRITERS = {
    "images": (write_images, {"dataset": "image_folder"}),
    "masks": (write_masks, {"dataset": "mask_folder"}),
    "table": (lambda root: write_table(root / "a.csv", table_rows()), {"dataset": "csv_file", "target": "kind"}),
    "text": (write_texts, {"dataset": "text_folder"}),
}


def write_own(start: str, root: Path) -> dict[str, Any]:
    """Write data of the user's own; return the options that read them."""
    write, options = WRITERS[start]
    return {"root": str(write(root)), **options}


@pytest.mark.parametrize("start", MODELS)
def test_the_fingerprint_follows_the_data_and_no_option(start, tmp_path) -> None:
    options = write_own(start, tmp_path)
    before = data_class(start)(**options).fingerprint()
    assert data_class(start)(**options, split_seed=1).fingerprint() == before
    file = next(file for file in sorted(tmp_path.rglob("*")) if file.is_file())
    if start in ("images", "masks"):
        Image.new("L", Image.open(file).size, 77).save(file)
    else:
        file.write_text(file.read_text() + ("9,red,,small\n" if start == "table" else " more"))
    assert data_class(start)(**options).fingerprint() != before


@pytest.mark.parametrize("start", ["images", "masks", "text"])
def test_hidden_folders_are_left_out_and_copies_reported(start, tmp_path, capsys) -> None:
    options = write_own(start, tmp_path)
    count = len(prepared(start, **options).splits["train"][0])
    for first in [*tmp_path.rglob("0.png"), *tmp_path.rglob("00[01].txt")]:
        (first.parent / ".ipynb_checkpoints").mkdir()
        for name in (f".ipynb_checkpoints/{first.name}", *(f"copy {i}{first.suffix}" for i in range(10))):
            (first.parent / name).write_bytes(first.read_bytes())
    data = prepared(start, **options, batch_size=4)
    assert len(data.splits["train"][0]) == count + (10 if start == "masks" else 20)
    data.train_dataloader()
    assert "items of the part test are in training too, such as" in capsys.readouterr().err


@pytest.mark.parametrize("start", ["images", "masks"])
@pytest.mark.parametrize("augment", ["none", "light", "strong"])
def test_training_batches_alone_are_augmented(start, augment, bundled) -> None:
    batch = next(iter(bundled[start].train_dataloader()))
    half = batch[0].shape[3] // 2
    batch[0][:] = 16 * (torch.arange(2 * half) < half)  # the left half is bright
    data = data_class(start)(augment=augment)
    plugin = SimpleNamespace(convert_input=lambda images: images)
    data.trainer = SimpleNamespace(training=False, precision_plugin=plugin)
    plain = data.on_after_batch_transfer(batch, 0)
    assert plain[0].equal(data.levels(batch[0]))
    data.trainer.training = True
    changed = data.on_after_batch_transfer(batch, 0)
    assert changed[0].equal(plain[0]) is (augment == "none")
    assert changed[1].equal(plain[1]) is (augment == "none" or start == "images")
    left, right = (part.sum((1, 2, 3)) for part in changed[0].split(half, 3))
    assert augment == "strong" or (left > right).all()  # digits are not mirrored


ROWS = {"table": table_rows, "text": text_rows}  # of each table a new copy, which a test may change


def read_rows(start: str, file: Path, rows: list[list[str]], *form: str) -> Any:
    """The data module of a table that is written in a form, whose last column is learned."""
    options = {"dataset": "csv_file", "target": "kind"} if start == "table" else {"dataset": "csv_texts"}
    return prepared(start, root=str(write_table(file, rows, *form)), **options)


@pytest.mark.parametrize(
    ("delimiter", "end", "encoding"),
    [(",", "\n", "utf-8-sig"), (";", "\r\n", "utf-8"), ("\t", "\n", "latin-1"), ("|", "\r", "utf-16")],
)
@pytest.mark.parametrize("start", ROWS)
def test_a_table_is_the_same_whatever_program_wrote_it(start, delimiter, end, encoding, tmp_path) -> None:
    rows = ROWS[start]()
    for row in rows[1:]:
        row[1 if start == "table" else 0] += ", größer\nzwei; 3"
    expected = read_rows(start, tmp_path / "a.csv", rows).state_dict()
    if delimiter == ";" and start == "table":
        rows = [[cell.replace(".", ",") for cell in row] for row in rows]
    encoding = encoding if start == "table" else "utf-8-sig"  # texts of another encoding are refused
    found = read_rows(start, tmp_path / "b.csv", rows, delimiter, end, encoding).state_dict()
    assert {**found, "decimal": ""} == {**expected, "decimal": ""}


@pytest.mark.parametrize("start", ROWS)
def test_rows_without_a_class_or_of_a_rare_one_are_named(start, tmp_path, capsys) -> None:
    rows = ROWS[start]()
    rows[3][-1] = ""
    rows[5][-1] = "rare"
    data = read_rows(start, tmp_path / "a.csv", rows)
    notes = capsys.readouterr().err
    assert f"1 rows without a value of {rows[0][-1]} are left out" in notes
    assert "for the test: rare" in notes
    assert data.row_names[1:3] == ["a.csv:3", "a.csv:5"]
    assert 3 in data.splits["train"][1].tolist()
    for i in data.splits["test"][1].tolist():  # the training rows alone describe the data
        rows[i + 1 + (i > 1)][0] = "1000"
    assert read_rows(start, tmp_path / "b.csv", rows).state_dict() == data.state_dict()


@pytest.mark.parametrize("start", ROWS)
def test_too_few_rows_and_unknown_classes_are_refused(start, tmp_path) -> None:
    rows = ROWS[start]()
    file = tmp_path / "a.csv"
    with refused(f"the part val has 1 of the 4 items of {file}; it needs 2."):
        read_rows(start, file, rows[:5])
    data = read_rows(start, file, rows)
    rows[3][-1] = "another"
    write_table(file, rows)
    data.splits = {}
    with refused(f"{file} has the class another, but the model was trained with"):
        data.setup("test")


@pytest.mark.parametrize(("start", "option"), [*((m, "loss_weights") for m in MODELS), ("images", "label_smoothing")])
def test_options_of_the_loss_are_in_that_of_training_alone(start, option, bundled) -> None:
    data = bundled[start]
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    losses = []
    values = {"loss_weights": [0.1, *[1.0] * (data.num_classes - 2), 3.0], "label_smoothing": 0.1}
    for options in ({}, {option: values[option]}):
        model = built(start, data, **options)
        assert "loss_weights" not in model.state_dict()
        trainer = Trainer(accelerator="cpu", logger=False, limit_val_batches=2, enable_progress_bar=False)
        [metrics] = trainer.validate(model, datamodule=data, verbose=False)
        model.trainer = SimpleNamespace(is_last_batch=False, log_every_n_steps=1000, global_step=0)
        model.log = lambda *_, **__: None
        losses.append((model.training_step(batch, 0).item(), metrics["val/loss"]))
    data.trainer = None
    assert losses[0][0] != pytest.approx(losses[1][0])
    assert losses[0][1] == losses[1][1]


def test_a_schedule_may_follow_epochs(bundled) -> None:
    schedule = torch.optim.lr_scheduler.ConstantLR
    model = built("images", bundled["images"], scheduler=schedule, scheduler_interval="epoch")
    assert model.configure_optimizers()["lr_scheduler"]["interval"] == "epoch"


@pytest.mark.parametrize(
    ("start", "network", "text"),
    [
        ("images", lambda *_: nn.Flatten(), "the network's output is (64, 64), but there are 10 classes."),
        ("masks", lambda *_: nn.Conv2d(1, 2, 3), "the shape (16, 2, 30, 30); logits must be (16, 6, 32, 32)."),
        ("text", lambda size, _: nn.Embedding(size, 7), ", 7), but there are 10 classes."),
    ],
)
def test_an_output_that_does_not_fit_is_refused(start, network, text, bundled) -> None:
    data = bundled[start]
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    with refused(text):
        built(start, data, network=network)(batch[0])


def test_files_that_starts_share_are_the_same() -> None:
    for name in (DIGITS.name, "callbacks.py"):
        assert len({file.read_bytes() for file in STARTS.glob(f"*/src/*/{name}")}) == 1
