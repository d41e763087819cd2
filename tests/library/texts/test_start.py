"""The start's own classes, and the base of its data module."""

import json
import re
from typing import Any, cast

import pytest
import torch
from lightning_runs.errors import UserError
from starts import start_module
from torch import nn
from torch.nn import functional
from written_texts import DataModule, prepared, read_texts, text_rows, write_folder, write_texts

TextClassifier = start_module("text", "module").TextClassifier
network = start_module("text", "network")
NETWORKS = (network.EmbeddingAverage, network.TransformerEncoder)
TOKENS = torch.tensor([[5, 6, 7, 8], [9, 3, network.PAD, network.PAD], [4, *[network.PAD] * 3]])


def refused(text: str):
    return pytest.raises(UserError, match=re.escape(text))


@pytest.fixture(scope="module")
def glosses():
    return prepared(max_vocabulary=2000)


def classifier(make: Any = network.EmbeddingAverage, **options: Any):
    torch.manual_seed(0)
    return TextClassifier(20, 3, network=make, optimizer=torch.optim.AdamW, **options)


# ---- Data


def test_batches_are_texts_of_like_length_and_padding(glosses) -> None:
    assert (glosses.num_classes, glosses.vocabulary_size) == (10, 2000)
    for loader in (glosses.train_dataloader(), glosses.val_dataloader(), glosses.test_dataloader()):
        batches = list(loader)
        tokens, labels = batches[0]
        assert tokens.dtype == labels.dtype == torch.int64
        assert len(tokens) == len(labels) == 32
        padding = sum(int((tokens == network.PAD).sum()) for tokens, _ in batches)
        assert 0 < padding < 0.1 * sum(tokens.numel() for tokens, _ in batches)
    tokens, index = next(iter(glosses.predict_dataloader()))
    assert tokens.shape == (32, 64)
    assert index.equal(glosses.splits["test"][1][:32])


def test_each_part_has_its_share_of_each_category(glosses) -> None:
    counts = {part: set(glosses.class_counts(part).tolist()) for part in ("train", "val", "test")}
    assert counts == {"train": {320}, "val": {80}, "test": {100}}
    assert len({text.lower() for text in glosses.texts}) == 5000


def test_the_order_of_an_epoch_follows_from_seed_and_epoch(glosses) -> None:
    def order(epoch: int, seed: int = 0) -> list[torch.Tensor]:
        glosses.seed = seed
        sampler = glosses.train_dataloader().sampler
        sampler.set_epoch(epoch)
        return list(sampler)

    first = order(0)
    assert torch.cat(first).sort().values.equal(glosses.splits["train"][1])
    assert all(one.equal(two) for one, two in zip(first, order(0), strict=True))
    for other in (order(1), order(0, seed=1)):
        assert not all(one.equal(two) for one, two in zip(first, other, strict=True))
    means = [float(glosses.splits["train"][0].lengths[batch].float().mean()) for batch in first]
    assert means != sorted(means)  # the batches themselves are in a random order


def test_balance_draws_and_weighs_classes_alike(tmp_path) -> None:
    rows = [row for i, row in enumerate(text_rows(300)) if i == 0 or row[1] == "sea" or i % 10 == 0]
    file = write_texts(tmp_path / "a.csv", rows)
    data = read_texts(file, balance="sampling", batch_size=8)
    drawn = torch.cat([batch[1] for _ in range(30) for batch in data.train_dataloader()]).bincount()
    assert (drawn / drawn.sum()).tolist() == pytest.approx([0.5, 0.5], abs=0.07)
    weights = torch.tensor(read_texts(file, balance="weights").loss_weights)
    counts = data.class_counts("train")
    assert (weights * counts).tolist() == pytest.approx([counts.sum().item() / 2] * 2)


def test_folds_hold_each_text_out_once_and_are_predicted(tmp_path) -> None:
    file = write_texts(tmp_path / "a.csv", text_rows())
    folds = [read_texts(file, num_folds=4, fold=fold).splits for fold in range(4)]
    tested = folds[0]["test"][1]
    assert all(splits["test"][1].equal(tested) for splits in folds)
    held_out = [splits["val"][1] for splits in folds]
    assert torch.cat([*held_out, tested]).sort().values.equal(torch.arange(40))
    assert folds[1]["predict"][1].equal(held_out[1])
    whole = read_texts(file, num_folds=4, fold=None).splits
    assert len(whole["val"][1]) == 0
    assert whole["predict"][1].equal(tested)


