"""The start's own classes, and the base of its data module."""

import json
import re
from typing import Any, cast

import numpy as np
import pytest
import torch
from lightning_runs.errors import UserError
from starts import STARTS, start_module
from torch.nn import functional
from written_tables import COLOURS, DataModule, prepared, read, rows, rows_with, write

Standardize = start_module("table", "network").Standardize
TableModel = start_module("table", "module").TableModel
TableNet = start_module("table", "network").TableNet
BUNDLED = ("penguins", "penguin_mass")


def refused(text: str):
    return pytest.raises(UserError, match=re.escape(text))


def built(dataset: str, **options: Any):
    torch.manual_seed(0)
    data = prepared(dataset=dataset)
    return TableModel(data.facts, network=TableNet, optimizer=torch.optim.AdamW, **options).eval(), data


# ---- Data


@pytest.mark.parametrize("dataset", BUNDLED)
def test_batches_have_the_promised_shapes(dataset) -> None:
    data = prepared(dataset=dataset, batch_size=8)
    sizes = Standardize(data.facts["columns"])
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        numbers, words, targets = next(iter(loader))
        assert (numbers.shape, numbers.dtype) == ((8, sizes.num_numbers), torch.float32)
        assert words.shape == (8, len(sizes.vocabulary_sizes))
        assert bool(numbers.isfinite().all())
        assert bool((words < torch.tensor(sizes.vocabulary_sizes)).all())
        assert targets.dtype == (torch.int64 if dataset == "penguins" else torch.float32)
    columns, *inputs, index = next(iter(data.predict_dataloader()))
    assert all(found.equal(expected) for found, expected in zip(sizes(columns), inputs, strict=True))
    assert index.equal(data.splits["test"][1][:8])


def test_parts_share_the_penguins_of_each_species() -> None:
    data = prepared()
    assert data.class_names == ["Adelie", "Chinstrap", "Gentoo"]
    every = torch.cat([data.splits[part][1] for part in ("train", "val", "test")])
    assert every.sort().values.equal(torch.arange(344))
    counts = {part: data.class_counts(part).tolist() for part in ("train", "val", "test")}
    assert counts == {"train": [98, 43, 79], "val": [24, 11, 20], "test": [30, 14, 25]}


def test_rows_without_a_target_are_left_out_and_counted(tmp_path, capsys) -> None:
    assert len(prepared(dataset="penguin_mass").splits["train"][0]) == 342
    assert "2 rows without a value of body_mass_g" in capsys.readouterr().err
    data = read(write(tmp_path / "a.csv", rows_with(3, "", slice(1, 11))))
    assert len(data.splits["train"][0]) == 50
    assert data.row_names[0] == "a.csv:12"


def test_a_split_depends_on_its_own_seed_alone() -> None:
    test = prepared(seed=0).splits["test"][1]
    assert prepared(seed=1).splits["test"][1].equal(test)
    assert not prepared(split_seed=1).splits["test"][1].equal(test)


def test_folds_hold_each_row_out_once_and_are_predicted(tmp_path) -> None:
    file = write(tmp_path / "a.csv", rows_with(3, "rare", slice(5, 7)))
    for seed in range(4):
        folds = [read(file, num_folds=3, fold=fold, split_seed=seed) for fold in (0, 1, 2, None)]
        tested = folds[0].splits["test"][1]
        assert all(data.splits["test"][1].equal(tested) for data in folds)
        assert all(data.class_names == ["large", "rare", "small"] for data in folds)
        held_out = [data.splits["val"][1] for data in folds]
        assert len(set(torch.cat(held_out).tolist())) == sum(map(len, held_out))
        parts = [data.splits["predict"][1] for data in folds]
        assert all(part.equal(expected) for part, expected in zip(parts, [*held_out[:3], tested], strict=True))


def test_balance_draws_and_weighs_classes_alike() -> None:
    data = prepared(balance="sampling")
    drawn = torch.cat([batch[-1] for _ in range(20) for batch in data.train_dataloader()]).bincount() / (20 * 13 * 16)
    assert drawn.tolist() == pytest.approx([1 / 3] * 3, abs=0.05)
    weights = torch.tensor(prepared(balance="weights").loss_weights)
    counts = data.class_counts("train")
    assert (weights * counts).tolist() == pytest.approx([counts.sum().item() / 3] * 3)
    with refused("data.balance is weights, but body_mass_g is a number"):
        prepared(dataset="penguin_mass", balance="weights")


