import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_runs.tables import reading
from {{ cookiecutter.__package }}.data import DataModule
from {{ cookiecutter.__package }}.datasets import SOURCES
from lightning_runs.tables.reading import read_table
from {{ cookiecutter.__package }}.network import Standardize
from lightning_runs.errors import UserError

COLOURS = ("red", "green", "blue")


def rows(count: int = 60) -> list[list[str]]:
    """Lines of a table: a number, a word, a number with missing values, and a class that follows from them."""
    random = np.random.default_rng(0)
    lines = [["size", "colour", "weight", "kind"]]
    for i in range(count):
        size, colour = random.normal(10, 3), COLOURS[i % 3]
        weight = "" if i % 7 == 0 else f"{random.normal(100, 20):.2f}"
        lines.append([f"{size:.3f}", colour, weight, "large" if size > 10 else "small"])
    return lines


def written(file: Path, lines: list[list[str]], delimiter: str = ",", end: str = "\n", encoding: str = "utf-8") -> Path:
    file.write_bytes("".join(delimiter.join(line) + end for line in lines).encode(encoding))
    return file


def table(file: Path, target: str = "kind", **options) -> DataModule:
    data = DataModule("csv_file", root=str(file), target=target, **options)
    data.setup("fit")
    return data


def bundled(**options) -> DataModule:
    data = DataModule(**options)
    data.setup("fit")
    return data


def refused(text: str):
    return pytest.raises(UserError, match=re.escape(text))


@pytest.mark.parametrize("dataset", [name for name, (file, *_) in SOURCES.items() if file])
def test_bundled_tables_are_read_into_batches_of_the_promised_shape(dataset) -> None:
    data = bundled(dataset=dataset, batch_size=8)
    sizes = Standardize(data.facts["columns"])
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        numbers, words, targets = next(iter(loader))
        assert numbers.shape == (8, sizes.num_numbers)
        assert words.shape == (8, len(sizes.vocabulary_sizes))
        assert numbers.dtype == torch.float32
        assert bool(numbers.isfinite().all())
        assert bool((words < torch.tensor(sizes.vocabulary_sizes)).all())
        assert targets.dtype == (torch.int64 if dataset == "penguins" else torch.float32)
    columns, index, *_ = next(iter(data.predict_dataloader()))
    assert columns.shape == (8, len(data.facts["columns"]))
    assert index.equal(data.splits["test"][1][:8])


def test_penguins_are_all_there_and_share_out_their_species() -> None:
    data = bundled()
    assert data.class_names == ["Adelie", "Chinstrap", "Gentoo"]
    every = torch.cat([data.splits[part][1] for part in ("train", "val", "test")])
    assert every.sort().values.equal(torch.arange(344))
    targets = data.splits["train"][0].tensors[2]
    counts = {part: targets[data.splits[part][1]].bincount().tolist() for part in ("train", "val", "test")}
    assert counts == {"train": [98, 43, 79], "val": [24, 11, 20], "test": [30, 14, 25]}


def test_penguins_without_a_mass_are_left_out_and_counted(capsys) -> None:
    data = bundled(dataset="penguin_mass")
    assert "2 rows without a value of body_mass_g are left out" in capsys.readouterr().err
    assert len(data.splits["train"][0]) == 342
    assert data.class_names is None


def test_split_depends_on_its_own_seed_and_not_on_that_of_the_run() -> None:
    test = bundled(seed=0).splits["test"][1]
    assert bundled(seed=1).splits["test"][1].equal(test)
    assert not bundled(split_seed=1).splits["test"][1].equal(test)


def test_every_row_that_is_not_tested_is_for_validation_in_one_of_the_folds() -> None:
    folds = [bundled(num_folds=5, fold=fold).splits for fold in range(5)]
    tested = bundled().splits["test"][1]
    assert all(splits["test"][1].equal(tested) for splits in folds)
    of_val = [splits["val"][1] for splits in folds]
    assert torch.cat([*of_val, tested]).sort().values.equal(torch.arange(344))
    assert max(map(len, of_val)) - min(map(len, of_val)) <= 1


