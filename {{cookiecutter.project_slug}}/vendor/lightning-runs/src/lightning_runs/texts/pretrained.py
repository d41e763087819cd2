"""Pretrained encoders of transformers, as networks for texts."""

import json
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from ..errors import UserError, reason, require
from ..training.pretrained import PretrainedNetwork


def read_pretrained(name: str) -> tuple[Tokenizer, dict[str, Any]]:
    """Return the tokenizer of a pretrained model, and its configuration with its name and its padding token.

    Raises:
        UserError: transformers is not installed, or the model can't be read, or has no such tokenizer.
    """
    require("pretrained", "transformers")
    from transformers import AutoConfig, AutoTokenizer  # pyright: ignore[reportMissingImports]

    try:
        config = AutoConfig.from_pretrained(name)
        tokenizer = AutoTokenizer.from_pretrained(name)
        backend = tokenizer.backend_tokenizer
    except Exception as error:  # of a hub, or of files that may hold anything
        raise UserError(
            f"data.tokenizer is {name}, which can't be read: {reason(error)}. Give a model of the hub that is in the"
            " cache or can be downloaded, or a folder that save_pretrained wrote."
        ) from error
    pad = tokenizer.pad_token_id or 0
    return backend, {"name": name, "pad": pad, "model_type": config.model_type, **json.loads(config.to_json_string())}


class PretrainedEncoder(PretrainedNetwork):
    """A pretrained encoder such as BERT, with the mean of its output over a text's tokens and a new output layer.

    ``--data.tokenizer`` chooses it, because it knows the tokens of its own tokenizer.

    Args:
        vocabulary_size: Number of different tokens.
        num_classes: Number of logits.
        dropout: Fraction of the mean's numbers zeroed in training, 0 to 1.
        weights: Start with the pretrained weights; false starts at random.
    """

    def __init__(self, vocabulary_size: int, num_classes: int, dropout: float = 0.1, weights: bool = True) -> None:
        super().__init__(weights)
        self.num_classes = num_classes
        self.dropout = nn.Dropout(dropout)

    def build(self, config: dict[str, Any] | None) -> None:
        """Make the layers of a configuration of `read_pretrained`.

        Raises:
            UserError: There is none, because the tokenizer is not that of a pretrained model.
        """
        if config is None:
            raise UserError(
                "model.network is PretrainedEncoder, but data.tokenizer is null. Name the pretrained model, such as"
                " --data.tokenizer distilbert-base-uncased"
            )
        require("pretrained", "transformers")
        from transformers import AutoConfig, AutoModel  # pyright: ignore[reportMissingImports]

        options = {key: value for key, value in config.items() if key not in ("name", "pad", "model_type")}
        self.name = config["name"]
        self.pad = config["pad"]
        self.encoder: Any = AutoModel.from_config(AutoConfig.for_model(config["model_type"], **options))
        self.last = nn.Linear(self.encoder.config.hidden_size, self.num_classes)

    def load_weights(self) -> None:
        """Read the pretrained weights into all but the output layer.

        Raises:
            UserError: They can't be read.
        """
        from transformers import AutoModel  # pyright: ignore[reportMissingImports]

        try:
            self.encoder.load_state_dict(AutoModel.from_pretrained(self.name, dtype=torch.float32).state_dict())
        except Exception as error:  # of a hub, or of files that may hold anything
            raise UserError(
                f"the weights of {self.name} can't be read: {reason(error)}. To start at random:"
                " --model.network.init_args.weights false"
            ) from error

    def layer_groups(self) -> list[list[nn.Module]]:
        """Return the layers from the input to the output: embeddings, each layer of the encoder, and the output."""
        groups: list[list[nn.Module]] = []
        for part in self.encoder.children():
            stacks = [module for module in part.modules() if isinstance(module, nn.ModuleList)]
            if stacks:
                groups += [[layer] for layer in stacks[0]]
            elif any(True for _ in part.parameters()):
                groups.append([part])
        return [*groups, [self.last]]

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``(B, L)`` to logits ``(B, num_classes)``."""
        is_token = tokens != self.pad
        hidden = self.encoder(input_ids=tokens, attention_mask=is_token.long()).last_hidden_state  # (B, L, width)
        weights = is_token.unsqueeze(2).to(hidden.dtype)
        return self.last(self.dropout((hidden * weights).sum(dim=1) / weights.sum(dim=1)))
