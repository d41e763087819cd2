"""``python -m <package> export``: take a trained model away, as files that need none of this project's code."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Any

from ..errors import UserError
from . import _extras

PROGRAM = f"python -m {__name__.split('.')[0]}"


def main(args: list[str]) -> int:
    """Write a run's best checkpoint as ONNX and by `torch.export`, check both, and describe it in a model card.

    Args:
        args: The command line after ``export``.

    Returns:
        The exit code, 0.

    Raises:
        UserError: The run or its data can't be used, or what was written predicts otherwise than the checkpoint.
    """
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} export",
        description="Write a run's best checkpoint as model.onnx, model.pt2 (torch.export) and a model card into the"
        " run's folder, export/. Both take uint8 images (B, C, H, W) and give probabilities; normalisation and the"
        " names of the classes are inside. They are compared with the checkpoint on the whole test set.",
        allow_abbrev=False,
    )
    parser.add_argument("run", nargs="?", metavar="RUN", help="name or folder of a run (default: the newest finished)")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1e-4,
        metavar="P",
        help="largest difference of a probability that is accepted (default: 0.0001)",
    )
    options = parser.parse_args(args)
    if not 0 <= options.tolerance <= 1:
        raise UserError(f"--tolerance is {options.tolerance}; it must lie between 0 and 1, such as 0.0001.")
    _extras.require("export", "onnx", "onnxscript", "onnxruntime")

    from . import _trained

    trained = _trained.Trained(_trained.find(options.run))
    folder = trained.run.folder / "export"
    temporary = trained.run.folder / f".export.{os.getpid()}.tmp"
    try:
        temporary.mkdir()
        _export(trained, temporary, options.tolerance)
        # files that were not checked are never seen under their names
        folder.mkdir(exist_ok=True)
        for file in sorted(temporary.iterdir()):
            os.replace(file, folder / file.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shown = os.path.relpath(folder)
    print(
        f"Exported: {shown}/model.onnx, {shown}/model.pt2\nModel card: {shown}/README.md\n"
        f"Next: {PROGRAM} predict --onnx {shown}/model.onnx PATH"
    )
    return 0


def _export(trained: Any, folder: Path, tolerance: float) -> None:
    import torch

    from . import _model_card

    probabilities, labels = _of_checkpoint(trained)  # first, for the data may be missing
    print(f"{trained.run.name}: {trained.checkpoint.name}, {len(labels)} test images")
    facts = {
        "class_names": json.dumps(trained.data.class_names, ensure_ascii=False),
        "input_shape": json.dumps(trained.data.input_shape),  # channels, height, width
        "dataset": trained.data.dataset,
        "run": trained.run.name,
    }
    try:
        _write(trained, folder, facts)
    except Exception as error:  # whatever torch's exporter meets in a network
        told = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"the network of {trained.run.name} can't be exported: {told[0][:300]}") from error
    for name, classify in (("model.onnx", _onnx(folder)), ("model.pt2", _torch_export(folder))):
        exported = torch.cat([classify(images) for images, _ in _test_batches(trained)])
        difference = (exported - probabilities).abs().max().item()
        others = int((exported.argmax(dim=1) != probabilities.argmax(dim=1)).sum())
        print(
            f"{name}: largest difference to the checkpoint {difference:.1e} (tolerance {tolerance:.1e}),"
            f" {others} of {len(labels)} labels differ"
        )
        if not difference <= tolerance:
            raise UserError(
                f"{name} was not written: its probabilities differ by up to {difference:.1e} from those of the"
                f" checkpoint, more than --tolerance {tolerance:.1e}."
            )
    (folder / "README.md").write_text(_model_card.text(trained, probabilities, labels, PROGRAM), encoding="utf-8")


def _test_batches(trained: Any) -> Any:
    """The test set in batches: images ``(B, C, H, W)`` uint8, labels ``(B,)`` int64."""
    trained.data.setup("test")
    return trained.data.test_dataloader()


def _of_checkpoint(trained: Any) -> tuple[Any, Any]:
    """Probabilities ``(N, num_classes)`` of the test set by the LightningModule itself, and the labels ``(N,)``."""
    import torch

    trained.data.prepare_data()
    with torch.inference_mode():
        pairs = [
            (trained.model(trained.data.normalize(images)).softmax(dim=1), labels)
            for images, labels in _test_batches(trained)
        ]
    probabilities, labels = zip(*pairs, strict=True)
    return torch.cat(probabilities), torch.cat(labels)


def _write(trained: Any, folder: Path, facts: dict[str, str]) -> None:
    """Write ``model.pt2`` and ``model.onnx``, for batches of any size."""
    import onnx
    import torch

    example = torch.zeros(2, *trained.data.input_shape, dtype=torch.uint8)
    shapes = {"images": {0: torch.export.Dim("batch", min=1)}}
    program = torch.export.export(trained.classifier, (example,), dynamic_shapes=shapes)
    extra: dict[str, Any] = {f"{name}.txt": text for name, text in facts.items()}
    torch.export.save(program, folder / "model.pt2", extra_files=extra)
    exported = torch.onnx.export(
        program, (example,), dynamo=True, input_names=["images"], output_names=["probabilities"], verbose=False
    )
    assert exported is not None
    exported.save(folder / "model.onnx", external_data=False)
    model = onnx.load(folder / "model.onnx")
    onnx.helper.set_model_props(model, facts)
    onnx.checker.check_model(model)
    onnx.save(model, folder / "model.onnx")


def _onnx(folder: Path) -> Any:
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def _torch_export(folder: Path) -> Any:
    import torch

    module = torch.export.load(folder / "model.pt2").module()

    def classify(images: Any) -> Any:
        with torch.inference_mode():
            return module(images)

    return classify