def test_a_fold_predicts_its_part_for_validation_and_without_a_fold_all_rows_are_trained() -> None:
    data, whole = bundled(num_folds=3, fold=1), bundled(num_folds=3, fold=None)
    index = torch.cat([batch[1] for batch in data.predict_dataloader()])
    assert index.equal(data.splits["val"][1])
    assert [len(whole.splits[part][1]) for part in ("train", "val", "test")] == [275, 0, 69]
    assert whole.splits["predict"][1].equal(whole.splits["test"][1])


def test_the_test_rows_are_the_same_in_every_fold_though_a_class_is_rare(tmp_path) -> None:
    file = written(tmp_path / "a.csv", lines_with(3, "rare", slice(5, 7)))
    for seed in range(8):
        folds = [table(file, num_folds=3, fold=fold, split_seed=seed) for fold in (0, 1, 2, None)]
        assert all(data.splits["test"][1].equal(folds[0].splits["test"][1]) for data in folds)
        assert all(data.class_names == ["large", "rare", "small"] for data in folds)
        of_val = torch.cat([data.splits["val"][1] for data in folds])
        assert len(set(of_val.tolist())) == len(of_val)


def test_each_class_has_its_share_of_the_validation_rows() -> None:
    data = bundled(val_fraction=0.25)
    targets = data.splits["val"][0].tensors[2]
    rest, val = torch.cat([data.splits["train"][1], data.splits["val"][1]]), data.splits["val"][1]
    assert bool(((targets[val].bincount() - 0.25 * targets[rest].bincount()).abs() < 1).all())


def test_rare_species_are_drawn_as_often_and_weigh_more() -> None:
    data = bundled(dataset="penguins", balance="sampling")
    drawn = torch.cat([batch[-1] for _ in range(20) for batch in data.train_dataloader()]).bincount() / (20 * 13 * 16)
    assert drawn.tolist() == pytest.approx([1 / 3] * 3, abs=0.05)
    assert data.loss_weights is None

    weights = bundled(dataset="penguins", balance="weights").loss_weights
    assert weights is not None
    rows, indices = data.splits["train"]
    counts = rows.tensors[-1][indices].bincount()
    assert (weights * counts).tolist() == pytest.approx([len(indices) / 3] * 3)


def test_rows_of_a_group_stay_in_one_part(tmp_path) -> None:
    lines = [[*line, f"patient {i % 12}" if i else "patient"] for i, line in enumerate(rows())]
    data = table(written(tmp_path / "a.csv", lines), group="patient")
    patients = np.array([line[4] for line in lines[1:]])
    parts = {part: set(patients[data.splits[part][1]]) for part in ("train", "val", "test")}
    assert sum(map(len, parts.values())) == len(set.union(*parts.values())) == 12
    assert "patient" not in data.facts["columns"]


def test_statistics_and_words_come_from_the_training_rows_alone(tmp_path) -> None:
    lines = rows()
    data = table(written(tmp_path / "a.csv", lines))
    tested = data.splits["test"][1].tolist()
    for i in tested:
        lines[i + 1][0] = "1000"
        lines[i + 1][1] = "violet"
    other = table(written(tmp_path / "b.csv", lines))
    assert other.splits["test"][1].tolist() == tested
    assert other.facts["columns"] == data.facts["columns"]
    train = np.array([float(line[0]) for line in lines[1:]])[data.splits["train"][1]]
    assert data.facts["columns"]["size"]["mean"] == pytest.approx(train.mean(), rel=1e-6)


def test_standardised_numbers_have_mean_0_and_a_missing_one_is_marked(tmp_path) -> None:
    data = table(written(tmp_path / "a.csv", rows()))
    indices = data.splits["train"][1]
    numbers, words, _ = data.splits["train"][0][indices]
    assert numbers[:, 0].mean().item() == pytest.approx(0, abs=1e-5)
    assert numbers[:, 0].std(correction=0).item() == pytest.approx(1, abs=1e-5)
    missing = torch.tensor([i % 7 == 0 for i in indices.tolist()])
    assert numbers[:, 2].bool().equal(missing)
    assert bool((numbers[missing, 1] == 0).all())
    assert [sorted(COLOURS)[i - 1] for i in words[:, 0].tolist()] == [COLOURS[i % 3] for i in indices.tolist()]


