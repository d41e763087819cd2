"""The module that is exported: `export` writes it, and `predict` of runtime/python.py calls it with arrays."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor, nn

from .. import contract
from ..errors import UserError, brief


class Network:
    """The module that is exported, with names for what goes in and what comes out.

    Args:
        model: The LightningModule, with its trained weights.
        data: The data module, or None.
    """

    def __init__(self, model: Any, data: Any) -> None:
        name, make = type(model).__name__, contract.get("exported", model, data)
        what = f"Change exported() of {name}" if make else f"Add to {name} a method exported()"
        self.hint = f"{what}, which returns an nn.Module that maps raw inputs to outputs."
        if make is None and not is_overridden("forward", model):
            raise UserError(f"{name} has no forward that could be exported. {self.hint}")
        if make is None and not model.automatic_optimization:  # a GAN's forward takes noise, and no data
            raise UserError(
                f"{name} steps its optimizers itself, so it must say which network is the result. {self.hint}"
            )
        self.module: nn.Module = (make() if make else model).float().eval()
        self.class_names = list(contract.get("class_names", model, data) or [])
        self.outputs: list[str] = []  # their names, known after the first batch

    def inputs(self, batch: Any) -> dict[str, Tensor]:
        """The arguments of ``forward`` that a batch holds: its first items, or by name if it is a dict."""
        arguments = [p for p in inspect.signature(self.module.forward).parameters.values() if "VAR" not in p.kind.name]
        required = [p.name for p in arguments if p.default is p.empty]
        if isinstance(batch, Mapping):
            found = {p.name: batch[p.name] for p in arguments if p.name in batch}
        else:
            found = dict(zip(required, batch if isinstance(batch, Sequence) else [batch], strict=False))
        if wrong := [name for name in required if not isinstance(found.get(name), Tensor)]:
            raise UserError(
                f"the data's batches hold no tensor for forward's argument {', '.join(wrong)}; a dict is taken by its"
                f" keys. {self.hint}"
            )
        return found

    def run(self, name: str, call: Callable[..., Any], inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute the outputs of a batch, by name."""
        try:
            with torch.inference_mode():
                found = call(**inputs)
            if isinstance(found, Tensor):
                shares = found.shape[1:] == (len(self.class_names),) and ((found.sum(dim=1) - 1).abs() < 1e-3).all()
                found = {"probabilities" if shares else "prediction": found}
            found = found if isinstance(found, Mapping) else {f"output_{i}": value for i, value in enumerate(found)}
            self.outputs = self.outputs or [f"{key}_out" if key in inputs else str(key) for key in found]
            return {key: value[:] for key, value in zip(self.outputs, found.values(), strict=True)}
        except Exception as error:  # whatever a network raises
            shapes = ", ".join(f"{key} {tuple(tensor.shape)} {tensor.dtype}" for key, tensor in inputs.items())
            raise UserError(f"{name} can't take a batch of {shapes}: {brief(error)}. {self.hint}") from error
