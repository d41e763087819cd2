"""The data: texts and their classes behind one LightningDataModule."""

from pathlib import Path
from typing import Literal

import torch
from lightning_runs.data.batches import Items, batch_loader
from lightning_runs.data.classes import labels_from_names
from lightning_runs.data.datamodule import Balance, check_fraction, check_minimum
from lightning_runs.texts.datamodule import TextDataModule
from torch import Tensor
from torch.utils.data import DataLoader


class Texts(Items):
    """Tokens in memory; a batch is as wide as its longest text.

    Args:
        tokens: ``(N, max_tokens)`` int32, filled up with padding.
        lengths: How many of each text's tokens are not padding, ``(N,)`` int64.
        labels: The class of each text, or its number, ``(N,)`` int64.
        full_width: Give all of the padding, as an exported model takes it.
    """

    def __init__(self, tokens: Tensor, lengths: Tensor, labels: Tensor, full_width: bool = False) -> None:
        super().__init__(tokens, lengths, labels)
        self.lengths = lengths
        self.full_width = full_width

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        tokens, lengths, labels = super().__getitem__(indices)
        width = tokens.shape[1] if self.full_width else int(lengths.max())
        return tokens[:, :width].long(), labels


class DataModule(TextDataModule):
    """Read texts, split them, turn them into tokens and batch texts of like length.

    Batches are tokens ``(B, L)``, int64, padded at the end, and labels ``(B,)``, or the texts' index for ``predict``.

    Args:
        dataset: Which texts. glosses is part of this package; text_folder is a folder of your own with one for each
            class, ``CLASS/TEXT.txt``; csv_texts is a table of your own.
        root: The folder of text_folder, or the CSV file of csv_texts.
        text: Column of the texts in a table.
        label: Column of the classes in a table.
        tokenizer: null trains one on the training texts; or the name, or the folder, of a pretrained model.
        max_vocabulary: Number of different tokens that a trained tokenizer has at most; 257 or more.
        max_tokens: Tokens of a text; the rest of a longer text is cut off.
        balance: Let all classes count the same: weights in the loss, sampling by drawing texts of rare classes again.
        batch_size: Texts per step per device.
        val_fraction: Fraction of the training texts used for validation, between 0 and 1.
        test_fraction: Fraction of all texts that are tested, between 0 and 1.
        split_seed: Seed of the split; apart from the seed of a run, so that runs can be compared.
        fold: Which of ``num_folds`` parts of the untested texts is for validation, from 0, and predicted; null is none.
        num_folds: Parts for cross-validation; null takes ``val_fraction``.
        seed: Seed of the order; follows ``seed_everything``.
        predict_paths: Files of texts, and folders of them, that ``predict`` takes instead of the test texts.

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
        balance: Balance = "none",
        batch_size: int = 32,
        val_fraction: float = 0.2,
        test_fraction: float = 0.2,
        split_seed: int = 0,
        fold: int | None = 0,
        num_folds: int | None = None,
        seed: int = 0,
        predict_paths: list[str] | None = None,
    ) -> None:
        super().__init__(batch_size, val_fraction, split_seed, fold, num_folds, balance, seed, predict_paths)
        check_fraction("data.test_fraction", test_fraction)
        check_minimum("data.max_vocabulary", max_vocabulary, 257)
        check_minimum("data.max_tokens", max_tokens, 4)
        self.dataset = dataset
        self.root = Path(__file__).with_name("glosses.csv.gz") if dataset == "glosses" else Path(root)
        self.columns = {"text": text, "label": label}
        self.tokenizer = tokenizer
        self.max_vocabulary = max_vocabulary
        self.max_tokens = max_tokens
        self.test_fraction = test_fraction

    def setup(self, stage: str) -> None:
        """Read the texts and split them; the same whatever ``stage`` is, so it happens once."""
        if self.splits:
            return
        if self.predict_paths is not None:
            self.read_new_texts()
            index = torch.arange(len(self.texts))
            self.splits = {"predict": (Texts(*self.encode(), index, full_width=True), index)}
            return
        names = self.read_labelled_texts()  # the class of each text, (N,) str
        parts = self.split_items(len(names), names, test_fraction=self.test_fraction)
        self.check_parts(parts, self.root, minimum=2)
        if not self.known:
            self.describe_texts(names, parts)  # the classes, and a tokenizer of the training texts
        tokens, lengths = self.encode()  # (N, max_tokens) int32, (N,) int64
        texts = Texts(tokens, lengths, labels_from_names(names.tolist(), self.class_names, self.root))
        self.splits = {part: (texts, indices) for part, indices in parts.items()}
        numbered = Texts(tokens, lengths, torch.arange(len(tokens)), full_width=True)
        self.splits["predict"] = (numbered, parts[self.predicted_part])

    def train_dataloader(self) -> DataLoader:
        self.check_items()
        return self.loader("train")

    def val_dataloader(self) -> DataLoader:
        return self.loader("val")

    def test_dataloader(self) -> DataLoader:
        return self.loader("test")

    def predict_dataloader(self) -> DataLoader:
        return self.loader("predict")

    def loader(self, part: str) -> DataLoader:
        """Return the loader of a part; ``texts[indices]`` is a whole batch, of texts of like length."""
        texts, indices = self.splits[part]
        is_train = part == "train"
        return batch_loader(
            texts,
            indices,
            self.batch_size,
            train=is_train,
            seed=self.seed,
            trainer=self.trainer,
            classes=texts.labels[indices] if is_train and self.balance == "sampling" else None,
            lengths=None if texts.full_width else texts.lengths[indices],
        )
