"""Texts that the tests write, and a data module that reads them."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch
from starts import start_module

WORDS = {"sea": "wave fish ship harbour tide", "wood": "tree leaf deer moss root"}
DataModule = start_module("text", "data").DataModule


def text_rows(count: int = 40) -> list[list[str]]:
    """Rows of a table, the names of its columns first."""
    random = np.random.default_rng(0)
    rows = [["text", "label"]]
    for i in range(count):
        label = ("sea", "wood")[i % 2]
        rows.append([" ".join(random.choice(WORDS[label].split(), 1 + i % 9)), label])
    return rows


def write_texts(
    file: Path, rows: list[list[str]], delimiter: str = ",", end: str = "\n", encoding: str = "utf-8"
) -> Path:
    """Write a table of texts."""
    with file.open("w", newline="", encoding=encoding) as stream:
        quoting = csv.QUOTE_ALL if end == "\r" else csv.QUOTE_MINIMAL  # which leaves out texts with another line end
        csv.writer(stream, delimiter=delimiter, lineterminator=end, quoting=quoting).writerows(rows)
    return file


def write_folder(root: Path, rows: list[list[str]]) -> Path:
    """Write a folder of texts for each class."""
    for i, (text, label) in enumerate(rows[1:]):
        (root / label).mkdir(parents=True, exist_ok=True)
        (root / label / f"{i:03d}.txt").write_text(text, encoding="utf-8")
    return root


def prepared(**options):
    """A data module that has read its texts."""
    data = DataModule(**options)
    data.setup("fit")
    return data


def read_texts(file: Path, **options):
    """A data module of a written table, or of a folder."""
    return prepared(dataset="text_folder" if file.is_dir() else "csv_texts", root=str(file), **options)


def write_encoder(folder: Path) -> Path:
    """Write a pretrained model of BERT's form, whose padding is not 0."""
    import transformers

    folder.mkdir(exist_ok=True)
    words = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", *"abcdefghijklmnopqrstuvwxyz", *(f"##{c}" for c in "aeinorst")]
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = transformers.BertTokenizerFast(vocab={word: i for i, word in enumerate(words)})
    tokenizer.save_pretrained(folder)
    torch.manual_seed(7)
    sizes: Any = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.BertConfig(vocab_size=len(words), pad_token_id=3, **sizes)
    transformers.BertModel(config).save_pretrained(folder)
    return folder
