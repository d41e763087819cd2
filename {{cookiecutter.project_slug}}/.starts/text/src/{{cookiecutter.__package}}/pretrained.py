"""Pretrained encoders of transformers, as networks of this project (docs/pretrained.md)."""

from __future__ import annotations

import json
from typing import Any

import torch
from lightning_runs.errors import UserError, reason, require
from tokenizers import Tokenizer
from torch import Tensor, nn


def describe(name: str) -> tuple[Tokenizer, dict[str, Any]]:
    """Return a pretrained model's tokenizer and its configuration, with its name and its padding token.

    Raises:
        UserError: transformers is not installed, or the model is not there, or has no such tokenizer.
    """
    require("pretrained", "transformers")
    from transformers import AutoConfig, AutoTokenizer  # pyright: ignore[reportMissingImports]

    try:
        config, tokenizer = AutoConfig.from_pretrained(name), AutoTokenizer.from_pretrained(name)
        backend = tokenizer.backend_tokenizer
    except Exception as error:  # of a hub, or of files that may hold anything
        raise UserError(
            f"data.tokenizer is {name}, which can't be read: {reason(error)}. Give a model of the hub that is in the"
            " cache or can be downloaded, or a folder that save_pretrained wrote."
        ) from error
    pad = tokenizer.pad_token_id or 0
    return backend, {"name": name, "pad": pad, "model_type": config.model_type, **json.loads(config.to_json_string())}


class PretrainedEncoder(nn.Module):
    """A pretrained encoder such as BERT, with the mean of its output over a text's tokens and a new output layer.

    Which one it is follows from ``--data.tokenizer``, whose tokens it knows.

    Args:
        vocabulary_size: Number of different tokens.
        num_classes: Number of logits.
        dropout: Fraction of the mean's numbers zeroed in training, 0 to 1.
        weights: Begin with the pretrained weights; false begins at random. They are read by `load_weights`, which only
            a new training calls.

    Raises:
        UserError: There is no pretrained model whose tokens it could know.
    """

    def __init__(self, vocabulary_size: int, num_classes: int, dropout: float = 0.1, weights: bool = True) -> None:
        super().__init__()
        self.sizes, self.weights, self.dropout = (vocabulary_size, num_classes), weights, nn.Dropout(dropout)

    def build(self, config: dict[str, Any] | None) -> None:
        """Make the layers that the configuration of `describe` says."""
        if config is None:
            raise UserError(
                "the network is PretrainedEncoder, but the tokenizer is none of a pretrained model. Name the model,"
                " such as --data.tokenizer distilbert-base-uncased"
            )
        require("pretrained", "transformers")
        from transformers import AutoConfig, AutoModel  # pyright: ignore[reportMissingImports]

        known = {key: value for key, value in config.items() if key not in ("name", "pad", "model_type")}
        self.name, self.pad = config["name"], config["pad"]
        self.encoder: Any = AutoModel.from_config(AutoConfig.for_model(config["model_type"], **known))
        self.last = nn.Linear(self.encoder.config.hidden_size, self.sizes[1])

    def load_weights(self) -> None:
        """Read the pretrained weights into all but the output layer.

        Raises:
            UserError: They can't be read.
        """
        if not self.weights:
            return
        from transformers import AutoModel  # pyright: ignore[reportMissingImports]

        try:
            self.encoder.load_state_dict(AutoModel.from_pretrained(self.name, dtype=torch.float32).state_dict())
        except Exception as error:  # of a hub, or of files that may hold anything
            raise UserError(
                f"the weights of {self.name} can't be read: {reason(error)}. To begin at random:"
                " --model.network.init_args.weights false"
            ) from error

    def layer_groups(self) -> list[list[nn.Module]]:
        """Return the layers from the input to the output: embeddings, each layer of the encoder, and the output."""
        parts = [part for part in self.encoder.children() if any(True for _ in part.parameters())]
        groups: list[list[nn.Module]] = []
        for part in parts:
            stacks = [of for of in part.modules() if isinstance(of, nn.ModuleList)]
            groups += [[layer] for layer in stacks[0]] if stacks else [[part]]
        return [*groups, [self.last]]

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``(B, L)`` to logits ``(B, num_classes)``."""
        there = tokens != self.pad
        hidden = self.encoder(input_ids=tokens, attention_mask=there.long()).last_hidden_state  # (B, L, width)
        weights = there.unsqueeze(2).to(hidden.dtype)
        return self.last(self.dropout((hidden * weights).sum(dim=1) / weights.sum(dim=1)))
