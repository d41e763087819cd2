import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_runs.texts import reading
from {{ cookiecutter.__package }}.data import DataModule
from {{ cookiecutter.__package }}.network import PAD
from lightning_runs.errors import UserError

WORDS = {"sea": "wave fish ship harbour tide", "wood": "tree leaf deer moss root"}


def lines(count: int = 40) -> list[list[str]]:
    """Rows of a table, the names of its columns first."""
    random, rows = np.random.default_rng(0), [["text", "label"]]
    for i in range(count):
        label = ("sea", "wood")[i % 2]
        rows.append([" ".join(random.choice(WORDS[label].split(), 1 + i % 9)), label])
    return rows


def written(file: Path, rows: list[list[str]], delimiter: str = ",", end: str = "\n", encoding: str = "utf-8") -> Path:
    with file.open("w", newline="", encoding=encoding) as stream:
        quoting = csv.QUOTE_ALL if end == "\r" else csv.QUOTE_MINIMAL  # which leaves out texts with another line end
        csv.writer(stream, delimiter=delimiter, lineterminator=end, quoting=quoting).writerows(rows)
    return file


def folder(root: Path, rows: list[list[str]]) -> Path:
    for i, (text, label) in enumerate(rows[1:]):
        (root / label).mkdir(parents=True, exist_ok=True)
        (root / label / f"{i:03d}.txt").write_text(text, encoding="utf-8")
    return root


def table(file: Path, **options) -> DataModule:
    return opened(dataset="csv_texts", root=str(file), **options)


def opened(**options) -> DataModule:
    data = DataModule(**options)
    data.setup("fit")
    return data


def refused(text: str):
    return pytest.raises(UserError, match=re.escape(text))


def test_glosses_are_read_into_batches_of_texts_of_like_length() -> None:
    data = opened()
    assert (data.num_classes, data.vocabulary_size) == (10, 8000)
    assert {part: len(data.splits[part][1]) for part in ("train", "val", "test")} == {
        "train": 3200,
        "val": 800,
        "test": 1000,
    }
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        batches = list(loader)
        tokens, labels = batches[0]
        assert tokens.dtype == labels.dtype == torch.int64
        assert len(tokens) == len(labels) == 32
        padding = sum(int((of == PAD).sum()) for of, _ in batches) / sum(of.numel() for of, _ in batches)
        assert padding < 0.1
    tokens, index = next(iter(data.predict_dataloader()))
    assert tokens.shape == (32, 64)
    assert index.equal(data.splits["test"][1][:32])


def test_each_category_of_the_glosses_has_its_share_and_no_gloss_is_there_twice() -> None:
    data = opened()
    texts = data.splits["train"][0]
    for part in ("train", "val", "test"):
        assert texts.labels[data.splits[part][1]].bincount().unique().numel() == 1
    assert len({text.lower() for text in data.texts}) == 5000


def test_an_epoch_has_each_training_text_once_in_an_order_that_follows_from_seed_and_epoch() -> None:
    def order(epoch: int, seed: int = 0) -> list[torch.Tensor]:
        sampler = opened_once(seed).train_dataloader().sampler
        sampler.set_epoch(epoch)  # pyright: ignore[reportAttributeAccessIssue]
        return list(sampler)  # pyright: ignore[reportReturnType, reportArgumentType]

    data = opened(max_vocabulary=300)

    def opened_once(seed: int) -> DataModule:
        data.seed = seed
        return data

    first, again, next_epoch, other = order(0), order(0), order(1), order(0, seed=1)
    assert torch.cat(first).sort().values.equal(data.splits["train"][1])
    assert all(one.equal(two) for one, two in zip(first, again, strict=True))
    assert not all(one.equal(two) for one, two in zip(first, next_epoch, strict=True))
    assert not all(one.equal(two) for one, two in zip(first, other, strict=True))
    lengths = data.splits["train"][0].lengths
    means = [float(lengths[batch].float().mean()) for batch in first]
    assert means != sorted(means)  # the batches themselves are in a random order


def test_rare_classes_are_drawn_as_often_and_weigh_more(tmp_path) -> None:
    rows = [row for i, row in enumerate(lines(300)) if i == 0 or row[1] == "sea" or i % 10 == 0]
    file = written(tmp_path / "a.csv", rows)
    data = table(file, balance="sampling", batch_size=8)
    drawn = torch.cat([batch[1] for _ in range(30) for batch in data.train_dataloader()]).bincount()
    assert (drawn / drawn.sum()).tolist() == pytest.approx([0.5, 0.5], abs=0.07)
    assert data.loss_weights is None
    data.balance = "weights"
    texts, indices = data.splits["train"]
    weights = data.loss_weights
    assert weights is not None
    assert (weights * texts.labels[indices].bincount()).tolist() == pytest.approx([len(indices) / 2] * 2)


