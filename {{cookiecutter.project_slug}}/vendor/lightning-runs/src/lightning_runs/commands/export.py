"""``export``: write a trained model as files that need none of the project's code."""

import argparse
import inspect
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor, nn

from .. import contract
from ..cli.arguments import ONE_PROCESS, run_options
from ..cli.run_cli import RunCLI
from ..errors import UserError, brief
from ..files import relative_path, write_whole
from ..names import program
from ..reports import charts, predictions
from ..runs.run import test_result


class Network:
    """What ``exported()`` returns, or else the model itself, with names for its inputs and outputs."""

    def __init__(self, model: Any, data: Any) -> None:
        name = type(model).__name__
        make = contract.get("exported", model, data)
        action = f"Change exported() of {name}" if make else f"Add a method exported() to {name}"
        self.hint = f"{action}: it returns an nn.Module that maps raw inputs to the outputs of predict_step."
        if make is None and not is_overridden("forward", model):
            raise UserError(f"{name} has no forward that could be exported. {self.hint}")
        self.module: nn.Module = (make() if make else model).float().eval()
        self.class_names = list(contract.get("class_names", model, data) or [])
        self.output_names: list[str] = []  # known after the first batch
        example = None if make else model.example_input_array
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


def main(args: list[str], module_class: type, data_class: type | None) -> int:
    """Write a run's best checkpoint as ONNX and by `torch.export`, compare both with it, and describe it."""
    parser = argparse.ArgumentParser(
        prog=f"{program()} export",
        description="Write a run's best checkpoint as model.onnx and model.pt2 (torch.export), and a model card.",
        allow_abbrev=False,
    )
    parser.add_argument("run", nargs="?", metavar="RUN", help="name or folder of a run (default: the newest finished)")
    text = "accepted difference, as a fraction of the largest output above 1 (default: %(default)s)"
    parser.add_argument("--tolerance", type=float, default=1e-4, metavar="X", help=text)
    options = parser.parse_args(args)
    on_cpu = (*ONE_PROCESS, "--trainer.accelerator=cpu", "--trainer.precision=32-true")  # like the files
    cli: Any = RunCLI(module_class, data_class, ["predict", *run_options(options.run), *on_cpu], execute=False)
    folder = cli.run.folder / "export"
    with tempfile.TemporaryDirectory() as temporary:
        _export(cli, Path(temporary), options.tolerance)
        folder.mkdir(exist_ok=True)
        for file in Path(temporary).iterdir():
            write_whole(folder / file.name, file.read_bytes())
    print(f"Exported to {relative_path(folder)}: model.onnx, model.pt2 and README.md, a model card")
    return 0


def _export(cli: Any, folder: Path, tolerance: float) -> None:
    """Write the files into a folder, and compare them with the checkpoint."""
    has_own = contract.get("exported", cli.model, cli.datamodule) is not None
    predicted = predictions.compute(cli) if has_own else {}  # exported() promises what predict_step returns
    cli.load()
    network = Network(cli.model, cli.datamodule)
    batches = iter([network.example]) if network.example else map(network.inputs, _batches(cli))
    first = next(batches, None)
    if first is None:
        raise UserError("the data's loader yields no batch, so an export can't be compared.")
    facts = {
        **getattr(network.module, "facts", {}),
        **({"class_names": network.class_names} if network.class_names else {}),
        "run": cli.run.name,
        "metrics": test_result(cli.run),
        "inputs": _signature(first),
        "outputs": _signature(network.outputs(first)),
    }
    _write(network, first, json.dumps(facts, ensure_ascii=False), folder)
    computed = _compute(network, folder, chain([first], batches))
    expected = computed.pop("checkpoint")
    shapes = {name: getattr(column, "shape", None) for name, column in predicted.items()}
    computed["the Trainer"] = {name: predicted[name] for name, t in expected.items() if shapes.get(name) == t.shape}
    lines = [
        compare(f"{name} by {source}", output, expected[name], tolerance, network.hint)
        for source, outputs in computed.items()
        for name, output in outputs.items()
    ]
    print(f"{cli.run.name}, compared with {Path(cli.ckpt_path).name}", *lines, sep="\n")
    template = charts.template(Path(__file__).with_name("model_card.md.jinja"), autoescape=False)
    card = template.render(cli=cli, facts=facts, comparison=lines)
    (folder / "README.md").write_text(card, encoding="utf-8")