def test_rows_of_a_group_stay_in_one_part(tmp_path) -> None:
    lines = [[*line, f"patient {i % 12}" if i else "patient"] for i, line in enumerate(rows())]
    data = read(write(tmp_path / "a.csv", lines), group="patient")
    patients = np.array([line[4] for line in lines[1:]])
    parts = [set(patients[data.splits[part][1]]) for part in ("train", "val", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 12
    assert "patient" not in data.facts["columns"]


def test_numbers_are_standardised_and_a_missing_one_is_marked(tmp_path) -> None:
    data = read(write(tmp_path / "a.csv", rows()))
    indices = data.splits["train"][1]
    numbers, words, _ = data.splits["train"][0][indices]
    assert numbers[:, 0].mean().item() == pytest.approx(0, abs=1e-5)
    assert numbers[:, 0].std(correction=0).item() == pytest.approx(1, abs=1e-5)
    missing = torch.tensor([i % 7 == 0 for i in indices.tolist()])
    assert numbers[:, 2].bool().equal(missing)
    assert bool((numbers[missing, 1] == 0).all())
    assert [sorted(COLOURS)[i - 1] for i in words[:, 0].tolist()] == [COLOURS[i % 3] for i in indices.tolist()]


def test_the_state_reads_new_rows_where_the_table_is_gone(tmp_path) -> None:
    data = read(write(tmp_path / "a.csv", rows()))
    new = write(tmp_path / "new.csv", [["weight", "size", "colour"], ["", "10", "red"], ["100", "7", "violet"]])
    other = DataModule("csv_file", root="gone.csv", target="kind", predict_paths=[str(new)])
    with refused("data.predict_paths"):
        other.setup("predict")
    other.load_state_dict(json.loads(json.dumps(data.state_dict())))
    other.setup("predict")
    columns, _, words, _ = next(iter(other.predict_dataloader()))
    assert columns.nan_to_num(-1).tolist() == [[10, 3, -1], [7, 0, 100]]
    assert words.tolist() == [[3], [0]]
    assert other.predict_paths == [f"{new}:2", f"{new}:3"]
    assert other.class_names == ["large", "small"]


def test_a_class_of_one_row_is_trained_and_not_tested(tmp_path, capsys) -> None:
    data = read(write(tmp_path / "a.csv", rows_with(3, "rare", slice(5, 6))))
    assert data.class_names == ["large", "rare", "small"]
    assert 4 in data.splits["train"][1]
    assert "rows for the test: rare" in capsys.readouterr().err


def test_too_few_rows_are_refused(tmp_path) -> None:
    file = write(tmp_path / "a.csv", rows(4))
    with refused(f"the part val has 1 of the 4 items of {file}; it needs 2."):
        read(file)
    with refused("data.batch_size is 100, but there are only 38 items"):
        read(write(tmp_path / "a.csv", rows()), batch_size=100).train_dataloader()


def test_another_table_has_another_fingerprint(tmp_path) -> None:
    before = read(write(tmp_path / "a.csv", rows())).fingerprint()
    assert read(write(tmp_path / "a.csv", rows()), split_seed=1).fingerprint() == before
    assert read(write(tmp_path / "a.csv", rows(61))).fingerprint() != before


def test_ten_thousand_columns_are_read(tmp_path) -> None:
    values = np.char.mod("%.2f", np.random.default_rng(0).normal(size=(20, 10_000)))
    lines = [[f"c{i}" for i in range(10_000)] + ["kind"], *([*line, "ab"[i % 2]] for i, line in enumerate(values))]
    assert Standardize(read(write(tmp_path / "a.csv", lines)).facts["columns"]).num_numbers == 10_000


# ---- Model


@pytest.mark.parametrize(("num_numbers", "sizes"), [(3, [4, 2]), (3, []), (0, [5])])
@pytest.mark.parametrize("num_outputs", [1, 4])
def test_members_of_an_ensemble_learn_apart(num_numbers, sizes, num_outputs) -> None:
    torch.manual_seed(0)
    network = TableNet(num_numbers, sizes, num_outputs, dropout=0.0)
    numbers = torch.randn(16, num_numbers)
    words = torch.randint(0, 2, (16, len(sizes)))
    outputs = network(numbers, words)
    assert outputs.shape == (16 * 8, num_outputs)
    members = outputs.view(16, 8, num_outputs)
    assert members.std(dim=1).min() > 0
    torch.testing.assert_close(network.eval()(numbers, words), members.mean(dim=1))


def test_weights_of_classes_are_in_the_loss_of_training_alone() -> None:
    model, data = built("penguins", loss_weights=[1.0, 2.0, 5.0])
    batch = next(iter(data.train_dataloader()))
    outputs = model(*batch[:2])
    weighted = functional.cross_entropy(outputs, batch[2], torch.tensor([1.0, 2.0, 5.0])).item()
    assert model.training_step(batch, 0).item() == pytest.approx(weighted)
    plain = functional.cross_entropy(outputs, batch[2]).item()
    assert plain != pytest.approx(weighted)
    model.validation_step(batch, 0)
    assert cast(Any, model).val_metrics["loss"].compute().item() == pytest.approx(plain)
    assert "loss_weights" not in model.state_dict()


def test_a_number_is_predicted_and_measured_in_its_own_unit() -> None:
    model, data = built("penguin_mass")
    batch = next(iter(data.val_dataloader()))
    model.validation_step(batch, 0)
    grams = batch[2] * data.facts["std"] + data.facts["mean"]
    with torch.inference_mode():
        predicted = model.predict_step((None, *batch[:2], torch.arange(16)), 0)["prediction"]
    assert 2500 < grams.mean() < 6500
    rmse = (predicted - grams).square().mean().sqrt().item()
    assert model.val_metrics["rmse"].compute().item() == pytest.approx(rmse, rel=1e-4)
    assert model.headline == ("rmse", "min", "")
    assert built("penguins")[0].headline == ("accuracy", "max", "%")


def test_the_callback_counts_batches_after_the_first(capsys, monkeypatch) -> None:
    callbacks = start_module("table", "callbacks")
    seconds = iter((0.0, 0.5))
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: next(seconds))
    callback = callbacks.BatchSpeed(skip_batches=1)
    trainer = cast(Any, type("Trainer", (), {"is_global_zero": True}))
    for number in range(4):
        callback.on_test_batch_start(trainer, None, None, number)
    callback.on_test_epoch_end(trainer, None)
    assert "6 batches per second" in capsys.readouterr().out
    assert len({file.read_text() for file in STARTS.glob("*/src/*/callbacks.py")}) == 1
