"""The base of data modules of texts: their files, their tokenizer, their tokens."""

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from ..data.classes import class_metrics, note_similar_names
from ..data.datamodule import SplitDataModule
from ..data.folders import class_folders, find_files, print_note
from ..errors import UserError
from . import reading
from .pretrained import read_pretrained

SOURCES = {  # whose texts they are
    "glosses": "5,000 glosses of nouns in 10 categories, from WordNet 3.0, Copyright 2006 by Princeton University",
    "text_folder": "texts of the author's own",
    "csv_texts": "a table of the author's own texts",
}


class TextDataModule(SplitDataModule):
    """Read and encode texts. A subclass sets the attributes below, and has `setup` and `loader`."""

    dataset: str  # one of `SOURCES`
    root: Path  # the folder of text_folder, or a CSV file
    columns: dict[str, str]  # the names of its columns text and label
    tokenizer: str | None  # None trains one; or the name or folder of a pretrained model
    max_vocabulary: int  # different tokens of a trained tokenizer
    max_tokens: int  # of a text; the rest is cut off
    texts: list[str]  # reading fills it
    row_names: list[str]  # such as texts.csv:2

    @property
    def facts(self) -> str:
        """What an exported model has to know, as JSON: the classes, and how texts become tokens."""
        facts = {"dataset": f"{self.dataset}: {SOURCES[self.dataset]}", "class_names": self.class_names, **self.known}
        facts["tokenizer"] = json.loads(reading.load_tokenizer(self.known).to_str())
        return json.dumps(facts, ensure_ascii=False)

    @property
    def vocabulary_size(self) -> int:
        """Number of different tokens."""
        if not self.known:
            self.setup("fit")
        return reading.load_tokenizer(self.known).get_vocab_size()

    def read_labelled_texts(self) -> np.ndarray:
        """Read texts and their names, and return the class of each, ``(N,)`` str.

        Raises:
            UserError: There are no texts, or no classes to learn.
        """
        rows = self._read_folder() if self.dataset == "text_folder" else self._read_table()
        rows = reading.rows_with_text(rows)
        parent = len(str(self.root)) - len(self.root.name)  # characters that are left out of a name
        self.row_names = [name[parent:] for name, _, _ in rows]
        self.texts = [text for _, text, _ in rows]
        labels = np.array([label for _, _, label in rows], dtype=object).astype(str)
        num_classes = len(set(labels))
        if num_classes < 2:
            raise UserError(f"all texts of {self.root} have the class {labels[0]}, so there is nothing to learn.")
        note_similar_names(labels, self.root)
        if num_classes > len(labels) // 2 and not self.known:
            raise UserError(
                f"{self.root} has {num_classes} classes for {len(labels)} texts: these are not classes. Choose another"
                " column with --data.label."
            )
        return labels

    def _read_folder(self) -> list[Any]:
        """Return name, text and class of each file ``CLASS/TEXT.txt``."""
        if not self.root.is_dir():
            raise UserError(f"{self.root} is not a folder. Give one with a folder for each class: --data.root FOLDER.")
        if {"train", "test"} <= {path.name for path in self.root.iterdir()}:
            raise UserError(
                f"{self.root} has folders train and test; put the texts of both into one folder for each class."
            )
        found = find_files([self.root / name for name in class_folders(self.root)], [".txt"])
        files = [(file, folder.name) for folder, own_files in found.items() for file in own_files]
        return [(str(file), reading.read_text(file).strip(), name) for file, name in files]

    def _read_table(self) -> list[Any]:
        """Return name, text and class of each row of a CSV file that has a class."""
        rows: list[Any] = reading.read_csv_columns(self.root, self.columns)
        unlabelled = sum(not label for _, _, label in rows)
        if unlabelled:
            print_note(f"{unlabelled} rows without a value of {self.columns['label']} are left out.")
        return [row for row in rows if row[2]]

    def describe_texts(self, labels: np.ndarray, parts: dict[str, Tensor]) -> None:
        """Fill `known` from the training texts; ``labels`` are the classes of all texts, ``(N,)`` str."""
        untested = sorted(set(labels) - set(labels[parts["test"]]))
        if untested:
            print_note(f"classes with too few texts for the test: {', '.join(untested[:5])}.")
        if self.tokenizer is None:
            max_characters = reading.CHARACTERS * self.max_tokens
            texts = [self.texts[i][:max_characters] for i in parts["train"].tolist()]
            tokenizer = train_tokenizer(texts, self.max_vocabulary)
            encoder = None
            pad = 0  # the first token of a trained tokenizer
        else:
            tokenizer, encoder = read_pretrained(self.tokenizer)
            pad = encoder["pad"]
        tokenizer.enable_truncation(self.max_tokens)
        tokenizer.enable_padding(length=self.max_tokens, pad_id=pad, pad_token=tokenizer.id_to_token(pad))
        self.known = {
            "class_names": sorted(set(labels.tolist())),
            "text": self.columns["text"],
            "encoder": encoder,
            "whole_files": self.dataset == "text_folder",
            # as a text: every checkpoint has it, and its thousands of values would take longer to write
            "tokenizer": tokenizer.to_str(),
        }

    def encode(self) -> tuple[Tensor, Tensor]:
        """Turn `texts` into tokens ``(N, max_tokens)`` int32 and lengths ``(N,)`` int64."""
        tokens, lengths, num_cut = reading.encode_texts(self.texts, reading.load_tokenizer(self.known))
        if num_cut:
            print_note(f"{num_cut} of {len(lengths)} texts are cut to data.max_tokens, {tokens.shape[1]}.")
        return torch.from_numpy(tokens), torch.from_numpy(lengths)

    def read_new_texts(self) -> None:
        """Read the texts of the files in ``predict_paths``, which then names the texts."""
        self.check_known()
        self.row_names, self.texts = reading.read_new_texts(self.predict_paths or [], self.known)
        self.predict_paths = self.row_names

    def fingerprint(self) -> str:
        """Return a text that changes when a text or a class changes."""
        self.setup("fit")
        labels = self.splits["train"][0].labels.tolist()
        content = repr([*zip(self.texts, labels, strict=True)])
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()

    def baseline(self) -> dict[str, dict[str, float]]:
        """Return the test metrics of simple models, that of scikit-learn among them if it is installed."""
        metrics = super().baseline()
        if find_spec("sklearn"):
            from sklearn.feature_extraction.text import TfidfVectorizer  # here, because it takes a second
            from sklearn.linear_model import LogisticRegression

            words = TfidfVectorizer()
            features = words.fit_transform(self._texts_of("train"))
            model = LogisticRegression(max_iter=1000).fit(features, self.part_classes("train").numpy())
            predicted = torch.from_numpy(model.predict(words.transform(self._texts_of("test"))))
            found = class_metrics(predicted, self.part_classes("test"), self.num_classes)
            name = "TF-IDF and logistic regression"
            metrics[name] = {f"test/{metric}": value for metric, value in found.items()}
        return metrics

    def copies(self, part: str) -> list[Any]:
        """Name the texts of a part that are in the training part too."""
        texts = set(self._texts_of("train"))
        return [self.row_names[i] for i in self.splits[part][1].tolist() if self.texts[i] in texts]

    def _texts_of(self, part: str) -> list[str]:
        return [self.texts[i] for i in self.splits[part][1].tolist()]


def train_tokenizer(texts: list[str], max_vocabulary: int) -> Tokenizer:
    """Train byte-level byte-pair encoding, which has tokens for any text in any language. Token 0 is the padding."""
    pieces = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pieces
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=max_vocabulary,
        special_tokens=["[PAD]"],
        initial_alphabet=pieces.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
