"""How predictions are looked at: metrics, pictures, sections of the report, and the model that is exported."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning_runs.masks.reading import colours
from lightning_runs.reports import charts
from PIL import Image
from torch import Tensor, nn

from .datasets import IGNORED

if TYPE_CHECKING:
    from .data import DataModule

DRAWN = 12  # images that the report shows
RESAMPLED = 1000  # choices of test images, for intervals


class Segmenter(nn.Module):
    """Map images ``(B, C, H, W)``, uint8, to the class of each pixel and how sure it is, as `segmented`."""

    def __init__(self, network: nn.Module, facts: dict[str, Any]) -> None:
        super().__init__()
        self.network = network  # maps normalised images to logits
        self.facts = facts  # plain values, which are written into the exported files
        self.mean, self.std = (nn.Buffer(torch.tensor(facts[of]).mul(255)[:, None, None]) for of in ("mean", "std"))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Segment images."""
        return segmented(self.network((images.float() - self.mean) / self.std))


def segmented(logits: Tensor) -> dict[str, Tensor]:
    """Return ``mask`` ``(B, H, W)``, uint8, of logits ``(B, num_classes, H, W)``, and ``confidence`` ``(B,)``.

    The confidence of an image is the mean probability of the classes that its pixels got.
    """
    largest, mask = logits.float().softmax(dim=1).max(dim=1)
    return {"mask": mask.to(torch.uint8), "confidence": largest.mean(dim=(1, 2))}


def count(masks: Tensor, predicted: Tensor, num_classes: int) -> Tensor:
    """Count for each image how many pixels of each class were taken for each, ``(B, num_classes, num_classes)``."""
    found = []
    for mask, guess in zip(masks.flatten(1).long(), predicted.flatten(1).long(), strict=True):
        has_class = mask != IGNORED
        pairs = mask[has_class] * num_classes + guess[has_class]
        found.append(pairs.bincount(minlength=num_classes**2).view(num_classes, num_classes))
    return torch.stack(found)


def iou(counts: Tensor) -> Tensor:
    """Return the IoU of each class from counts ``(..., C, C)`` of pixels, true by predicted; NaN if it is not there."""
    both = counts.diagonal(dim1=-2, dim2=-1).float()
    return both / (counts.sum(dim=-1) + counts.sum(dim=-2) - both)


def measure(counts: Tensor) -> dict[str, Tensor]:
    """Return mean IoU, F1 and accuracy from counts ``(..., C, C)`` of pixels, true by predicted."""
    of_each, right = iou(counts), counts.diagonal(dim1=-2, dim2=-1).sum(dim=-1) / counts.sum(dim=(-2, -1))
    return {"mean_iou": of_each.nanmean(dim=-1), "f1": (2 * of_each / (1 + of_each)).nanmean(dim=-1), "accuracy": right}


def baseline(data: DataModule) -> dict[str, dict[str, float]]:
    """Return what a model reaches that gives every pixel the most frequent class of the training pixels."""
    data.setup("fit")
    pairs, train = data.splits["train"]
    masks, num_classes = pairs.targets[data.splits["test"][1]], len(data.class_names)
    most = int(pairs.targets[train].flatten().bincount(minlength=IGNORED)[:IGNORED].argmax())
    counts = count(masks, torch.full_like(masks, most), num_classes).sum(dim=0)
    return {"most frequent class": {f"test/{name}": value.item() for name, value in measure(counts).items()}}


def overlaid(image: Tensor, mask: Tensor, size: int) -> np.ndarray:
    """Draw an image ``(C, H, W)`` uint8 with the classes of its mask in colours, about ``size`` pixels large.

    Class 0 stays as it is, and so does what is ignored.
    """
    levels = image.permute(1, 2, 0).numpy().repeat(3 // len(image), axis=2)
    classes = np.where(mask.numpy() == IGNORED, 0, mask.numpy())
    mixed = (levels * 0.4 + colours(256)[classes] * 0.6).astype(np.uint8)
    picture = Image.fromarray(np.where(classes[..., None] > 0, mixed, levels))
    picture.thumbnail((size, size))
    scale = max(1, size // max(picture.size))
    return np.asarray(picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST))


def stacked(image: Tensor, *masks: Tensor, size: int) -> np.ndarray:
    """Draw an image, and below it the same with each mask over it; each is about ``size`` pixels large."""
    return np.concatenate([overlaid(image, mask, size) for mask in (torch.zeros_like(masks[0]), *masks)])


def show(model: Any, outputs: list[Tensor], batch: tuple[Tensor, Tensor], data: DataModule) -> dict[str, Any]:
    """Return a picture for the logger: the first images, below each its true and its predicted classes."""
    first = data.denormalize(batch[0][:8]).cpu(), batch[1][:8].cpu(), outputs[0][:8].cpu()
    columns = [stacked(*of, size=128) for of in zip(*first, strict=True)]
    return {"examples": Image.fromarray(np.concatenate(columns, axis=1))}


def sections(model: Any, predictions: dict[str, Tensor], data: DataModule) -> list[tuple[str, Callable[[], str]]]:
    """Return sections of the report: titles, with functions that write the HTML, so that one may fail alone."""
    data.setup("test")
    index, predicted = predictions["index"], predictions["mask"]  # (N,) and (N, H, W)
    masks = data.splits["test"][0].targets[index]
    counts = count(masks, predicted, len(data.class_names))
    return [
        ("Test result", partial(test_result, counts)),
        ("Each class", partial(each_class, counts.sum(dim=0), data.class_names)),
        ("Confusion matrix", partial(confusion, counts.sum(dim=0), data.class_names)),
        ("Worst images", partial(worst, index, masks, predicted, counts, data)),
        ("Data", partial(contents, data)),
    ]


def test_result(counts: Tensor) -> str:
    """Show the metrics with intervals of 95 %, for the choice of test images alone, by the bootstrap."""
    images, classes = len(counts), counts.shape[1]
    chosen = np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), RESAMPLED)
    drawn = (torch.from_numpy(chosen).double() @ counts.double().flatten(1)).view(-1, classes, classes)
    whole, body = measure(counts.sum(dim=0)), []
    for name, values in measure(drawn).items():
        low, high = np.quantile(values.numpy(), (0.025, 0.975))
        body.append((name, f"{whole[name]:.2%}", f"{low:.2%} to {high:.2%}"))
    return charts.table(["", "value", f"95 % interval, for the choice of {images} images (bootstrap)"], body)


