"""``python -m <package> export``: take a trained model away, as files that need none of this project's code."""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import shutil
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from importlib.metadata import version
from itertools import islice, product
from pathlib import Path
from typing import Any

import torch
import yaml
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor, nn

from ..cli.arguments import ONE_PROCESS, run_options
from ..cli.run_cli import RunCLI
from ..errors import UserError, brief, require
from ..names import program
from ..reports import charts, predictions
from ..runs import Run
from ..runs.run import test_result
from .exported import Network

# One process on the CPU in single precision: the exported files, which are compared with it, are run so too.
ON_CPU = (*ONE_PROCESS, "--trainer.accelerator=cpu", "--trainer.precision=32-true")
LEFT = 24 * 3600  # seconds after which a folder of an export is taken for that of one that was killed
TRAINER = "the Trainer"  # the other names of what is compared are file names


def main(args: list[str], module_class: type, data_class: type | None) -> int:
    """Write a run's best checkpoint as ONNX and by `torch.export`, compare both with it, and describe it.

    Raises:
        UserError: The run can't be exported, or a file computes something else than the checkpoint.
    """
    parser = argparse.ArgumentParser(
        prog=f"{program()} export",
        description="Write a run's best checkpoint as model.onnx, model.pt2 (torch.export) and a model card into the"
        " run's folder, export/. What is exported is the module that exported() of the LightningModule returns, or else"
        " its forward. Both files are compared with it on all batches of predict_dataloader, or of test_dataloader.",
        allow_abbrev=False,
    )
    parser.add_argument("run", nargs="?", metavar="RUN", help="name or folder of a run (default: the newest finished)")
    text = "largest difference that is accepted, as a fraction of the largest output above 1 (default: 0.0001)"
    parser.add_argument("--tolerance", type=float, default=1e-4, metavar="X", help=text)
    options = parser.parse_args(args)
    if not 0 <= options.tolerance <= 1:
        raise UserError(f"--tolerance is {options.tolerance}; it must lie between 0 and 1, such as 0.0001.")
    require("export", "onnx", "onnxscript", "onnxruntime")
    cli = RunCLI(module_class, data_class, ["predict", *run_options(options.run), *ON_CPU], execute=False)
    assert cli.run is not None  # `predict` has found one
    folder = cli.run.folder / "export"
    for left in cli.run.folder.glob(".export.*"):  # a younger one may be of an export that another process makes now
        if time.time() - left.stat().st_mtime > LEFT:
            shutil.rmtree(left, ignore_errors=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".export.", dir=cli.run.folder) as temporary:
            _export(cli, cli.run, Path(temporary), options.tolerance)
            folder.mkdir(exist_ok=True)
            for file in sorted(Path(temporary).iterdir()):  # each was compared before it gets its name
                os.replace(file, folder / file.name)
    except OSError as error:
        raise UserError(f"the export can't be written to {folder}: {error.strerror or error}.") from error
    print(f"Exported to {os.path.relpath(folder)}: model.onnx, model.pt2, README.md (a model card)")
    return 0


def _export(cli: RunCLI, run: Run, folder: Path, tolerance: float) -> None:
    """Write the files into a folder, and compare what they compute with the module and with the Trainer."""
    computed: dict[str, dict[str, Any]] = {}
    lines = []
    try:
        computed[TRAINER] = predictions.compute(cli)
    except Exception as error:  # the files are compared with the module all the same
        lines.append(f"{TRAINER}: not compared, for it can't predict: {brief(error)}")
    cli.load()
    network = Network(cli.model, cli.datamodule)
    inputs = next((network.inputs(batch) for batch in _batches(cli)), None)
    if inputs is None:
        raise UserError("the data's loader yields no batch, so an export can't be compared.")
    facts = {**getattr(network.module, "facts", {}), "run": run.name}
    facts |= {"metrics": test_result(run), "commit": (run.record.get("git") or {}).get("commit")}  # for `serve`
    facts |= {"class_names": network.class_names} if network.class_names else {}
    for key, tensors in (("inputs", inputs), ("outputs", network.run("forward", network.module, inputs))):
        dtypes = {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in tensors.items()}
        facts[key] = [{"name": n, "dtype": dtypes[n], "shape": ["batch", *t.shape[1:]]} for n, t in tensors.items()]
    _write(network, folder, inputs, json.dumps(facts, ensure_ascii=False))
    computed |= _compute(network, folder, _batches(cli))
    lines += _compare(computed, len(network.class_names), tolerance)
    print(f"{run.name}, compared with {Path(str(cli.ckpt_path)).name}", *lines, sep="\n")
    (folder / "README.md").write_text(_card(cli, run, network.module, facts, lines), encoding="utf-8")


