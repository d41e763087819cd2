"""The network of a trained model, which `export` writes and which predicts arrays from Python."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor, nn

from .. import contract
from ..errors import UserError, brief


class Network:
    """What ``exported()`` returns, or else the model itself, with names for its inputs and outputs.

    Raises:
        UserError: The model has neither ``exported()`` nor a ``forward`` that predicts.
    """

    def __init__(self, model: Any, data: Any) -> None:
        name = type(model).__name__
        make = contract.get("exported", model, data)
        self.is_own = make is not None
        example = None if make else model.example_input_array
        action = f"Change exported() of {name}" if make else f"Add a method exported() to {name}"
        self.hint = f"{action}: it returns an nn.Module that maps raw inputs to the outputs of predict_step."
        if make is None and not is_overridden("forward", model):
            raise UserError(f"{name} has no forward that could be exported. {self.hint}")
        if make is None and example is None and not model.automatic_optimization:  # a GAN's forward takes noise
            raise UserError(
                f"{name} steps its optimizers itself, so its forward may not take the data's batches. Set its"
                f" example_input_array, or this: {self.hint}"
            )
        self.module: nn.Module = (make() if make else model).float().eval()
        self.class_names = list(contract.get("class_names", model, data) or [])
        self.output_names: list[str] = []  # known after the first batch
        # the model's example_input_array by the names of forward's arguments, or empty
        self.example = {} if example is None else self.inputs(example)

    def inputs(self, batch: Any) -> dict[str, Tensor]:
        """Return the arguments of ``forward`` from a batch: its first items, or by their keys if it is a dict."""
        arguments = [p for p in inspect.signature(self.module.forward).parameters.values() if "VAR" not in p.kind.name]
        required = [p.name for p in arguments if p.default is p.empty]
        if isinstance(batch, Mapping):
            found = {p.name: batch[p.name] for p in arguments if p.name in batch}
        else:
            found = dict(zip(required, batch if isinstance(batch, Sequence) else [batch], strict=False))
        missing = [name for name in required if not isinstance(found.get(name), Tensor)]
        if missing:
            raise UserError(f"the data's batches have no tensor {', '.join(missing)}, which forward takes. {self.hint}")
        return found

    def outputs(self, inputs: dict[str, Tensor], call: Callable[..., Any] | None = None) -> dict[str, Tensor]:
        """Compute the outputs of a batch by the network, or by another function that computes the same."""
        try:
            with torch.inference_mode():
                found = (call or self.module)(**inputs)
            if isinstance(found, Tensor):
                has_classes = found.shape[1:] == (len(self.class_names),)
                sums_to_one = has_classes and bool(((found.sum(dim=1) - 1).abs() < 1e-3).all())
                found = {"probabilities" if sums_to_one else "prediction": found}
            elif not isinstance(found, Mapping):
                found = {f"output_{i}": value for i, value in enumerate(found)}
            if not self.output_names:  # ONNX allows no output with the name of an input
                self.output_names = [f"{key}_out" if key in inputs else str(key) for key in found]
            return {key: value[:] for key, value in zip(self.output_names, found.values(), strict=True)}
        except Exception as error:  # a network can raise anything
            shapes = ", ".join(f"{key} {tuple(tensor.shape)} {tensor.dtype}" for key, tensor in inputs.items())
            raise UserError(f"the network can't take a batch of {shapes}: {brief(error)}. {self.hint}") from error
