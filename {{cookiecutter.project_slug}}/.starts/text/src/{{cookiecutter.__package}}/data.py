"""The data: texts and their classes behind one LightningDataModule."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from lightning_runs.data.batches import gathered
from lightning_runs.data.datamodule import SplitDataModule
from lightning_runs.data.folders import find
from lightning_runs.data.splits import class_weights, split
from lightning_runs.errors import UserError
from lightning_runs.texts.reading import CHARACTERS, encode, read_csv, read_new, read_text, tokenizer, without_empty
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from . import evaluation
from .network import PAD
from .pretrained import describe

SOURCES = {
    "glosses": "5,000 glosses of nouns in 10 categories, from WordNet 3.0, Copyright 2006 by Princeton University",
    "text_folder": "texts of the author's own",
    "csv_texts": "a table of the author's own texts",
}


class Texts(Dataset):
    """Tokens in memory; a batch is gathered in one operation, and is as wide as its longest text.

    Args:
        tokens: ``(N, max_tokens)`` int32, filled up with padding.
        lengths: How many of each text's are no padding, ``(N,)`` int64.
        labels: The class of each text, or its index, ``(N,)`` int64.
        whole: Give all of the padding, as an exported model takes it.
    """

    draws_nothing = True  # no random numbers, so batches need no seed

    def __init__(self, tokens: Tensor, lengths: Tensor, labels: Tensor, whole: bool = False) -> None:
        self.tokens, self.lengths, self.labels, self.whole = tokens, lengths, labels, whole

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        width = self.tokens.shape[1] if self.whole else int(self.lengths[indices].max())
        return self.tokens[indices, :width].long(), self.labels[indices]


class DataModule(SplitDataModule):
    """Read texts, split them, turn them into tokens and batch texts of like length.

    Batches are tokens ``(B, L)``, int64, with padding at the end of what is shorter than the longest text, and labels
    ``(B,)``, int64. Those for ``predict`` are tokens ``(B, max_tokens)`` and the texts' index, ``(B,)``.

    Args:
        dataset: Which texts. glosses is part of this package; text_folder is a folder of your own with one for each
            class, ``CLASS/TEXT.txt``; csv_texts is a table of your own.
        root: The folder of text_folder, or the CSV file of csv_texts.
        text: Column of the texts in a table.
        label: Column of the classes in a table.
        tokenizer: null trains one on the training texts; a name or folder takes that of a pretrained model
            (docs/pretrained.md).
        max_vocabulary: Number of different tokens that a trained tokenizer has at most; 257 or more.
        max_tokens: What a text has beyond so many tokens is cut off.
        balance: Let all classes count the same in training, however many texts each has. weights multiplies the loss
            of each text by the weight of its class; sampling draws the texts of an epoch so that each class is there as
            often, with some texts more than once.
        batch_size: Texts per step per device.
        val_fraction: Fraction of the training texts used for validation, between 0 and 1.
        test_fraction: Fraction of all texts that are tested, between 0 and 1.
        split_seed: Which texts those are; apart from the seed of a run, so that runs can be compared.
        fold: Which of ``num_folds`` parts of the texts that are not tested is for validation, from 0, and is predicted;
            null trains on all of them.
        num_folds: Parts for cross-validation; null takes ``val_fraction``.
        seed: Seed of the order; follows ``seed_everything``.
        predict_paths: Files of texts, and folders of them, that ``predict`` takes in the place of the test texts.

    Raises:
        UserError: A value is out of its bounds, or the texts can't be learned from.
    """

    def __init__(
        self,
        dataset: Literal["glosses", "text_folder", "csv_texts"] = "glosses",
        root: str = "data/texts",
        text: str = "text",
        label: str = "label",
        tokenizer: str | None = None,
        max_vocabulary: int = 8000,
        max_tokens: int = 64,
        balance: Literal["none", "weights", "sampling"] = "none",
        batch_size: int = 32,
        val_fraction: float = 0.2,
        test_fraction: float = 0.2,
        split_seed: int = 0,
        fold: int | None = 0,
        num_folds: int | None = None,
        seed: int = 0,
        predict_paths: list[str] | None = None,
    ) -> None:
        least = {"max_vocabulary": (max_vocabulary, 257), "max_tokens": (max_tokens, 4), "batch_size": (batch_size, 1)}
        super().__init__(least, fold, num_folds, val_fraction=val_fraction, test_fraction=test_fraction)
        self.dataset, self.source = dataset, f"{dataset}: {SOURCES[dataset]}"
        self.root = Path(__file__).with_name("glosses.csv.gz") if dataset == "glosses" else Path(root)
        self.columns = {"text": text, "label": label}
        self.tokenizer, self.sizes = tokenizer, (max_vocabulary, max_tokens)
        self.balance, self.batch_size, self.seed, self.predict_paths = balance, batch_size, seed, predict_paths
        self.shares = (test_fraction, val_fraction, split_seed)

    @property
    def facts(self) -> str:
        """What an exported model has to know, as JSON."""
        facts = {"dataset": self.source, "class_names": self.class_names, **self.known}
        return json.dumps(facts | {"tokenizer": json.loads(tokenizer(self.known).to_str())}, ensure_ascii=False)

    @property
    def class_names(self) -> list[str]:
        """The name of each class, in the order of the labels."""
        if not self.known:
            self.setup("fit")
        return self.known["class_names"]

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def vocabulary_size(self) -> int:
        """Number of different tokens."""
        return tokenizer(json.loads(self.facts)).get_vocab_size()

    @property
    def loss_weights(self) -> Tensor | None:
        """The weight of each class in the loss of training, ``(num_classes,)``; None counts every text the same."""
        texts, indices = self.splits["train"]
        return class_weights(texts.labels[indices], self.num_classes) if self.balance == "weights" else None

    def setup(self, stage: str) -> None:
        """Read the texts and split them; the same whatever ``stage`` is, so it happens once."""
        if self.splits:
            return
        if self.predict_paths is not None:
            if not self.known:
                raise UserError("new texts are predicted by a run: predict PATH --run NAME.")
            self.row_names, self.texts = read_new(self.predict_paths, self.known)
            self.predict_paths, every = self.row_names, torch.arange(len(self.texts))
            self.splits = {"predict": (Texts(*self._encoded(), every, whole=True), every)}
            return
        labels = self._read()
        parts = split(len(labels), labels, None, *self.shares, self.fold, self.num_folds)
        for part, indices in parts.items():
            if len(indices) < 2 and not (part == "val" and self.fold is None):
                few = f"{len(indices)} of {len(labels)} texts of {self.root}"
                raise UserError(f"the part {part} has {few}; it needs two.")
        if not self.known:
            self._learn(labels, parts)
        places = {name: i for i, name in enumerate(self.known["class_names"])}
        if new := sorted(set(labels) - set(places)):
            raise UserError(f"{self.root} has the class {new[0]}, which the model was not trained with.")
        texts = Texts(*self._encoded(), torch.tensor([places[label] for label in labels]))
        self.splits = {part: (texts, indices) for part, indices in parts.items()}
        predicted = parts[self.predicted]
        whole = Texts(texts.tokens, texts.lengths, torch.arange(len(labels)), whole=True)
        self.splits["predict"] = (whole, predicted)

    def _read(self) -> np.ndarray:
        """Read texts and their names, and return the class of each, ``(N,)``."""
        if self.dataset == "text_folder":
            if not self.root.is_dir():
                raise UserError(f"{self.root} is no folder. Give one with a folder for each class: --data.root FOLDER.")
            if {"train", "test"} <= {path.name for path in self.root.iterdir()}:
                raise UserError(
                    f"{self.root} has folders train and test; put the texts of both into one folder for each class."
                )
            files = [file for file in find([self.root], [".txt"]) if file.parent != self.root]
            rows = [(str(file), read_text(file).strip(), file.relative_to(self.root).parts[0]) for file in files]
        else:
            rows = read_csv(self.root, self.columns)
            if unlabelled := sum(not row[2] for row in rows):
                self.tell(f"{unlabelled} rows without a value of {self.columns['label']} are left out.")
        rows = without_empty([row for row in rows if row[2]])
        folder = len(str(self.root)) - len(self.root.name)  # characters of a row's name
        self.row_names, self.texts = [name[folder:] for name, _, _ in rows], [text for _, text, _ in rows]
        labels = np.array([label for _, _, label in rows], dtype=object).astype(str)
        if len(set(labels)) < 2:
            raise UserError(f"all texts of {self.root} have the class {labels[0]}, so there is nothing to learn.")
        if len(set(labels)) > len(labels) // 2 and not self.known:
            many = f"{self.root} has {len(set(labels))} classes for {len(labels)} texts"
            raise UserError(f"{many}: these are no classes. Choose another column with --data.label.")
        return labels

    def _learn(self, labels: np.ndarray, parts: dict[str, Tensor]) -> None:
        """Note the classes of the training texts, and train a tokenizer on them."""
        if untested := sorted(set(labels) - set(labels[parts["test"]])):
            self.tell(f"too few texts to be tested: {', '.join(untested[:5])}.")
        max_vocabulary, max_tokens = self.sizes
        texts = [self.texts[i][: CHARACTERS * max_tokens] for i in parts["train"].tolist()]
        name = self.tokenizer
        found, encoder = (train(texts, max_vocabulary), None) if name is None else describe(name)
        pad = encoder["pad"] if encoder else PAD
        found.enable_truncation(max_tokens)
        found.enable_padding(length=max_tokens, pad_id=pad, pad_token=found.id_to_token(pad))
        self.known = {"class_names": sorted(set(labels.tolist())), "text": self.columns["text"], "encoder": encoder}
        # as a text, for every save of the training has it, and its thousands of values would take longer to write
        self.known |= {"whole_files": self.dataset == "text_folder", "tokenizer": found.to_str()}

    def _encoded(self) -> tuple[Tensor, Tensor]:
        """Turn the texts into tokens ``(N, max_tokens)`` and lengths ``(N,)``."""
        tokens, lengths, num_cut = encode(self.texts, tokenizer(self.known))
        if num_cut:
            self.tell(f"{num_cut} of {len(lengths)} texts are cut to data.max_tokens, {tokens.shape[1]}.")
        return torch.from_numpy(tokens), torch.from_numpy(lengths)

    def loader(self, part: str) -> DataLoader:
        (texts, indices), is_train = self.splits[part], part == "train"
        classes = texts.labels[indices] if is_train and self.balance == "sampling" else None
        options = {"train": is_train, "seed": self.seed, "trainer": self.trainer, "classes": classes}
        lengths = None if texts.whole else texts.lengths[indices]  # texts of like length make a batch
        return gathered(texts, indices, self.batch_size, lengths=lengths, **options)  # texts[indices] is a batch

    def fingerprint(self) -> str:
        """Return a text that changes when texts or classes change."""
        self.setup("fit")
        labels = self.splits["train"][0].labels.tolist()
        return hashlib.blake2b(repr([*zip(self.texts, labels, strict=True)]).encode(), digest_size=16).hexdigest()

    baseline = evaluation.baseline


def train(texts: list[str], max_vocabulary: int) -> Tokenizer:
    """Train byte-level byte-pair encoding: any text has tokens, whatever its language."""
    made, pieces = Tokenizer(models.BPE()), pre_tokenizers.ByteLevel(add_prefix_space=True)
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    made.pre_tokenizer, made.decoder = pieces, decoders.ByteLevel()
    options = {"special_tokens": ["[PAD]"], "initial_alphabet": pieces.alphabet(), "show_progress": False}
    made.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=max_vocabulary, **options))
    return made
