"""The model card of an exported model: what it is, how good it is, what it is not for, and how it is loaded."""

from __future__ import annotations

import importlib.metadata
import math
import tomllib
from pathlib import Path
from typing import Any

from torch import Tensor

_DATA = {
    "digits": "1,797 handwritten digits of 8x8 pixels by E. Alpaydin and C. Kaynak, UCI Machine Learning Repository,"
    " <https://doi.org/10.24432/C50P49>, CC BY 4.0",
    "mnist": "MNIST, 70,000 handwritten digits of 28x28 pixels by Y. LeCun, C. Cortes and C. Burges",
    "fashion_mnist": "Fashion-MNIST, 70,000 pieces of clothing of 28x28 pixels by Zalando Research, MIT licence",
    "cifar10": "CIFAR-10, 60,000 photographs of 32x32 pixels by A. Krizhevsky, V. Nair and G. Hinton",
    "corrupt_mnist": "MNIST, rotated at random, 28x28 pixels",
    "image_folder": "images of its author's own, in a folder for each class",
}
_TEXT = """# Model card: {run}

Classifies images of {height}x{width} pixels ({colours}) into {num_classes} classes: {classes}.

## Data

{data}.
{validation} The numbers below come from the {count} test images, on which nothing was trained
or chosen.

## Metrics

| on the test set | |
|---|---|
| accuracy | {accuracy:.4f} (95 % interval {low:.4f} to {high:.4f}, Wilson) |
| cross-entropy | {loss:.4f} nats |
| mean probability of the predicted class | {confidence:.4f} |

Where the mean probability is above the accuracy, the model is too sure of itself.

| class | test images | recall |
|---|---|---|
{recalls}

## Intended use and limits

- For images like those that it was trained on: the same kind of object, alone, cut out and lit in the same way.
- It knows these {num_classes} classes and nothing else. Any other image gets one of them too, often with a high
  probability.
- Larger images are scaled down to {height}x{width} pixels, and what does not fit is cut off.
- It was not examined for fairness, for attacks, or on data from elsewhere. Decide nothing about people by it alone.

## Licence

Code and weights: {licence}. The data have terms of their own, which may bind what was trained on them.

## How to load it

Input `images`: uint8, `(B, {channels}, {height}, {width})`, 0 to 255; any number of images. Output `probabilities`:
float32, `(B, {num_classes})`. Normalisation and softmax are inside; so are the names of the classes.

```
{program} predict --onnx model.onnx PATH
```

```python
import json
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
class_names = json.loads(session.get_modelmeta().custom_metadata_map["class_names"])
(probabilities,) = session.run(None, dict(images=images))  # a NumPy array
```

```python
import json
import torch

files = dict.fromkeys(["class_names.txt"], "")
model = torch.export.load("model.pt2", extra_files=files).module()
class_names = json.loads(files["class_names.txt"])
probabilities = model(images)  # a tensor
```

## Where it comes from

| | |
|---|---|
| run | {run}, {checkpoint} |
| git commit | {commit} |
| network | {network}, {parameters:,} parameters |
| trained with | {versions} |
| exported with | {exporters} |
"""


def text(trained: Any, probabilities: Tensor, labels: Tensor, program: str) -> str:
    """Write a model card in Markdown.

    Args:
        trained: The run, as `_trained.Trained`.
        probabilities: Of the test images, ``(N, num_classes)``.
        labels: Of the test images, ``(N,)`` int64.
        program: What the command line begins with.
    """
    data, record = trained.data, trained.run.record
    channels, height, width = data.input_shape
    confidence, predicted = probabilities.max(dim=1)
    correct = predicted == labels
    low, high = _wilson(int(correct.sum()), len(labels))
    recalls = [
        f"| {_cell(name)} | {int((labels == i).sum())} | {_fraction(correct[labels == i])} |"
        for i, name in enumerate(data.class_names)
    ]
    git = record.get("git") or {}
    dirty = ", with changes that were not committed" if git.get("dirty") else ""
    network = trained.config["model"]["network"]
    return _TEXT.format(
        run=trained.run.name,
        checkpoint=trained.checkpoint.name,
        channels=channels,
        height=height,
        width=width,
        colours="grey" if channels == 1 else "colour",
        num_classes=data.num_classes,
        classes=", ".join(map(_cell, data.class_names)),
        data=_DATA[data.dataset][:1].upper() + _DATA[data.dataset][1:],
        validation=f"Of the training images, {data.val_fraction:.0%} were set apart to choose the checkpoint."
        if "val" in data.splits and data.splits["val"][0] is data.splits["train"][0]
        else "The checkpoint was chosen on images for validation, in a folder of their own.",
        count=len(labels),
        accuracy=correct.float().mean().item(),
        low=low,
        high=high,
        loss=-probabilities.gather(1, labels[:, None]).clamp_min(1e-12).log().mean().item(),
        confidence=confidence.mean().item(),
        recalls="\n".join(recalls),
        licence=_licence(),
        program=program,
        commit=f"{git['commit']}{dirty}" if git.get("commit") else "none: it was trained outside of a git repository",
        network=f"`{network.get('class_path', network)}`" if isinstance(network, dict) else f"`{network}`",
        parameters=sum(parameter.numel() for parameter in trained.model.parameters()),
        versions=", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items()) or "unknown",
        exporters=", ".join(f"{n} {importlib.metadata.version(n)}" for n in ("torch", "onnx", "onnxruntime")),
    )


def _wilson(count: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a fraction (E. B. Wilson, 1927, https://doi.org/10.1080/01621459.1927.10502953)."""
    z = 1.959964
    fraction = count / total
    centre = (fraction + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * math.sqrt(fraction * (1 - fraction) / total + z**2 / (4 * total**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def _fraction(correct: Tensor) -> str:
    return f"{correct.float().mean().item():.4f}" if len(correct) else "-"


def _cell(name: str) -> str:
    return name.replace("|", "\\|")


def _licence() -> str:
    """What the project's own pyproject.toml says."""
    try:
        named = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]["license"]
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        return "that of the project"
    return "all rights reserved" if named == "LicenseRef-Proprietary" else str(named)
