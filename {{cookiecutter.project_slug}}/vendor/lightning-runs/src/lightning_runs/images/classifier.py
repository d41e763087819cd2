"""A LightningModule that classifies images: its tables, pictures, report and export."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from PIL import Image, ImageDraw
from torch import Tensor, nn

from ..data.batches import Levels
from ..reports import charts
from ..reports.charts import enlarged, grid, picture_html
from ..reports.classification import ClassificationReport, Section, class_table
from ..reports.tables import table

CELL = 128  # pixels of an image in a picture of several
COLUMNS = 4
PICTURED_CLASSES = 24  # of which the report shows a training image


class ExportedClassifier(nn.Module):
    """Map images ``(B, C, H, W)``, uint8, to the probabilities of all classes ``(B, num_classes)``, float32.

    Args:
        network: Maps normalised images to logits.
        facts: Plain values for the exported files; ``mean`` and ``std`` of each channel, 0 to 1, are among them.
    """

    def __init__(self, network: nn.Module, facts: dict[str, Any]) -> None:
        super().__init__()
        self.network = network
        self.facts = {"kind": "images", **facts}
        self.levels = Levels(facts["mean"], facts["std"])

    def forward(self, images: Tensor) -> Tensor:
        """Classify images."""
        return self.network(self.levels(images)).float().softmax(dim=1)


class ImageReports:
    """Mixin of a LightningModule with a ``network`` and ``facts``, which maps images to logits.

    Its ``predict_step`` returns ``index``, the number of each image, ``(B,)``, and ``probabilities`` of all classes,
    ``(B, num_classes)``. Its ``validation_step`` and ``test_step`` return logits.
    """

    network: Any
    facts: dict[str, Any]

    def rows(self, predictions: dict[str, Tensor], data: Any) -> tuple[list[str], list[list[Any]]]:
        """Return the table that ``predict`` writes: names of its columns, and its rows."""
        index = predictions["index"].tolist()
        files = getattr(data.splits["predict"][0], "files", None)
        columns: dict[str, list[Any]] = {"file": [str(files[i]) for i in index]} if files else {"index": index}
        columns["probabilities"] = predictions["probabilities"].tolist()
        return table(columns, data.class_names)

    def show(self, outputs: list[Tensor], batch: tuple[Tensor, Tensor], data: Any) -> dict[str, Image.Image]:
        """Return a picture for the logger: the first images with their predicted classes."""
        images = data.levels.denormalize(batch[0][:16]).cpu()
        labels = batch[1][:16].cpu()
        predicted = outputs[0][:16].argmax(dim=1)
        return {"examples": draw_examples(images, labels, predicted, data.class_names)}

    def sections(self, predictions: dict[str, Tensor], data: Any) -> list[Section]:
        """Return the sections of the report."""
        data.setup("test")
        index = predictions["index"]
        images = data.splits[data.predicted_part][0]

        def picture(position: int) -> str:
            return picture_html(draw(images[index[position : position + 1]][0][0], 96))

        labels = images.labels[index]
        probabilities = predictions["probabilities"]
        report = ClassificationReport(labels, probabilities, data.class_names, "images", picture, is_picture=True)
        return [*report.sections(), ("Data", partial(data_section, data))]

    def exported(self) -> nn.Module:
        """Return the module that ``export`` writes, from pixels to probabilities."""
        return ExportedClassifier(self.network, self.facts)


def draw(image: Tensor, size: int) -> Image.Image:
    """Draw an image ``(C, H, W)`` uint8, about ``size`` pixels large."""
    return enlarged(Image.fromarray(image.permute(1, 2, 0).squeeze(2).numpy()).convert("RGB"), size)


def draw_examples(images: Tensor, labels: Tensor, predicted: Tensor, class_names: Sequence[str]) -> Image.Image:
    """Draw images ``(B, C, H, W)`` uint8, each above its predicted class, ``(B,)``, and the true one if it differs."""
    num_rows = -(-len(images) // COLUMNS)
    picture = Image.new("RGB", (COLUMNS * CELL, num_rows * (CELL + 16)), "white")
    pen = ImageDraw.Draw(picture)
    for i, image in enumerate(images):
        left = i % COLUMNS * CELL
        top = i // COLUMNS * (CELL + 16)
        cell = draw(image, CELL - 4)
        picture.paste(cell, (left + (CELL - cell.width) // 2, top + (CELL - cell.height) // 2))
        caption = class_names[int(predicted[i])]
        if predicted[i] != labels[i]:
            caption += f" (is {class_names[int(labels[i])]})"
        pen.text((left + CELL // 2, top + CELL), caption, fill="black", anchor="ma")
    return picture


def data_section(data: Any) -> str:
    """Show the number of images of each class in each part, and a training image of each class."""
    parts = {"train": "train", "validation": "val", "test": "test"}
    counts = class_table({title: data.class_counts(part) for title, part in parts.items()}, data.class_names)
    text = f"{data.facts['dataset']}. Channels, height and width of an image: {data.input_shape}."
    images = data.splits["train"][0]
    indices = images.readable(data.splits["train"][1])
    labels = images.labels[indices]
    figures = []
    for label in labels.unique()[:PICTURED_CLASSES].tolist():
        pixels = images[indices[labels == label][:1]][0]
        figures.append((picture_html(draw(pixels[0], 96)), charts.escape(data.class_names[label])))
    return f"<p>{charts.escape(text)}</p>{counts}{grid(figures)}"
