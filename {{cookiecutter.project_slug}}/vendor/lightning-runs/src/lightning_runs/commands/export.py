"""``export``: write a trained model as files that need none of the project's code."""

import argparse
import copy
import inspect
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from itertools import chain, islice
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from lightning_fabric.utilities import move_data_to_device
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor, nn

from .. import contract
from ..cli.arguments import ONE_PROCESS, run_options
from ..cli.run_cli import RunCLI
from ..errors import UserError, brief
from ..files import relative_path, write_whole
from ..names import program
from ..reports import charts, predictions
from ..runs.run import results


class Network:
    """What ``exported()`` returns, or else the model itself, with names for its inputs and outputs."""

    def __init__(self, model: Any, data: Any) -> None:
        name = type(model).__name__
        make = contract.get("exported", model, data)
        action = f"Change exported() of {name}" if make else f"Add a method exported() to {name}"
        self.hint = f"{action}: it returns an nn.Module that maps raw inputs to the outputs of predict_step."
        self.or_example = "" if make else f" Or set self.example_input_array of {name} to a batch that forward takes."
        if make is None and isinstance(model, LightningModule) and not is_overridden("forward", model):
            raise UserError(f"{name} has no forward that could be exported. {self.hint}")
        self.module: nn.Module = (make() if make else model).float().eval()
        self.class_names = list(contract.get("class_names", model, data) or [])
        self.facts: dict[str, Any] = dict(getattr(self.module, "facts", {}))
        if self.class_names:
            self.facts["class_names"] = self.class_names
        self.output_names: list[str] = []  # known after the first batch

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
            raise UserError(f"batches have no tensor {', '.join(missing)} for forward. {self.hint}{self.or_example}")
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
        except Exception as error:  # a network can raise anything
            shapes = ", ".join(f"{key} {tuple(tensor.shape)} {tensor.dtype}" for key, tensor in inputs.items())
            raise UserError(f"the network can't take a batch of {shapes}: {brief(error)}. {self.hint}") from error
        for key, value in found.items():
            if not isinstance(value, Tensor) or not value.ndim:
                raise UserError(f"the network's output {key} is not a tensor with an entry for each item. {self.hint}")
        return dict(zip(self.output_names, found.values(), strict=True))


def main(args: list[str], module_class: type, data_class: type | None) -> int:
    """Write a run's best checkpoint as ONNX and by `torch.export`, compare both with it, and describe it."""
    text = "Write a run's best checkpoint as model.onnx and model.pt2 (torch.export), and a model card."
    parser = argparse.ArgumentParser(f"{program()} export", description=text, allow_abbrev=False)
    parser.add_argument("run", nargs="?", metavar="RUN", help="name or folder of a run (default: the newest finished)")
    text = "accepted difference, as a fraction of the largest output above 1 (default: %(default)s)"
    parser.add_argument("--tolerance", type=float, default=1e-4, metavar="X", help=text)
    options = parser.parse_args(args)
    on_cpu = (*ONE_PROCESS, "--trainer.accelerator=cpu", "--trainer.precision=32-true")  # like the files
    cli: Any = RunCLI(module_class, data_class, ["predict", *run_options(options.run), *on_cpu], execute=False)
    has_own = contract.get("exported", cli.model, cli.datamodule) is not None
    predicted = predictions.compute(cli) if has_own else {}  # exported() promises what predict_step returns
    cli.load()
    network = Network(cli.model, cli.datamodule)
    example = None if has_own else cli.model.example_input_array
    network.facts |= {"run": cli.run.name, "metrics": results(cli.run)}
    batches = _batches(cli, network.or_example) if example is None else iter([example])
    folder = cli.run.folder / "export"
    lines = _write(network, batches, folder / "model.onnx", options.tolerance, predicted)
    print(f"{cli.run.name}, compared with {Path(cli.ckpt_path).name}", *lines, sep="\n")
    sizes = [f"{one['name']} ({', '.join(map(str, one['shape']))})" for one in network.facts["inputs"]]
    print(f"Only the batch's size can change: {', '.join(sizes)}")
    template = charts.template(Path(__file__).with_name("model_card.md.jinja"), autoescape=False)
    write_whole(folder / "README.md", template.render(cli=cli, facts=network.facts, comparison=lines))
    print(f"Exported to {relative_path(folder)}: model.onnx, model.pt2, and README.md (the model card)")
    return 0


def export(model: nn.Module, batch: Any, file: str | Path, tolerance: float = 1e-4) -> list[str]:
    """Write a model as ONNX and by `torch.export`, if both compute what its ``forward`` does; return the differences.

    Args:
        model: A LightningModule or any other module. If it has a method ``exported``, what that returns is written.
        batch: As a loader yields it: a tensor, a sequence that begins with what ``forward`` takes, or a dict with it.
        file: The ONNX file, such as ``model.onnx``. The other one, ``model.pt2``, is written beside it.
        tolerance: Accepted difference, as a fraction of the largest output above 1.

    Raises:
        UserError: The model can't take the batch or be exported for batches of any size, or a file differs from it.
    """
    network = Network(copy.deepcopy(model).cpu(), None)
    return _write(network, iter([move_data_to_device(batch, "cpu")]), Path(file), tolerance, {})