def test_the_state_is_plain_and_reads_a_new_table_where_the_old_one_is_gone(tmp_path) -> None:
    data = table(written(tmp_path / "a.csv", rows()))
    state = json.loads(json.dumps(data.state_dict()))
    new = written(tmp_path / "new.csv", [["weight", "size", "colour"], ["", "10", "red"], ["100", "7", "violet"]])
    other = DataModule("csv_file", root="gone.csv", target="kind", predict_paths=[str(new)])
    other.load_state_dict(state)
    other.setup("predict")
    columns, _, _, words = next(iter(other.predict_dataloader()))
    assert columns.nan_to_num(-1).tolist() == [[10, 3, -1], [7, 0, 100]]
    assert words.tolist() == [[3], [0]]
    assert other.predict_paths == [f"{new}:2", f"{new}:3"]
    assert other.class_names == ["large", "small"]
    with refused("new rows are predicted by a run: predict PATH --run NAME"):
        DataModule("csv_file", predict_paths=[str(new)]).setup("predict")


def test_unknown_words_and_missing_columns_are_told(tmp_path, capsys) -> None:
    known = {"size": {"mean": 0.0, "std": 1.0, "missing": False}, "colour": {"words": ["red"]}}
    file = written(tmp_path / "new.csv", [["size", "colour"], ["1", "red"], ["2", "pink"]])
    inputs.encode(read_table(file), known, tell=True)
    assert capsys.readouterr().err == f"note: {file}: the model knows no colour pink, and takes it as unknown.\n"
    with refused("lacks columns that the model was trained with: weight."):
        inputs.encode(read_table(file), {**known, "weight": known["size"]})
    with refused(f"the column colour must have numbers alone. {file}:2 has 'red', which is no number."):
        inputs.encode(read_table(file), {"colour": known["size"]})


def test_new_rows_are_read_as_an_exported_model_takes_them(tmp_path) -> None:
    data = table(written(tmp_path / "a.csv", rows()))
    facts = {**data.facts, "inputs": [{"name": "columns", "dtype": "float32", "shape": ["batch", 3]}]}
    new = written(tmp_path / "new.csv", [["size", "colour", "weight"], ["10", "red", ""], ["7", "blue", "100"]])
    (name, first), (_, second) = inputs.read([new], facts)
    assert name == f"{new}:2"
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert second["columns"].tolist() == [7, 1, 100]
    assert np.isnan(first["columns"][2])
    with refused("and no rows of a table"):
        next(inputs.read([new], {"inputs": []}))


def test_standardising_is_the_same_inside_an_exported_model(tmp_path) -> None:
    data = table(written(tmp_path / "a.csv", rows()))
    columns, _, numbers, words = next(iter(data.predict_dataloader()))
    found = Standardize(data.facts["columns"])(columns)
    assert found[0].equal(numbers)
    assert found[1].equal(words)


# ---- What a user's file may be like


@pytest.mark.parametrize(
    ("delimiter", "end", "encoding"),
    [
        (",", "\n", "utf-8-sig"),
        (";", "\r\n", "utf-8"),
        ("\t", "\n", "latin-1"),
        ("|", "\r", "utf-8"),
        (";", "\r\n", "utf-16"),
    ],
)
def test_a_table_is_the_same_whatever_program_wrote_it(tmp_path, delimiter, end, encoding) -> None:
    plain = [[*line, "größe" if i else "à la carte"] for i, line in enumerate(rows())]
    other = [[cell.replace(".", ",") if delimiter == ";" else cell for cell in line] for line in plain]
    expected = table(written(tmp_path / "a.csv", plain))
    found = table(written(tmp_path / "b.csv", other, delimiter, end, encoding))
    assert found.state_dict() == expected.state_dict()