def each_class(counts: Tensor, names: Sequence[str]) -> str:
    """Show IoU, precision and recall of each class, its colour in the pictures, and how many pixels it has."""
    both, true, guessed = counts.diagonal(), counts.sum(dim=1), counts.sum(dim=0)
    measures = torch.stack([iou(counts), both / guessed, both / true], dim=1).tolist()
    body = []
    for i, (name, values) in enumerate(zip(names, measures, strict=True)):
        cells = [f"{value:.3f}" if value == value else None for value in values]
        body.append((name, swatch(i), *cells, f"{true[i] / counts.sum():.2%}"))
    return charts.table(["class", "colour", "IoU", "precision", "recall", "pixels"], body, "numbers long")


def swatch(number: int) -> str:
    """Show the colour of a class; class 0 has none."""
    red, green, blue = colours(256)[number].tolist()
    style = f"display:inline-block;width:1.2em;height:1em;border-radius:3px;background:rgb({red},{green},{blue})"
    return charts.Markup(f'<span style="{style}"></span>') if number else "none"


def confusion(counts: Tensor, names: Sequence[str]) -> str:
    """Draw what the pixels of each class were taken for, in thousandths of the class."""
    shares = (1000 * counts / counts.sum(dim=1, keepdim=True).clamp_min(1)).round().long().flatten()
    pairs = torch.arange(len(shares)).repeat_interleave(shares)
    text = "<p>In thousandths of the pixels of each true class.</p>"
    return text + charts.confusion_matrix(pairs // len(names), pairs % len(names), names)


def worst(index: Tensor, masks: Tensor, predicted: Tensor, counts: Tensor, data: DataModule) -> str:
    """Show the images with the lowest mean IoU: the image, its true classes, and the predicted ones."""
    of_each = iou(counts).nanmean(dim=1)
    first = of_each.argsort(stable=True)[:DRAWN]
    images, _ = data.splits["predict"][0][index[first]]
    files = data.splits["predict"][0].files
    names = [charts.escape(files[i].name) if files else f"image {i}" for i in index[first].tolist()]
    captions = [f"{name}<br>mean IoU {value:.3f}" for name, value in zip(names, of_each[first].tolist(), strict=True)]
    text = "<p>The image, its true classes and the predicted ones; the lowest IoU first.</p>"
    return text + gallery(images, [masks[first], predicted[first]], captions)


def contents(data: DataModule) -> str:
    """Show how many images there are, the classes, and some training images."""
    pairs, train = data.splits["train"]
    val, test = (len(data.splits[part][1]) for part in ("val", "test"))
    channels, height, width = data.input_shape
    text = f"{data.facts['dataset']}. {len(train)} images to train, {val} to validate, {test} to test, {height} pixels"
    text += f" high and {width} wide, channels: {channels}. Classes: {', '.join(data.class_names)}."
    images, masks = pairs[train[:DRAWN]]
    return f"<p>{charts.escape(text)}</p>{gallery(images, [masks], [''] * len(images))}"


def gallery(images: Tensor, masks: Sequence[Tensor], captions: Sequence[str]) -> str:
    """Show images ``(B, C, H, W)`` in a grid, below each its masks ``(B, H, W)``, and its caption, which is HTML."""
    figures = []
    for image, caption, *own in zip(images, captions, *masks, strict=True):
        stream = io.BytesIO()
        Image.fromarray(stacked(image, *own, size=96)).save(stream, "PNG", optimize=True)
        address = f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
        figures.append(f'<figure><img alt="image" src="{address}"><figcaption>{caption}</figcaption></figure>')
    return f'<div class="grid">{"".join(figures)}</div>'