def _write(network: Network, batches: Iterator[Any], file: Path, tolerance: float, predicted: Any) -> list[str]:
    """Write both files if they compute what the network does, and what the Trainer has; return the differences."""
    inputs = map(network.inputs, batches)
    first = next(inputs, None)
    if first is None:
        raise UserError("the data's loader yields no batch, so an export can't be compared.")
    network.facts |= {"inputs": _signature(first), "outputs": _signature(network.outputs(first))}
    contents = _contents(network, first, json.dumps(network.facts, ensure_ascii=False))
    computed = _compute(network, contents, chain([first], inputs))
    expected = computed.pop("model")
    shapes = {name: getattr(column, "shape", None) for name, column in predicted.items()}
    computed["the Trainer"] = {name: predicted[name] for name, t in expected.items() if shapes.get(name) == t.shape}
    lines = [
        compare(f"{name} by {source}", output, expected[name], tolerance, network.hint)
        for source, outputs in computed.items()
        for name, output in outputs.items()
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    for suffix, content in contents.items():
        write_whole(file.with_suffix(suffix), content)
    return lines


def _signature(tensors: dict[str, Tensor]) -> list[dict[str, Any]]:
    """Return the name, the dtype and the shape of each input or output."""
    return [{"name": k, "dtype": str(t.dtype)[6:], "shape": ["batch", *t.shape[1:]]} for k, t in tensors.items()]


def _batches(cli: Any, or_example: str) -> Iterator[Any]:
    """Yield the batches of ``predict``, ``test`` or ``validate``, before the data's hooks change them."""
    owners = [owner for owner in (cli.datamodule, cli.model) if owner is not None]
    splits = {"predict": "predict", "test": "test", "val": "validate"}
    found = [(s, owner) for s in splits for owner in owners if is_overridden(f"{s}_dataloader", owner)]
    if not found:
        raise UserError(f"no data to compare on. Add predict_dataloader to {type(owners[0]).__name__}.{or_example}")
    split, owner_of_loaders = found[0]
    for owner in owners:
        owner.trainer = cli.trainer
        owner.prepare_data()
        owner.setup(splits[split])
    loaders = getattr(owner_of_loaders, f"{split}_dataloader")()
    limit = getattr(cli.trainer, f"limit_{split}_batches")  # a stream may have no end
    for loader in loaders if isinstance(loaders, Sequence) else [loaders]:
        yield from islice(loader, limit if isinstance(limit, int) else None)


def _contents(network: Network, inputs: dict[str, Tensor], facts: str) -> dict[str, bytes]:
    """Return the content of each file by its suffix, for batches of any size."""
    shapes = {name: {0: torch.export.Dim("batch", min=1)} for name in inputs}
    two_items = {name: torch.cat([tensor, tensor])[:2] for name, tensor in inputs.items()}  # a size of 1 would be fixed
    names: dict[str, Any] = {"input_names": [*inputs], "output_names": network.output_names}
    news = io.StringIO()  # torch warns of its own code
    try:
        with redirect_stderr(news), torch.compiler.set_stance("force_eager"):  # the network may be compiled
            exported = torch.export.export(network.module, (), two_items, dynamic_shapes=shapes)
            onnx: Any = torch.onnx.export(exported, kwargs=two_items, dynamo=True, verbose=False, **names)
    except Exception as error:  # the exporters raise many types
        print(news.getvalue(), end="", file=sys.stderr)
        name = type(network.module).__name__
        raise UserError(f"{name} can't be exported for batches of any size: {brief(error)}. {network.hint}") from error
    onnx.model.metadata_props["facts"] = facts
    stream = io.BytesIO()
    torch.export.save(exported, stream, extra_files={"facts.json": facts})
    return {".onnx": onnx.model_proto.SerializeToString(), ".pt2": stream.getvalue()}


def _compute(
    network: Network, contents: dict[str, bytes], batches: Iterable[dict[str, Tensor]]
) -> dict[str, dict[str, Tensor]]:
    """Return the outputs for all of the data, by the network itself and by each file."""
    session = onnxruntime.InferenceSession(contents[".onnx"], providers=["CPUExecutionProvider"])

    def by_onnx(**inputs: Tensor) -> list[Tensor]:
        outputs = session.run(network.output_names, {name: tensor.numpy() for name, tensor in inputs.items()})
        return [torch.from_numpy(output) for output in outputs]

    by_torch = torch.export.load(io.BytesIO(contents[".pt2"])).module()
    calls = {"model": network.module, "ONNX": by_onnx, "torch.export": by_torch}
    parts = [{name: network.outputs(inputs, call) for name, call in calls.items()} for inputs in batches]
    return {
        name: {key: torch.cat([part[name][key] for part in parts]) for key in network.output_names} for name in calls
    }


def compare(name: str, found: Tensor, expected: Tensor, tolerance: float, hint: str) -> str:
    """Return a line on how far an output is from the model's, or raise it if that exceeds the tolerance."""
    if expected.is_floating_point():
        differences = torch.where(found == expected, 0.0, (found.double() - expected.double()).abs())
        difference = differences.nan_to_num(nan=torch.inf, posinf=torch.inf).max().item()
        accepted = tolerance * max(1.0, expected.double().abs().nan_to_num(posinf=0.0).max().item())
        text = f"largest difference {difference:.1e} (accepted: {accepted:.1e})"
    else:  # such as classes: rounding may choose the other of two that are nearly equal
        difference = (found != expected).double().mean().item()
        accepted = tolerance
        text = f"fraction of different values {difference:.1e} (accepted: {accepted:.1e})"
    if difference > accepted:
        raise UserError(f"nothing was written: {name} lies too far from the model's, {text}. {hint}")
    return f"{name}: {text}"