def test_quoted_cells_may_have_delimiters_and_line_ends(tmp_path) -> None:
    file = tmp_path / "a.csv"
    with file.open("w", newline="") as stream:
        csv.writer(stream, quoting=csv.QUOTE_ALL).writerows([["a;b;c", "d"], ["1,5;2", "two\nlines"], ["", "NA"]])
    found = read_table(file)
    assert found.columns["a;b;c"].tolist() == ["1,5;2", ""]
    assert found.columns["d"].tolist() == ["two\nlines", ""]
    assert found.rows.tolist() == [f"{file}:3", f"{file}:4"]


def lines_with(column: int, value: str, where: slice = slice(1, None)) -> list[list[str]]:
    lines = rows()
    for line in lines[where]:
        line[column] = value
    return lines


def test_a_ragged_row_is_named(tmp_path) -> None:
    lines = rows()
    lines[7].append("more")
    with refused("a.csv, line 8 has 5 values, but there are 4 columns."):
        table(written(tmp_path / "a.csv", lines))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is no table: it must have a line of names"),
        ("a,b\n", "is no table: it must have a line of names"),
        ("a\n1\n", "is no table: it must have a line of names"),
        ("a,a\n1,2\n", "has more than one column with the name a"),
        ('a,b\n"' + "x" * 200_000 + '",2\n', "line 2 can't be read: field larger than field limit"),
    ],
)
def test_what_is_no_table_is_told(tmp_path, text, told) -> None:
    file = tmp_path / "a.csv"
    file.write_text(text)
    with refused(told):
        table(file)


def test_a_file_that_is_not_there_is_named(tmp_path) -> None:
    with refused(f"{tmp_path} is no file. Give the path of a CSV file"):
        table(tmp_path)


def test_columns_that_tell_nothing_are_left_out_and_named(tmp_path, capsys) -> None:
    lines = [[*line, f"name {i}", "same", "", "5"] for i, line in enumerate(rows())]
    lines[0][4:] = ["who", "all", "none", "five"]
    data = table(written(tmp_path / "a.csv", lines))
    assert list(data.facts["columns"]) == ["size", "colour", "weight"]
    told = capsys.readouterr().err
    assert "who (no word is there twice), all (it has one value), none (it has one value), five (it has one" in told


def test_columns_of_numbers_with_few_words_are_named(tmp_path, capsys) -> None:
    lines = [[*line, *(map(str, (i % 5, i % 3, i % 2)) if i else "abc")] for i, line in enumerate(rows())]
    lines[9][0] = lines[9][4] = "k.A."
    lines[3][5] = lines[4][5] = "-"
    for line in lines[5:18]:
        line[6] = "many"
    file = written(tmp_path / "a.csv", lines)
    few = "columns of numbers with few words are read as words: "
    table(file)
    told = f"a.csv: {few}size (59 numbers and k.A.), a (59 numbers and k.A.), b (58 numbers and -). Leave such"
    assert told in capsys.readouterr().err
    table(written(tmp_path / "b.csv", rows()))
    assert few not in capsys.readouterr().err


@pytest.mark.parametrize("date", ["2024-01-31", "31.1.2024", "1/31/24 12:00", "2024-01-31T12:00:05Z", "Jan 1 2000"])
def test_dates_are_told_to_be_not_supported(tmp_path, date) -> None:
    file = written(tmp_path / "a.csv", lines_with(1, date))
    with refused(f"colour has dates, such as {date}, which are not supported. Leave it out with --data.ignore"):
        table(file)
    assert "colour" not in table(file, ignore=["colour"]).facts["columns"]


def test_rows_without_a_target_are_left_out_and_counted(tmp_path, capsys) -> None:
    data = table(written(tmp_path / "a.csv", lines_with(3, "", slice(1, 11))))
    assert len(data.splits["train"][0]) == 50
    assert "10 rows without a value of kind are left out" in capsys.readouterr().err
    assert data.row_names[0].endswith("a.csv:12")


def test_a_class_of_one_row_is_trained_and_not_tested(tmp_path, capsys) -> None:
    data = table(written(tmp_path / "a.csv", lines_with(3, "rare", slice(5, 6))))
    assert data.class_names == ["large", "rare", "small"]
    assert 4 in data.splits["train"][1]
    assert "too few rows to be tested: rare" in capsys.readouterr().err


