"""A LightningModule that predicts the class of each pixel: its tables, pictures, report and export."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..data.batches import Levels
from ..reports import charts
from ..reports.charts import enlarged, grid, picture_html
from ..reports.classification import Section
from . import reading
from .metrics import IGNORED, class_iou, count_pixels, mask_metrics

NUM_SHOWN = 12  # images that the report shows
NUM_RESAMPLES = 1000  # choices of test images, for intervals


class ExportedSegmenter(nn.Module):
    """Map images ``(B, C, H, W)``, uint8, to masks and their confidence; see `predicted_masks`.

    Args:
        network: Maps normalised images to logits.
        facts: Plain values for the exported files; ``mean`` and ``std`` of each channel, 0 to 1, are among them.
    """

    def __init__(self, network: nn.Module, facts: dict[str, Any]) -> None:
        super().__init__()
        self.network = network
        self.facts = {"kind": "masks", **facts}
        self.levels = Levels(facts["mean"], facts["std"])

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Segment images."""
        return predicted_masks(self.network(self.levels(images)))


def predicted_masks(logits: Tensor) -> dict[str, Tensor]:
    """Return ``mask`` ``(B, H, W)``, uint8, of logits ``(B, num_classes, H, W)``, and ``confidence`` ``(B,)``.

    The confidence of an image is the mean probability of its pixels' predicted classes.
    """
    best = logits.float().softmax(dim=1).max(dim=1)
    return {"mask": best.indices.to(torch.uint8), "confidence": best.values.mean(dim=(1, 2))}


class MaskReports:
    """Mixin of a LightningModule with a ``network`` and ``facts``, which maps images to logits of each pixel.

    Its ``predict_step`` returns ``index``, the number of each image, ``(B,)``, and `predicted_masks`. Its
    ``validation_step`` and ``test_step`` return predicted classes, ``(B, H, W)`` uint8.
    """

    network: Any
    facts: dict[str, Any]

    def rows(self, predictions: dict[str, Tensor], data: Any) -> tuple[list[str], list[list[Any]]]:
        """Return the table that ``predict`` writes: names of its columns, and its rows, each with a mask as a file."""
        index = predictions["index"].tolist()
        files = data.splits["predict"][0].files
        columns: dict[str, Any] = {"file": [str(files[i]) for i in index]} if files else {"index": index}
        columns |= {name: predictions[name].numpy() for name in ("mask", "confidence")}
        return reading.rows(columns, self.facts)

    def show(self, outputs: list[Tensor], batch: tuple[Tensor, Tensor], data: Any) -> dict[str, Image.Image]:
        """Return a picture for the logger: the first images, below each its true and its predicted classes."""
        images = data.levels.denormalize(batch[0][:8]).cpu()
        masks = batch[1][:8].cpu()
        predicted = outputs[0][:8].cpu()
        columns = [stacked(*column, size=128) for column in zip(images, masks, predicted, strict=True)]
        return {"examples": Image.fromarray(np.concatenate(columns, axis=1))}

    def sections(self, predictions: dict[str, Tensor], data: Any) -> list[Section]:
        """Return the sections of the report."""
        data.setup("test")
        index = predictions["index"]
        predicted = predictions["mask"]  # (N, H, W)
        masks = data.splits["test"][0].labels[index]
        counts = count_pixels(masks, predicted, len(data.class_names))
        return [
            ("Test result", partial(test_result, counts)),
            ("Each class", partial(each_class, counts.sum(dim=0), data.class_names)),
            ("Confusion matrix", partial(confusion_matrix, counts.sum(dim=0), data.class_names)),
            ("Worst images", partial(worst_images, index, masks, predicted, counts, data)),
            ("Data", partial(data_section, data)),
        ]

    def exported(self) -> nn.Module:
        """Return the module that ``export`` writes, from pixels to masks."""
        return ExportedSegmenter(self.network, self.facts)