def test_the_tokenizer_knows_the_training_texts_alone(tmp_path) -> None:
    rows = text_rows()
    data = read_texts(write_texts(tmp_path / "a.csv", rows))
    tested = data.splits["test"][1].tolist()
    for i in tested:
        rows[i + 1][0] = "unheard " * 5
    other = read_texts(write_texts(tmp_path / "b.csv", rows))
    assert other.splits["test"][1].tolist() == tested
    assert other.known["tokenizer"] == data.known["tokenizer"]
    # one text in each checkpoint, because it takes long to write its thousands of values one by one
    assert isinstance(data.state_dict()["tokenizer"], str)


def test_the_state_reads_new_texts_where_the_table_is_gone(tmp_path) -> None:
    data = read_texts(write_texts(tmp_path / "a.csv", text_rows()))
    new = tmp_path / "new.txt"
    new.write_text("a wave\r\n\r\nthe tree\r\n", newline="")
    other = DataModule("csv_texts", root="gone.csv", predict_paths=[str(new)])
    with refused("data.predict_paths"):
        other.setup("predict")
    other.load_state_dict(json.loads(json.dumps(data.state_dict())))
    other.setup("predict")
    tokens, index = next(iter(other.predict_dataloader()))
    assert other.predict_paths == [f"{new}:1", f"{new}:3"]
    assert index.tolist() == [0, 1]
    assert tokens.shape == (2, 64)


def test_a_folder_has_a_whole_text_in_each_file(tmp_path) -> None:
    data = read_texts(write_folder(tmp_path / "texts", text_rows()))
    assert data.class_names == ["sea", "wood"]
    assert data.row_names[0] == "texts/sea/000.txt"
    assert data.known["whole_files"] is True


def test_hidden_folders_are_no_classes_and_copies_are_reported(tmp_path, capsys) -> None:
    write_folder(tmp_path, text_rows())
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / ".ipynb_checkpoints" / "000.txt").write_text("a wave")
    (tmp_path / "sea" / "notes.md").write_text("a note")
    for i in range(20):
        (tmp_path / "sea" / f"copy {i}.txt").write_text("the same wave")
    data = read_texts(tmp_path, batch_size=4)
    assert data.class_names == ["sea", "wood"]
    assert "1 files" in capsys.readouterr().err
    data.train_dataloader()
    note = capsys.readouterr().err
    for part in ("val", "test"):
        assert f"items of the part {part} are in training too, such as {tmp_path.name}/sea/copy" in note


def test_empty_texts_and_rows_without_a_class_are_named(tmp_path, capsys) -> None:
    rows = text_rows()
    rows[3][0] = ""
    rows[5][0] = "  "
    rows[9][1] = ""
    data = read_texts(write_texts(tmp_path / "a.csv", rows))
    notes = capsys.readouterr().err
    assert f"2 of 39: {tmp_path / 'a.csv'}:4, {tmp_path / 'a.csv'}:6\n" in notes
    assert "1 rows without a value of label" in notes
    assert len(data.texts) == 37


def test_long_texts_are_cut_and_counted_once(tmp_path, capsys) -> None:
    rows = text_rows()
    rows[1][0] = "wave " * 20_000
    data = read_texts(write_texts(tmp_path / "a.csv", rows))
    assert capsys.readouterr().err.count("1 of 40 texts are cut to data.max_tokens, 64") == 1
    assert int(data.splits["train"][0].lengths.max()) == 64


def test_a_class_of_one_text_is_trained_and_not_tested(tmp_path, capsys) -> None:
    rows = text_rows()
    rows[5][1] = "rare"
    data = read_texts(write_texts(tmp_path / "a.csv", rows))
    assert data.class_names == ["rare", "sea", "wood"]
    assert 4 in data.splits["train"][1].tolist()
    assert "texts for the test: rare" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("text,label\n,sea\n,wood\n", "there are no texts"),
        ("text,label\n", "there are no texts"),
        ("text,label\n" + "a,sea\n" * 9, "all texts of {root} have the class sea"),
        ("text,label\na,b\nc,d\ne,f\n", "{root} has 3 classes for 3 texts"),
        ("text,label\na,b\nc,d\ne,b\nf,d\n", "the part val has 1 of the 4 items of {root}; it needs 2."),
    ],
)
def test_texts_that_can_not_be_learned_from_are_refused(tmp_path, text, problem) -> None:
    (tmp_path / "a.csv").write_text(text)
    with refused(problem.format(root=tmp_path / "a.csv")):
        read_texts(tmp_path / "a.csv")