def test_ten_thousand_columns_are_read(tmp_path) -> None:
    random = np.random.default_rng(0)
    values = np.char.mod("%.2f", random.normal(size=(20, 10_000)))
    lines = [[f"c{i}" for i in range(10_000)] + ["kind"], *([*line, "ab"[i % 2]] for i, line in enumerate(values))]
    data = table(written(tmp_path / "a.csv", lines))
    assert Standardize(data.facts["columns"]).num_numbers == 10_000


@pytest.mark.parametrize(
    ("column", "value", "options", "told"),
    [
        (3, "same", {}, "the target kind has 1 value in"),
        (3, "same", {"target": "knid"}, "data.target is knid; choose a column of"),
        (3, "same", {"target": None}, "such as size, colour, weight, kind."),
        (3, "same", {"ignore": ["hue"]}, "data.ignore is hue; choose a column"),
        (0, "1", {"kind": "number"}, "data.kind is number, but kind has words. Leave out --data.kind"),
        (3, "large", {"target": "size", "kind": "class"}, "these are no classes. Choose another --data.target"),
        (0, "1", {"ignore": ["colour", "weight"]}, "has no column to learn from"),
    ],
)
def test_a_target_that_can_not_be_learned_is_told(tmp_path, column, value, options, told) -> None:
    file = written(tmp_path / "a.csv", lines_with(column, value))
    with refused(told):
        table(file, **{"target": "kind", **options})


@pytest.mark.parametrize(
    ("value", "thousands"), [("1.234,50", True), ("1'234.5", True), ("1 234", True), ("k.A.", False)]
)
def test_a_number_that_can_not_be_read_is_named_whatever_the_kind(tmp_path, value, thousands) -> None:
    file = written(tmp_path / "a.csv", lines_with(0, value, slice(7, 8)), ";")
    told = f"{file}:8 has {value!r}, which is no number."
    told += " Thousands separators are not read: remove them." * thousands
    for kind, what in ((None, "Choose another --data.target, or"), ("number", "Leave out --data.kind, or")):
        with pytest.raises(UserError, match=re.escape(f" {told}") + "$") as error:
            table(file, "size", kind=kind)
        assert what in str(error.value)


def test_the_kind_of_the_target_follows_its_values_and_can_be_chosen(tmp_path) -> None:
    lines = [[*line, str(i % 5), str(i % 2)] if i else [*line, "five", "two"] for i, line in enumerate(rows())]
    file = written(tmp_path / "a.csv", lines)
    assert table(file, "five").class_names is None
    assert table(file, "five", kind="class").class_names == ["0", "1", "2", "3", "4"]
    assert table(file, "two").class_names == ["0", "1"]
    assert table(file, "two", kind="number").class_names is None


def test_too_few_rows_are_told(tmp_path) -> None:
    with refused("the part val has 0 of 4 rows"):
        table(written(tmp_path / "a.csv", rows(4)))
    with refused("data.batch_size is 100, but there are only 38 items for training"):
        table(written(tmp_path / "a.csv", rows()), batch_size=100).train_dataloader()


def test_another_table_has_another_fingerprint(tmp_path) -> None:
    data = table(written(tmp_path / "a.csv", rows()))
    before = data.fingerprint()
    assert table(written(tmp_path / "a.csv", rows())).fingerprint() == before
    assert table(written(tmp_path / "a.csv", rows(61))).fingerprint() != before


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"batch_size": 0}, "data.batch_size is 0; it must be at least 1"),
        ({"val_fraction": 1.0}, "data.val_fraction is 1.0; it must lie between 0 and 1"),
        ({"test_fraction": 0.0}, "data.test_fraction is 0.0; it must lie between 0 and 1"),
        ({"num_folds": 5, "fold": 5}, "data.fold is 5 of data.num_folds 5"),
        ({"dataset": "penguin_mass", "balance": "weights"}, "data.balance is weights, but body_mass_g is a number"),
    ],
)
def test_values_out_of_bounds_are_refused(options, text) -> None:
    with refused(text):
        bundled(**options)
