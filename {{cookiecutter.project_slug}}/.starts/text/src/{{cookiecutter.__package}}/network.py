"""Networks: plain ``nn.Module`` classes that know nothing of Lightning.

A network takes ``vocabulary_size`` and ``num_classes``, both read off the data, and maps tokens ``(B, L)``, int64, to
logits ``(B, num_classes)``. Shorter texts of a batch are filled up with `PAD` at their end, which must not change the
logits. Write yours here and name it in ``configs/default.yaml`` (``model.network.class_path``).
"""

import math

import torch
from torch import Tensor, nn

PAD = 0  # the token that fills up a text


def mean_of_tokens(features: Tensor, tokens: Tensor) -> Tensor:
    """Average features ``(B, L, D)`` over the tokens ``(B, L)`` of each text that are no padding: ``(B, D)``."""
    there = (tokens != PAD).unsqueeze(2).to(features.dtype)  # (B, L, 1)
    return (features * there).sum(dim=1) / there.sum(dim=1)


class EmbeddingAverage(nn.Module):
    """Average the embeddings of a text's tokens, and classify the mean: quick, and hard to beat on few texts.

    Args:
        vocabulary_size: Number of different tokens.
        num_classes: Number of logits.
        width: Numbers that stand for a token.
        dropout: Fraction of tokens left out in training, and of the mean's numbers zeroed, 0 to 1.
    """

    def __init__(self, vocabulary_size: int, num_classes: int, width: int = 128, dropout: float = 0.3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, width, padding_idx=PAD)
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(width, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``(B, L)`` to logits ``(B, num_classes)``."""
        return self.last(self.dropout(mean_of_tokens(self.embedding(tokens), tokens)))


class TransformerEncoder(nn.Module):
    """Small Transformer encoder with the norm before each part, https://arxiv.org/abs/2002.04745.

    Args:
        vocabulary_size: Number of different tokens.
        num_classes: Number of logits.
        width: Numbers that stand for a token; an even multiple of ``num_heads``.
        num_layers: Number of layers, each of attention and of two linear maps.
        num_heads: Number of attention heads.
        dropout: Fraction of units zeroed, 0 to 1.
    """

    def __init__(
        self,
        vocabulary_size: int,
        num_classes: int,
        width: int = 128,
        num_layers: int = 2,
        num_heads: int = 4,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, width, padding_idx=PAD)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, num_heads, 4 * width, dropout, batch_first=True, norm_first=True)
            for _ in range(num_layers)
        )
        self.last = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, num_classes))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``(B, L)`` to logits ``(B, num_classes)``."""
        embedded = self.embedding(tokens)  # (B, L, width)
        hidden = self.dropout(embedded + positions(*embedded.shape[1:]).to(embedded))
        for layer in self.layers:
            hidden = layer(hidden, src_key_padding_mask=tokens == PAD)
        return self.last(mean_of_tokens(hidden, tokens))


def positions(length: int, width: int) -> Tensor:
    """Return a wave for each place in a text, ``(length, width)``, https://arxiv.org/abs/1706.03762, section 3.5."""
    rates = torch.exp(-math.log(10_000) * torch.arange(0, width, 2) / width)
    angles = torch.arange(length)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
