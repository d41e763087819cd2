"""A LightningModule that classifies texts: its predictions, pictures, report and export."""

from functools import partial
from typing import Any

from markupsafe import Markup
from torch import Tensor, nn

from ..reports import charts
from ..reports.classification import ClassificationReport, Section, class_table
from ..reports.tables import table

CHARACTERS_SHOWN = 300  # of a text in the report


class ExportedClassifier(nn.Module):
    """Map tokens ``(B, max_tokens)``, int64, to the probabilities of all classes ``(B, num_classes)``, float32.

    Args:
        network: Maps tokens to logits.
        facts: Classes and tokenizer, as plain values, which are written into the exported files.
    """

    def __init__(self, network: nn.Module, facts: dict[str, Any]) -> None:
        super().__init__()
        self.network = network
        self.facts = {"kind": "texts", **facts}

    def forward(self, tokens: Tensor) -> Tensor:
        """Classify texts."""
        return self.network(tokens).float().softmax(dim=1)


class TextReports:
    """Mixin of a LightningModule with a ``network`` and ``facts``, which maps tokens to logits.

    Its ``predict_step`` returns ``index``, the number of each text, ``(B,)``, and ``probabilities`` of all classes,
    ``(B, num_classes)``. Its ``validation_step`` and ``test_step`` return logits.
    """

    network: Any
    facts: dict[str, Any]

    def rows(self, predictions: dict[str, Tensor], data: Any) -> tuple[list[str], list[list[Any]]]:
        """Return the table that ``predict`` writes: names of its columns, and its rows."""
        names = [data.row_names[i] for i in predictions["index"].tolist()]
        return table({"file": names, "probabilities": predictions["probabilities"].tolist()}, data.class_names)

    def sections(self, predictions: dict[str, Tensor], data: Any) -> list[Section]:
        """Return the sections of the report."""
        data.setup("test")
        index = predictions["index"].tolist()
        labels = data.splits["test"][0].labels[index]

        def excerpt(position: int) -> str:
            text = data.texts[index[position]]
            shown = text[:CHARACTERS_SHOWN] + (" …" if len(text) > CHARACTERS_SHOWN else "")
            return Markup("{}<br><small>{}</small>").format(shown, data.row_names[index[position]])

        report = ClassificationReport(labels, predictions["probabilities"], data.class_names, "texts", excerpt)
        return [*report.sections("Confusion matrix", "Surest mistakes"), ("Data", partial(self.data_section, data))]

    def data_section(self, data: Any) -> str:
        """Show how many texts of each class there are in each part, and how long they are."""
        lengths = data.splits["train"][0].lengths
        text = (
            f"{self.facts['dataset']}. Half of the texts have up to {int(lengths.median())} tokens, the longest"
            f" {int(lengths.max())}, cut ones included. There are {data.vocabulary_size} different tokens."
        )
        parts = {"train": "train", "validation": "val", "test": "test"}
        counts = {title: data.class_counts(part) for title, part in parts.items()}
        return f"<p>{charts.escape(text)}</p>{class_table(counts, data.class_names)}"

    def exported(self) -> nn.Module:
        """Return the module that ``export`` writes, from tokens to probabilities."""
        return ExportedClassifier(self.network, self.facts)
