"""Networks: plain ``nn.Module`` classes that know nothing of Lightning.

A network takes ``num_numbers``, ``vocabulary_sizes`` and ``num_outputs``, all read off the data, and maps numbers
``(B, num_numbers)``, float, standardised, and words ``(B, W)``, int64, to ``(B, num_outputs)``: logits of the classes,
or one number. Write yours here and name it in ``configs/default.yaml`` (``model.network.class_path``).
"""

from typing import Any

import torch
from torch import Tensor, nn


class Standardize(nn.Module):
    """Turn the encoded columns of a table, ``(B, C)`` float32, into the inputs of a network.

    Numbers get mean 0 and standard deviation 1 over the training rows. A missing number becomes 0, and a column that
    had missing numbers in training gets a second number, 1 where it is missing. Words become int64 positions.

    Args:
        columns: What is known of each column: ``words``, or ``mean``, ``std`` and ``missing``; taken from the data.

    Attributes:
        num_numbers: Numbers of a row.
        vocabulary_sizes: Number of words of each column of words, the unknown word among them.
    """

    def __init__(self, columns: dict[str, Any]) -> None:
        super().__init__()
        known = list(enumerate(columns.values()))
        numbers = [i for i, column in known if "mean" in column]
        flags = [i for i, column in known if column.get("missing")]
        words = [i for i, column in known if "words" in column]
        self.num_numbers = len(numbers) + len(flags)
        self.vocabulary_sizes = [len(column["words"]) + 1 for _, column in known if "words" in column]
        # None instead of an empty tensor, which torch.export can't save
        self.numbers = nn.Buffer(torch.tensor(numbers)) if numbers else None
        self.flags = nn.Buffer(torch.tensor(flags)) if flags else None
        self.words = nn.Buffer(torch.tensor(words)) if words else None
        self.mean = nn.Buffer(torch.tensor([known[i][1]["mean"] for i in numbers] or [0.0]))
        self.std = nn.Buffer(torch.tensor([known[i][1]["std"] for i in numbers] or [1.0]))

    def forward(self, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Return numbers ``(B, num_numbers)`` float and words ``(B, W)`` int64."""
        none = columns[:, :0]
        numbers = none if self.numbers is None else (columns[:, self.numbers] - self.mean) / self.std
        numbers = torch.where(numbers.isnan(), 0.0, numbers)
        flags = none if self.flags is None else columns[:, self.flags].isnan().float()
        words = none if self.words is None else columns[:, self.words]
        return torch.cat([numbers, flags], dim=1), words.long()


class TableNet(nn.Module):
    """Residual networks with an embedding of each word, beside a linear model whose outputs are added.

    The networks share their weights but for factors of the features, which begin as signs, and the last layer
    (https://arxiv.org/abs/2410.24210, TabM-mini). In training each has its own outputs; otherwise they are averaged.

    Args:
        num_numbers: Numbers of a row.
        vocabulary_sizes: Number of words of each column of words, the unknown word among them.
        num_outputs: Number of logits, or 1 for a number.
        width: Units of each layer.
        num_blocks: Number of residual blocks.
        embedding_size: Numbers that stand for a word.
        dropout: Fraction of units zeroed in each block, 0 to 1.
        members: Number of networks.
    """

    def __init__(
        self,
        num_numbers: int,
        vocabulary_sizes: list[int],
        num_outputs: int,
        width: int = 32,
        num_blocks: int = 2,
        embedding_size: int = 4,
        dropout: float = 0.2,
        members: int = 8,
    ) -> None:
        super().__init__()
        first_words = torch.tensor([0, *vocabulary_sizes[:-1]]).cumsum(0)
        self.first_words = nn.Buffer(first_words, persistent=False)  # of each column, in the one embedding
        self.embedding = nn.Embedding(sum(vocabulary_sizes), embedding_size) if vocabulary_sizes else None
        num_features = num_numbers + embedding_size * len(vocabulary_sizes)
        self.linear = nn.Linear(num_features, num_outputs)
        self.factors = nn.Parameter(torch.randint(0, 2, (members, num_features)) * 2.0 - 1)
        self.first = nn.Linear(num_features, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout))
            for _ in range(num_blocks)
        )
        self.last = nn.Sequential(nn.LayerNorm(width), nn.ReLU())
        self.heads = nn.Parameter((torch.rand(members, width, num_outputs) * 2 - 1) / width**0.5)

    def forward(self, numbers: Tensor, words: Tensor) -> Tensor:
        """Map numbers ``(B, num_numbers)`` and words ``(B, W)`` to ``(B, num_outputs)``, in training to B * members."""
        features = numbers
        if self.embedding is not None:
            features = torch.cat([numbers, self.embedding(words + self.first_words).flatten(1)], dim=1)
        hidden = self.first(features.unsqueeze(1) * self.factors)  # (B, members, width)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        outputs = self.linear(features).unsqueeze(1) + torch.einsum("bmw,mwo->bmo", self.last(hidden), self.heads)
        return outputs.flatten(0, 1) if self.training else outputs.mean(dim=1)