def test_folders_that_can_not_be_learned_from_are_refused(tmp_path) -> None:
    with refused(f"{tmp_path / 'none'} is not a folder"):
        prepared(dataset="text_folder", root=str(tmp_path / "none"))
    with refused(f"{tmp_path} must have a folder of files for each of at least two classes; it has none"):
        read_texts(tmp_path)
    for part in ("train", "test"):
        write_folder(tmp_path / part, text_rows())
    with refused(f"{tmp_path} has folders train and test"):
        read_texts(tmp_path)
    with refused(f"{tmp_path} is not a file"):
        prepared(dataset="csv_texts", root=str(tmp_path))


def test_a_class_that_the_model_does_not_know_is_refused(tmp_path) -> None:
    data = read_texts(write_texts(tmp_path / "a.csv", text_rows()))
    rows = text_rows()
    rows[3][1] = "sky"
    other = DataModule("csv_texts", root=str(write_texts(tmp_path / "b.csv", rows)))
    other.load_state_dict(data.state_dict())
    with refused(f"{tmp_path / 'b.csv'} has the class sky"):
        other.setup("test")


def test_the_fingerprint_follows_texts_and_classes_and_no_option(tmp_path) -> None:
    rows = text_rows()
    file = write_texts(tmp_path / "a.csv", rows)
    before = read_texts(file).fingerprint()
    assert read_texts(file, max_tokens=8, split_seed=1).fingerprint() == before
    rows[7][0] += "s"
    assert read_texts(write_texts(tmp_path / "b.csv", rows)).fingerprint() != before


@pytest.mark.parametrize(("option", "value", "minimum"), [("max_tokens", 3, 4), ("max_vocabulary", 256, 257)])
def test_values_out_of_bounds_are_refused(option, value, minimum) -> None:
    with refused(f"data.{option} is {value}; it must be at least {minimum}"):
        DataModule(**{option: value})


# ---- Model


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.enable_grad])  # attention takes another path without
@pytest.mark.parametrize("make", NETWORKS)
def test_more_padding_leaves_the_logits_as_they_are(make, mode) -> None:
    torch.manual_seed(0)
    model = make(20, 3).eval()
    with mode():
        narrow = model(TOKENS)
        wide = model(functional.pad(TOKENS, (0, 60), value=network.PAD))
        alone = model(TOKENS[1:2, :2])
    assert torch.allclose(narrow, wide, atol=1e-6)
    assert torch.allclose(narrow[1:2], alone, atol=1e-6)


def test_the_order_of_tokens_counts_in_the_transformer_alone() -> None:
    turned = TOKENS[:1].flip(1)
    for make, same in zip(NETWORKS, (True, False), strict=True):
        torch.manual_seed(0)
        model = make(20, 3).eval()
        assert torch.allclose(model(TOKENS[:1]), model(turned), atol=1e-6) is same


def test_weights_of_classes_are_in_the_loss_of_training_alone() -> None:
    model = cast(Any, classifier(loss_weights=[1.0, 2.0, 5.0]).eval())
    labels = torch.tensor([0, 1, 2])
    logits = model(TOKENS)
    weighted = functional.cross_entropy(logits, labels, torch.tensor([1.0, 2.0, 5.0])).item()
    assert model.training_step((TOKENS, labels), 0).item() == pytest.approx(weighted)
    plain = functional.cross_entropy(logits, labels).item()
    assert plain != pytest.approx(weighted)
    model.validation_step((TOKENS, labels), 0)
    assert model.val_metrics["loss"].compute().item() == pytest.approx(plain)
    assert "loss_weights" not in model.state_dict()


def test_a_network_with_another_number_of_outputs_is_refused() -> None:
    model = classifier(lambda vocabulary_size, num_classes: nn.Embedding(vocabulary_size, 7))
    with refused("the network's output is (3, 4, 7), but there are 3 classes"):
        model(TOKENS)