def test_every_text_that_is_not_tested_is_for_validation_in_one_of_the_folds(tmp_path) -> None:
    file = written(tmp_path / "a.csv", lines())
    folds = [table(file, num_folds=4, fold=fold) for fold in range(4)]
    tested = folds[0].splits["test"][1]
    assert all(data.splits["test"][1].equal(tested) for data in folds)
    of_val = [data.splits["val"][1] for data in folds]
    assert torch.cat([*of_val, tested]).sort().values.equal(torch.arange(40))
    assert folds[1].splits["predict"][1].equal(of_val[1])
    whole = table(file, num_folds=4, fold=None)
    assert len(whole.splits["val"][1]) == 0
    assert whole.splits["predict"][1].equal(tested)


def test_the_tokenizer_knows_the_training_texts_alone(tmp_path) -> None:
    rows = lines()
    data = table(written(tmp_path / "a.csv", rows))
    tested = data.splits["test"][1].tolist()
    for i in tested:
        rows[i + 1][0] = "unheard " * 5
    other = table(written(tmp_path / "b.csv", rows))
    assert other.splits["test"][1].tolist() == tested
    assert other.known["tokenizer"] == data.known["tokenizer"]
    # one text in each checkpoint, for it takes long to write its thousands of values one by one
    assert isinstance(data.state_dict()["tokenizer"], str)


def test_a_tokenizer_is_made_once_for_many_requests(tmp_path) -> None:
    first, second = ({"tokenizer": table(written(tmp_path / "a.csv", lines(n))).known["tokenizer"]} for n in (40, 10))
    made = inputs.tokenizer(first)
    assert inputs.tokenizer(first) is made
    assert inputs.tokenizer(second).get_vocab() != made.get_vocab()
    assert inputs.tokenizer(first).get_vocab() == made.get_vocab()


def test_the_state_is_plain_and_reads_new_texts_where_the_old_ones_are_gone(tmp_path) -> None:
    data = table(written(tmp_path / "a.csv", lines()))
    state = json.loads(json.dumps(data.state_dict()))
    (tmp_path / "new.txt").write_text("a wave\r\n\r\nthe tree\r\n", newline="")
    other = DataModule("csv_texts", root="gone.csv", predict_paths=[str(tmp_path / "new.txt")])
    other.load_state_dict(state)
    other.setup("predict")
    tokens, index = next(iter(other.predict_dataloader()))
    assert other.predict_paths == [f"{tmp_path / 'new.txt'}:1", f"{tmp_path / 'new.txt'}:3"]
    assert index.tolist() == [0, 1]
    assert tokens.shape == (2, 64)
    facts = {**json.loads(data.facts), "inputs": [{"name": "tokens"}]}
    (first, array), (_, second) = inputs.read([tmp_path / "new.txt"], facts)
    assert first == f"{tmp_path / 'new.txt'}:1"
    assert isinstance(array, dict)
    assert isinstance(second, dict)
    assert array["tokens"].tolist() == tokens[0].tolist()
    assert second["tokens"].dtype == np.int64
    with refused("new texts are predicted by a run: predict PATH --run NAME"):
        DataModule(predict_paths=["new.txt"]).setup("predict")
    with refused("and no tokens of a text"):
        next(inputs.read([tmp_path / "new.txt"], {"inputs": []}))


def test_texts_of_a_folder_are_whole_files_in_training_and_afterwards(tmp_path) -> None:
    data = opened(dataset="text_folder", root=str(folder(tmp_path / "texts", lines())))
    assert data.class_names == ["sea", "wood"]
    assert data.row_names[0] == "texts/sea/000.txt"
    new = tmp_path / "new.txt"
    new.write_text("a wave\nand a ship\n")
    names, texts = inputs.read_new([new], data.known)
    assert (names, texts) == ([str(new)], ["a wave\nand a ship"])
    (tmp_path / "new.csv").write_text("body\na wave\n")
    with refused(f"{tmp_path / 'new.csv'} has no column text, but body. Name it so, or give a .txt file."):
        inputs.read_new([tmp_path / "new.csv"], data.known)


# ---- What a user's file may be like


@pytest.mark.parametrize(
    ("delimiter", "end", "encoding"),
    [(",", "\n", "utf-8-sig"), (";", "\r\n", "utf-8"), ("\t", "\r\n", "utf-8-sig"), ("|", "\r", "utf-8")],
)
def test_a_table_is_the_same_whatever_program_wrote_it(tmp_path, delimiter, end, encoding) -> None:
    rows = [["text", "label"], *([f"{text}, größer\nzwei; 3", label] for text, label in lines()[1:])]
    expected = table(written(tmp_path / "a.csv", rows))
    found = table(written(tmp_path / "b.csv", rows, delimiter, end, encoding))
    assert found.texts == expected.texts
    assert found.state_dict() == expected.state_dict()


def test_empty_texts_and_rows_without_a_class_are_left_out_and_told(tmp_path, capsys) -> None:
    rows = lines()
    rows[3][0], rows[5][0], rows[9][1] = "", "  ", ""
    data = table(written(tmp_path / "a.csv", rows))
    told = capsys.readouterr().err
    assert f"empty texts are left out, 2 of 39: {tmp_path / 'a.csv'}:4, {tmp_path / 'a.csv'}:6\n" in told
    assert "1 rows without a value of label are left out" in told
    assert len(data.texts) == 37
    with refused("there are no texts: all are empty"):
        inputs.without_empty([("a.txt", "")])