def overlaid(image: Tensor, mask: Tensor, size: int) -> np.ndarray:
    """Draw an image ``(C, H, W)`` uint8 with the classes of its mask ``(H, W)`` uint8 in colours.

    Class 0 and ignored pixels stay as they are. The longer side has about ``size`` pixels.
    """
    levels = image.permute(1, 2, 0).numpy().repeat(3 // len(image), axis=2)
    classes = np.where(mask.numpy() == IGNORED, 0, mask.numpy())
    mixed = (levels * 0.4 + reading.class_colours(256)[classes] * 0.6).astype(np.uint8)
    picture = Image.fromarray(np.where(classes[..., None] > 0, mixed, levels))
    return np.asarray(enlarged(picture, size))


def stacked(image: Tensor, *masks: Tensor, size: int) -> np.ndarray:
    """Draw an image, and below it the same with each mask over it; each is about ``size`` pixels large."""
    no_mask = torch.zeros_like(masks[0])
    return np.concatenate([overlaid(image, mask, size) for mask in (no_mask, *masks)])


def test_result(counts: Tensor) -> str:
    """Show the metrics with intervals of 95 %, for the choice of test images alone, by the bootstrap."""
    num_images = len(counts)
    num_classes = counts.shape[1]
    equal = np.full(num_images, 1 / num_images)
    weights = np.random.default_rng(0).multinomial(num_images, equal, NUM_RESAMPLES)
    resampled = (torch.from_numpy(weights).double() @ counts.double().flatten(1)).view(-1, num_classes, num_classes)
    metrics = mask_metrics(counts.sum(dim=0))
    body = []
    for name, values in mask_metrics(resampled).items():
        interval = " to ".join(f"{bound:.2%}" for bound in np.quantile(values.numpy(), (0.025, 0.975)))
        body.append((name, f"{metrics[name]:.2%}", interval))
    return charts.table(["", "value", f"95 % interval, for the choice of {num_images} images (bootstrap)"], body)


def each_class(counts: Tensor, class_names: Sequence[str]) -> str:
    """Show IoU, precision and recall of each class, its colour in the pictures, and its share of the pixels."""
    both = counts.diagonal()
    true = counts.sum(dim=1)
    measures = torch.stack([class_iou(counts), both / counts.sum(dim=0), both / true], dim=1).tolist()
    body = []
    for i, name in enumerate(class_names):
        cells = [f"{value:.3f}" if value == value else None for value in measures[i]]
        body.append((name, swatch(i), *cells, f"{true[i] / counts.sum():.2%}"))
    return charts.table(["class", "colour", "IoU", "precision", "recall", "pixels"], body, "numbers long")


def swatch(label: int) -> str:
    """Show the colour of a class; class 0 has none."""
    if label == 0:
        return "none"
    colour = ",".join(map(str, reading.class_colours(256)[label]))
    style = f"display:inline-block;width:1.2em;height:1em;border-radius:3px;background:rgb({colour})"
    return charts.Markup(f'<span style="{style}"></span>')


def confusion_matrix(counts: Tensor, class_names: Sequence[str]) -> str:
    """Draw how often the pixels of each class were taken for each, in thousandths of the class."""
    shares = (1000 * counts / counts.sum(dim=1, keepdim=True).clamp_min(1)).round().long().flatten()
    pairs = torch.arange(len(shares)).repeat_interleave(shares)
    num_classes = len(class_names)
    matrix = charts.confusion_matrix(pairs // num_classes, pairs % num_classes, class_names)
    return f"<p>In thousandths of the pixels of each true class.</p>{matrix}"


def worst_images(index: Tensor, masks: Tensor, predicted: Tensor, counts: Tensor, data: Any) -> str:
    """Show the images with the lowest mean IoU: the image, its true classes, and the predicted ones."""
    mean_iou = class_iou(counts).nanmean(dim=1)
    first = mean_iou.argsort(stable=True)[:NUM_SHOWN]
    dataset = data.splits["predict"][0]
    captions = []
    for number, value in zip(index[first].tolist(), mean_iou[first].tolist(), strict=True):
        name = dataset.files[number].name if dataset.files else f"image {number}"
        captions.append(charts.Markup("{}<br>mean IoU {:.3f}").format(name, value))
    text = "<p>The image, its true classes and the predicted ones; the lowest IoU first.</p>"
    return text + gallery(dataset[index[first]][0], [masks[first], predicted[first]], captions)


def data_section(data: Any) -> str:
    """Show how many images there are, the classes, and some training images."""
    counts = {part: len(data.splits[part][1]) for part in ("train", "val", "test")}
    text = (
        f"{data.facts['dataset']}. {counts['train']} images to train, {counts['val']} to validate, {counts['test']} to"
        f" test. Channels, height and width of an image: {data.input_shape}. Classes: {', '.join(data.class_names)}."
    )
    batch = data.splits["train"][0][data.splits["train"][1][:NUM_SHOWN]]
    return f"<p>{charts.escape(text)}</p>{gallery(batch[0], [batch[1]], [''] * len(batch[0]))}"


def gallery(images: Tensor, masks: Sequence[Tensor], captions: Sequence[str]) -> str:
    """Show images ``(B, C, H, W)`` in a grid, below each its masks, each ``(B, H, W)``, and its caption."""
    figures = []
    for image, caption, *own_masks in zip(images, captions, *masks, strict=True):
        picture = Image.fromarray(stacked(image, *own_masks, size=96))
        figures.append((picture_html(picture), charts.Markup(caption)))
    return grid(figures)
