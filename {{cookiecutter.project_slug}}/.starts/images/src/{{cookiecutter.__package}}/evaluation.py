"""How predictions are looked at: pictures for the logger, sections of the report, and the model that is exported."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from lightning_runs.reports import charts
from PIL import Image, ImageDraw
from torch import Tensor, nn

from .data import DataModule

Z = 1.959964  # standard deviations to either side of the mean that hold 95 % of a normal distribution
BINS = 12  # of the calibration curve
DRAWN = 24  # pictures of mistakes and of classes


class Classifier(nn.Module):
    """Map images ``(B, C, H, W)``, uint8, to the probabilities of all classes ``(B, num_classes)``, float32."""

    def __init__(self, network: nn.Module, facts: dict[str, Any]) -> None:
        super().__init__()
        self.network = network  # maps normalised images to logits
        self.facts = facts  # plain values, which are written into the exported files
        mean, std = facts.get("mean", (0.0,)), facts.get("std", (1 / 255,))  # of each channel, 0 to 1
        self.mean, self.std = (nn.Buffer(torch.tensor(of).mul(255)[:, None, None]) for of in (mean, std))

    def forward(self, images: Tensor) -> Tensor:
        """Classify images."""
        return self.network((images.float() - self.mean) / self.std).float().softmax(dim=1)


def draw_examples(images: Tensor, labels: Tensor, predicted: Tensor, names: list[str]) -> Image.Image:
    """Draw images ``(B, C, H, W)`` uint8, each above its predicted class, ``(B,)``, and the true one if it differs."""
    columns, cell = 4, 128  # pixels
    grid = Image.new("RGB", (columns * cell, -(-len(images) // columns) * (cell + 16)), "white")
    pen = ImageDraw.Draw(grid)
    for i, (p, label) in enumerate(zip(predicted.tolist(), labels.tolist(), strict=True)):
        x, y = i % columns * cell, i // columns * (cell + 16)
        picture = draw(images[i], cell - 4)
        grid.paste(picture, (x + (cell - picture.width) // 2, y + (cell - picture.height) // 2))
        caption = names[p] if p == label else f"{names[p]} (is {names[label]})"
        pen.text((x + cell // 2, y + cell), caption, fill="black", anchor="ma")
    return grid


def draw(image: Tensor, size: int) -> Image.Image:
    """Draw an image ``(C, H, W)`` uint8; a small one is repeated until its longer side is about ``size`` pixels."""
    picture = Image.fromarray(image.permute(1, 2, 0).squeeze(2).numpy()).convert("RGB")
    picture.thumbnail((size, size))
    scale = max(1, size // max(picture.size))
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def sections(index: Tensor, probabilities: Tensor, data: DataModule) -> list[tuple[str, Callable[[], str]]]:
    """Return sections of the report: titles, with functions that write the HTML, so that one may fail alone.

    ``index`` are the positions of the predicted images in their part, ``(N,)``, and ``probabilities`` are ``(N, C)``.
    """
    data.setup("test")
    labels = data.splits[data.predicted][0].labels[index]  # (N,)
    confidence, predicted = probabilities.max(dim=1)
    return [
        ("Test result", partial(test_result, labels, probabilities)),
        ("Confusion matrix", partial(charts.confusion_matrix, labels, predicted, data.class_names)),
        ("Each class", partial(each_class, labels, predicted, data.class_names)),
        ("Calibration", partial(calibration, confidence, predicted == labels)),
        ("Surest mistakes", partial(mistakes, index, labels, predicted, confidence, data)),
        ("Data", partial(contents, data)),
    ]


def test_result(labels: Tensor, probabilities: Tensor) -> str:
    """Show accuracy and loss with their intervals of 95 %, for the choice of test images alone."""
    hits, count = int((probabilities.argmax(dim=1) == labels).sum()), len(labels)
    low, high = wilson(hits, count)
    losses = -probabilities.double().gather(1, labels[:, None]).clamp_min(1e-40).log()
    mean, half = float(losses.mean()), Z * float(losses.std()) / math.sqrt(count)
    rows = [
        ("accuracy", f"{hits / count:.2%}", f"{low:.2%} to {high:.2%} (Wilson), {hits} of {count} images"),
        ("loss in nats", f"{mean:.4f}", f"{mean - half:.4f} to {mean + half:.4f} (normal, of the mean)"),
    ]
    return charts.table(["", "value", "95 % interval, for the choice of test images"], rows)


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a fraction by Wilson's score, within 0 and 1 (https://doi.org/10.2307/2276774)."""
    share, square = hits / count, Z * Z / count
    middle = (share + square / 2) / (1 + square)
    half = Z / (1 + square) * math.sqrt(share * (1 - share) / count + square / (4 * count))
    # all or none of them: the bound itself is exact, and rounding must not move it
    return 0.0 if hits == 0 else middle - half, 1.0 if hits == count else middle + half