def test_a_text_of_100000_characters_is_cut_and_told_once(tmp_path, capsys) -> None:
    rows = lines()
    rows[1][0], rows[2][0] = "wave " * 20_000, "w" * 100_000
    data = table(written(tmp_path / "a.csv", rows))
    assert capsys.readouterr().err.count("texts are cut to data.max_tokens, 64") == 1
    assert int(data.splits["train"][0].lengths.max()) == 64


@pytest.mark.parametrize("name", ["a.csv", "texts/sea/001.txt"])
def test_a_file_that_is_not_utf_8_is_named_with_what_to_do(tmp_path, name) -> None:
    folder(tmp_path / "texts", lines())
    (tmp_path / name).write_bytes("text,label\ngröße,sea\n".encode("latin-1"))
    path = tmp_path / name if name == "a.csv" else tmp_path / "texts"
    with refused(f"{tmp_path / name} is not UTF-8, at byte 13. Convert it, such as by: iconv -f WINDOWS-1252"):
        opened(dataset="csv_texts" if name == "a.csv" else "text_folder", root=str(path))


def test_a_class_of_one_text_is_trained_and_not_tested(tmp_path, capsys) -> None:
    rows = lines()
    rows[5][1] = "rare"
    data = table(written(tmp_path / "a.csv", rows))
    assert data.class_names == ["rare", "sea", "wood"]
    assert 4 in data.splits["train"][1].tolist()
    assert "too few texts to be tested: rare." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("text,kind\na,b\n", "a.csv has no column label, but text, kind. Choose one with --data.label."),
        ("", "a.csv has no column text, but none. Choose one with --data.text."),
        ("text,label\na,b,c\n", "a.csv, line 2 has more values than columns. Put quotes around a text that has a l"),
        ("text,label\na\nb,c\n", "a.csv, line 2 has fewer values than columns. Put quotes around a text that has a "),
        ('text,label\n"a,b\n', "a.csv can't be read after line 1: unexpected end of data."),
        ("text,label\n,sea\n,wood\n", "there are no texts: all are empty."),
        ("text,label\n", "there are no texts: all are empty."),
        ("text,label\n" + "a,sea\n" * 9, "all texts of {root} have the class sea, so there is nothing to learn."),
        ("text,label\na,b\nc,d\ne,f\n", "has 3 classes for 3 texts: these are no classes. Choose another column"),
        ("text,label\na,b\nc,d\ne,b\nf,d\n", "the part val has 0 of 4 texts of {root}; it needs two."),
    ],
)
def test_what_can_t_be_learned_from_is_told(tmp_path, text, told) -> None:
    (tmp_path / "a.csv").write_text(text)
    with refused(told.format(root=tmp_path / "a.csv")):
        table(tmp_path / "a.csv")


def test_folders_that_can_t_be_learned_from_are_told(tmp_path) -> None:
    with refused(f"{tmp_path / 'none'} is no folder. Give one with a folder for each class"):
        opened(dataset="text_folder", root=str(tmp_path / "none"))
    with refused(f"{tmp_path} has no file that ends in one of .txt"):
        opened(dataset="text_folder", root=str(tmp_path))
    for part in ("train", "test"):
        folder(tmp_path / part, lines())
    with refused(f"{tmp_path} has folders train and test; put the texts of both into one folder for each class"):
        opened(dataset="text_folder", root=str(tmp_path))
    with refused(f"{tmp_path} is no file. Give the path of a file of texts"):
        opened(dataset="csv_texts", root=str(tmp_path))


def test_a_class_that_the_model_does_not_know_is_told(tmp_path) -> None:
    data = table(written(tmp_path / "a.csv", lines()))
    rows = lines()
    rows[3][1] = "sky"
    other = DataModule("csv_texts", root=str(written(tmp_path / "b.csv", rows)))
    other.load_state_dict(data.state_dict())
    with refused("b.csv has the class sky, which the model was not trained with."):
        other.setup("test")


def test_other_texts_have_another_fingerprint(tmp_path) -> None:
    first = DataModule("csv_texts", root=str(written(tmp_path / "a.csv", lines()))).fingerprint()
    rows = lines()
    assert DataModule("csv_texts", root=str(written(tmp_path / "b.csv", rows))).fingerprint() == first
    rows[7][0] += "s"
    assert DataModule("csv_texts", root=str(written(tmp_path / "b.csv", rows))).fingerprint() != first


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"batch_size": 0}, "data.batch_size is 0; it must be at least 1"),
        ({"max_tokens": 3}, "data.max_tokens is 3; it must be at least 4"),
        ({"max_vocabulary": 256}, "data.max_vocabulary is 256; it must be at least 257"),
        ({"val_fraction": 1.0}, "data.val_fraction is 1.0; it must lie between 0 and 1"),
        ({"test_fraction": 0.0}, "data.test_fraction is 0.0; it must lie between 0 and 1"),
        ({"num_folds": 5, "fold": 5}, "data.fold is 5 of data.num_folds 5"),
    ],
)
def test_values_out_of_bounds_are_refused(options, text) -> None:
    with refused(text):
        DataModule(**options)