def _write(network: Network, folder: Path, inputs: dict[str, Tensor], facts: str) -> None:
    """Write both files, for batches of any size."""
    shapes = {name: {0: torch.export.Dim("batch", min=1)} for name in inputs}
    two = {name: torch.cat([tensor, tensor])[:2] for name, tensor in inputs.items()}  # a size of 1 would be fixed
    try:
        # a network may be compiled; and what the exporters print is of no use beside their error
        with torch.compiler.set_stance("force_eager"), redirect_stderr(io.StringIO()):
            program = torch.export.export(network.module, (), two, dynamic_shapes=shapes)
            onnx: Any = torch.onnx.export(
                program, kwargs=two, dynamo=True, verbose=False, input_names=[*inputs], output_names=network.outputs
            )
        onnx.model.metadata_props["facts"] = facts
        onnx.save(folder / "model.onnx", external_data=False)
        torch.export.save(program, folder / "model.pt2", extra_files={"facts.json": facts})
    except OSError:  # the disk is full
        raise
    except Exception as error:  # whatever torch's exporters meet in a network
        name = type(network.module).__name__
        raise UserError(f"{name} can't be exported for batches of any size: {brief(error)}. {network.hint}") from error


def _compute(network: Network, folder: Path, batches: Iterator[Any]) -> dict[str, dict[str, Tensor]]:
    """Compute the outputs for all of the data by the module, by ``model.onnx`` and by ``model.pt2``."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])

    def by_onnx(**inputs: Tensor) -> list[Tensor]:
        outputs = session.run(network.outputs, {name: tensor.numpy() for name, tensor in inputs.items()})
        return [torch.from_numpy(output) for output in outputs]

    program = torch.export.load(folder / "model.pt2").module()
    runners = {"the checkpoint": network.module, "model.onnx": by_onnx, "model.pt2": program}
    parts: dict[str, list[dict[str, Tensor]]] = {name: [] for name in runners}
    for batch in batches:
        inputs = network.inputs(batch)
        for name, call in runners.items():
            parts[name].append(network.run(name, call, inputs))
    return {name: {key: torch.cat([part[key] for part in of]) for key in of[0]} for name, of in parts.items()}


def _batches(cli: RunCLI) -> Iterator[Any]:
    """What the loaders of ``predict``, or else of ``test``, yield, before the data's hooks have changed it."""
    owners = [owner for owner in (cli.datamodule, cli.model) if owner is not None]
    for stage, owner in product(("predict", "test"), owners):
        if is_overridden(f"{stage}_dataloader", owner):
            for each in owners:
                each.trainer = cli.trainer
                each.prepare_data()
                each.setup(stage)
            loaders = getattr(owner, f"{stage}_dataloader")()
            limit = getattr(cli.trainer, f"limit_{stage}_batches")  # a stream may have no end
            for loader in loaders if isinstance(loaders, Sequence) else [loaders]:
                yield from islice(loader, limit if isinstance(limit, int) else None)
            return
    name = type(owners[0]).__name__
    raise UserError(f"an export is compared on the data. Add predict_dataloader or test_dataloader to {name}.")


def _compare(computed: dict[str, dict[str, Any]], num_classes: int, tolerance: float) -> list[str]:
    """Compare what was computed with what the module computes; a line on each, or an error where they differ."""
    lines, expected = [], computed.pop("the checkpoint")
    for (where, found), (name, output) in product(computed.items(), expected.items()):
        other: Any = found.get(name)
        if where == TRAINER and (not isinstance(other, Tensor) or other.shape != output.shape):
            lines.append(f"{where}: not compared, for it predicts no {name} of the shape {tuple(output.shape)}")
            continue
        if output.is_floating_point():
            gaps = torch.where(output == other, 0.0, (output.double() - other.double()).abs())
            what, largest = "largest difference", gaps.nan_to_num(nan=math.inf, posinf=math.inf).max().item()
            accepted = tolerance * max(1.0, output.double().abs().nan_to_num(posinf=0.0).max().item())
        else:  # such as classes: where two are nearly equal, rounding may choose the other one
            what, largest, accepted = "share that differs", (output != other).double().mean().item(), tolerance
        lines.append(f"{where}: {what} of {name} {largest:.1e} (tolerance {accepted:.1e})")
        if output.shape[1:] == (num_classes,):
            labels = (output.argmax(dim=1) != other.argmax(dim=1)).sum()
            lines[-1] += f", {labels} of {len(output)} labels differ"
        if largest > accepted:
            hint = " exported() (or forward, if there is none) must do what predict_step and the data's hooks do."
            hint *= where == TRAINER
            raise UserError(f"nothing was written, for this differs from the checkpoint: {lines[-1]}.{hint}")
    return lines


def _card(cli: RunCLI, run: Run, module: nn.Module, facts: dict[str, Any], lines: list[str]) -> str:
    """The model card, in Markdown."""
    project = Path("pyproject.toml")
    in_a_table = {"autoescape": False, "finalize": lambda value: str(value).replace("|", "\\|").replace("\n", " ")}
    return charts.template(Path(__file__).with_name("model_card.md.jinja"), **in_a_table).render(
        **{"cli": cli, "run": run, "facts": facts, "lines": lines, "program": program(), "version": version},
        metrics=test_result(run),
        project=tomllib.loads(project.read_text(encoding="utf-8"))["project"] if project.is_file() else {},
        options=yaml.safe_load(run.config_file.read_text(encoding="utf-8")).get("data") or {},
        parameters=sum(parameter.numel() for parameter in module.parameters()),
    )