def each_class(labels: Tensor, predicted: Tensor, names: list[str]) -> str:
    """Show precision, recall and F1 of each class, 0 where it was never predicted or is not there."""
    which = (labels[labels == predicted], labels, predicted)
    hits, support, times = (of.bincount(minlength=len(names)) for of in which)
    parts = [hits / times.clamp_min(1), hits / support.clamp_min(1), 2 * hits / (support + times).clamp_min(1)]
    measures = torch.stack(parts, dim=1)  # (C, 3)
    means = measures[support > 0].mean(dim=0, keepdim=True)
    rows = zip([*names, "mean"], torch.cat([measures, means]).tolist(), [*support.tolist(), len(labels)], strict=True)
    body = [(name, *(f"{value:.3f}" for value in values), count) for name, values, count in rows]
    return charts.table(["class", "precision", "recall", "F1", "images"], body, "numbers long")


def calibration(confidence: Tensor, right: Tensor) -> str:
    """Compare the probability of the predicted class, ``(N,)``, with how often it is right, in bins of equal width."""
    bins = (confidence * BINS).long().clamp_max(BINS - 1)
    counts = bins.bincount(minlength=BINS)
    there = counts > 0
    sure, hit = ((bins.bincount(of.double(), BINS) / counts)[there] for of in (confidence, right))
    error = float((counts[there] * (sure - hit).abs()).sum() / len(right))
    model = charts.Line("this model", sure.tolist(), hit.tolist(), 0)
    ideal = charts.Line("perfectly calibrated", [0.0, 1.0], [0.0, 1.0], 1)
    chart = charts.line_chart("Share of correct predictions", [model, ideal], "probability of the prediction")
    note = f"Expected calibration error ({BINS} bins): <b>{error:.4f}</b>. Points below the dashed line: too sure."
    return f"<figure>{chart}</figure><p>{note}</p>"


def mistakes(index: Tensor, labels: Tensor, predicted: Tensor, confidence: Tensor, data: DataModule) -> str:
    """Show the test images that the model was surest of among those that it got wrong."""
    wrong = (predicted != labels).nonzero().flatten()
    if not len(wrong):
        return "<p>There are none: every test image was recognised.</p>"
    first = wrong[confidence[wrong].argsort(descending=True, stable=True)][:DRAWN]
    names = [charts.escape(name) for name in data.class_names]
    captions = [
        f"is <b>{names[labels[i]]}</b>, taken for <b>{names[predicted[i]]}</b><br>{confidence[i]:.1%}" for i in first
    ]
    cards = gallery(data.splits[data.predicted][0][index[first]][0], captions)
    return f"<p>{len(first)} of {len(wrong)}, the surest first.</p>{cards}"


def contents(data: DataModule) -> str:
    """Show how many images of each class there are in each part, and a training image of each."""
    splits = [data.splits[split] for split in ("train", "val", "test")]
    splits = [(of, of.readable(i) if getattr(of, "skip_corrupt", False) else i) for of, i in splits]
    labels = [dataset.labels[indices] for dataset, indices in splits]
    names, counts = data.class_names, [of.bincount(minlength=len(data.class_names)).tolist() for of in labels]
    rows = [*zip(names, *counts, strict=True), ("all", *map(sum, counts))]
    first = [int(of[0]) for i in range(len(names)) if len(of := (labels[0] == i).nonzero())][:DRAWN]
    images, shown = splits[0][0][splits[0][1][first]]
    channels, height, width = data.input_shape
    size = f"Images are {height} pixels high and {width} wide, in {channels} channel{'s' if channels > 1 else ''}."
    table = charts.table(["class", "train", "validation", "test"], rows, "numbers long")
    cards = gallery(images, [charts.escape(names[i]) for i in shown.tolist()])
    return f"<p>{charts.escape(data.facts['dataset'])}. {size}</p>{table}{cards}"


def gallery(images: Tensor, captions: list[str]) -> str:
    """Show images ``(B, C, H, W)`` uint8 in a grid, each above its caption, which is HTML."""
    figures = []
    for image, caption in zip(images, captions, strict=True):
        stream = io.BytesIO()
        draw(image, 96).save(stream, "PNG", optimize=True)
        address = f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
        figures.append(f'<figure><img alt="image" src="{address}"><figcaption>{caption}</figcaption></figure>')
    return f'<div class="grid">{"".join(figures)}</div>'