def _signature(tensors: dict[str, Tensor]) -> list[dict[str, Any]]:
    """Return the name, the dtype and the shape of each input or output."""
    return [{"name": k, "dtype": str(t.dtype)[6:], "shape": ["batch", *t.shape[1:]]} for k, t in tensors.items()]


def _batches(cli: Any) -> Iterator[Any]:
    """Yield the batches of ``predict``, ``test`` or ``validate``, before the data's hooks change them."""
    owners = [owner for owner in (cli.datamodule, cli.model) if owner is not None]
    splits = {"predict": "predict", "test": "test", "val": "validate"}
    found = [(s, owner) for s in splits for owner in owners if is_overridden(f"{s}_dataloader", owner)]
    if not found:
        raise UserError(f"there are no data to compare on. Add predict_dataloader to {type(owners[0]).__name__}.")
    split, owner_of_loaders = found[0]
    for owner in owners:
        owner.trainer = cli.trainer
        owner.prepare_data()
        owner.setup(splits[split])
    loaders = getattr(owner_of_loaders, f"{split}_dataloader")()
    limit = getattr(cli.trainer, f"limit_{split}_batches")  # a stream may have no end
    for loader in loaders if isinstance(loaders, Sequence) else [loaders]:
        yield from islice(loader, limit if isinstance(limit, int) else None)


def _write(network: Network, inputs: dict[str, Tensor], facts: str, folder: Path) -> None:
    """Write both files, for batches of any size."""
    shapes = {name: {0: torch.export.Dim("batch", min=1)} for name in inputs}
    two_items = {name: torch.cat([tensor, tensor])[:2] for name, tensor in inputs.items()}  # a size of 1 would be fixed
    names: dict[str, Any] = {"input_names": [*inputs], "output_names": network.output_names}
    try:
        with torch.compiler.set_stance("force_eager"):  # the network may be compiled
            exported = torch.export.export(network.module, (), two_items, dynamic_shapes=shapes)
            onnx: Any = torch.onnx.export(exported, kwargs=two_items, dynamo=True, verbose=False, **names)
    except Exception as error:  # the exporters raise many types
        name = type(network.module).__name__
        raise UserError(f"{name} can't be exported for batches of any size: {brief(error)}. {network.hint}") from error
    onnx.model.metadata_props["facts"] = facts
    onnx.save(folder / "model.onnx", external_data=False)
    torch.export.save(exported, folder / "model.pt2", extra_files={"facts.json": facts})


def _compute(network: Network, folder: Path, batches: Iterable[dict[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """Return the outputs for all of the data, by the checkpoint's network and by each file."""
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])

    def by_onnx(**inputs: Tensor) -> list[Tensor]:
        outputs = session.run(network.output_names, {name: tensor.numpy() for name, tensor in inputs.items()})
        return [torch.from_numpy(output) for output in outputs]

    by_torch = torch.export.load(folder / "model.pt2").module()
    calls = {"checkpoint": network.module, "model.onnx": by_onnx, "model.pt2": by_torch}
    parts = [{name: network.outputs(inputs, call) for name, call in calls.items()} for inputs in batches]
    return {
        name: {key: torch.cat([part[name][key] for part in parts]) for key in network.output_names} for name in calls
    }


def compare(name: str, found: Tensor, expected: Tensor, tolerance: float, hint: str) -> str:
    """Return a line on how far an output is from the checkpoint's, or raise it if that exceeds the tolerance."""
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
        raise UserError(f"nothing was written, because {name} differs from the checkpoint's: {text}. {hint}")
    return f"{name}: {text}"
