"""How predictions are looked at: a simple model, pictures, sections of the report, and the model that is exported."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from lightning_runs.reports import charts
from lightning_runs.texts.reading import tokenizer
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_f1_score

if TYPE_CHECKING:
    from .data import DataModule
    from .module import TextClassifier

LISTED = 24  # mistakes, and classes, that the report shows
SHOWN = 300  # characters of a text


class Classifier(nn.Module):
    """Map tokens ``(B, max_tokens)``, int64, to the probabilities of all classes ``(B, num_classes)``, float32."""

    def __init__(self, model: TextClassifier) -> None:
        super().__init__()
        self.network, self.facts = model.network, model.facts  # plain values, which are written into the exported files

    def forward(self, tokens: Tensor) -> Tensor:
        """Classify texts."""
        return self.network(tokens).float().softmax(dim=1)


def baseline(data: DataModule) -> dict[str, dict[str, float]]:
    """Train simple models on the run's own training texts, that of scikit-learn if it is there, and test them."""
    data.setup("fit")
    (texts, train), (_, test) = data.splits["train"], data.splits["test"]
    found = {"most frequent class": texts.labels[train].bincount().argmax().expand(len(test))}
    if find_spec("sklearn"):
        from sklearn.feature_extraction.text import TfidfVectorizer  # here, for it takes a second
        from sklearn.linear_model import LogisticRegression

        words = TfidfVectorizer()
        features = words.fit_transform(data.texts[i] for i in train.tolist())
        model = LogisticRegression(max_iter=1000).fit(features, texts.labels[train].numpy())
        predicted = model.predict(words.transform(data.texts[i] for i in test.tolist()))
        found["TF-IDF and logistic regression"] = torch.from_numpy(predicted)
    return {name: measure(texts.labels[test], predicted, data.num_classes) for name, predicted in found.items()}


def measure(labels: Tensor, predicted: Tensor, num_classes: int) -> dict[str, float]:
    """Return the test metrics of predicted classes, ``(N,)``."""
    f1 = multiclass_f1_score(predicted, labels, num_classes).item()
    return {"test/accuracy": (labels == predicted).double().mean().item(), "test/f1": f1}


def show(
    model: TextClassifier, outputs: list[Tensor], batch: tuple[Tensor, Tensor], data: DataModule
) -> dict[str, Any]:
    """Return a picture of the first texts with their classes, if Pillow is installed."""
    if find_spec("PIL") is None:
        return {}
    from PIL import Image, ImageDraw  # here, for it need not be installed

    names = data.class_names
    texts = tokenizer(model.facts).decode_batch(batch[0][:16].tolist())
    picture = Image.new("RGB", (900, 8 + 40 * len(texts)), "white")
    pen = ImageDraw.Draw(picture)
    for i, (text, label, p) in enumerate(
        zip(texts, batch[1].tolist(), outputs[0].argmax(dim=1).tolist(), strict=False)
    ):
        caption = names[p] if p == label else f"{names[p]} (is {names[label]})"
        pen.text((8, 8 + 40 * i), caption, "green" if p == label else "red")
        pen.text((8, 22 + 40 * i), text.replace("\n", " ")[:140], "black")
    return {"examples": picture}


def sections(
    model: TextClassifier, predictions: dict[str, Tensor], data: DataModule
) -> list[tuple[str, Callable[[], str]]]:
    """Return sections of the report: titles, with functions that write the HTML, so that one may fail alone."""
    data.setup("test")
    index, (sure, predicted) = predictions["index"], predictions["probabilities"].max(dim=1)
    labels = data.splits["test"][0].labels[index]
    return [
        ("Confusion matrix", partial(charts.confusion_matrix, labels, predicted, data.class_names)),
        ("Surest mistakes", partial(mistakes, index, labels, predicted, sure, data)),
        ("Data", partial(contents, data)),
    ]


def mistakes(index: Tensor, labels: Tensor, predicted: Tensor, sure: Tensor, data: DataModule) -> str:
    """Show the test texts that the model was surest of among those that it got wrong."""
    wrong, names = (predicted != labels).nonzero().flatten(), data.class_names
    body = []
    for i in wrong[sure[wrong].argsort(descending=True, stable=True)][:LISTED].tolist():
        text = data.texts[index[i]]
        shown = text[:SHOWN] + (" …" if len(text) > SHOWN else "")
        row = (data.row_names[index[i]], names[labels[i]], names[predicted[i]], f"{sure[i]:.1%}", shown)
        body.append(row)
    table = charts.table(["text", "true", "predicted", "probability", "begins"], body, "long") if body else ""
    return f"<p>{len(wrong)} of {len(labels)} texts are wrong.</p>{table}"


def contents(data: DataModule) -> str:
    """Show how many texts of each class there are in each part, and how long they are."""
    (texts, _), names = data.splits["train"], data.class_names
    parts = [texts.labels[data.splits[part][1]] for part in ("train", "val", "test")]
    counts = [part.bincount(minlength=len(names)).tolist() for part in parts]
    rows = [*zip(names, *counts, strict=True), ("all", *map(sum, counts))]
    longest, median = int(texts.lengths.max()), int(texts.lengths.median())
    text = f"{data.source}. Half of the texts have up to {median} tokens, the longest {longest}, cut ones included."
    text += f" There are {data.vocabulary_size} different tokens."
    if not find_spec("sklearn"):
        text += " For TF-IDF with logistic regression on these texts: pip install -e '.[baselines]', then fit again."
    table = charts.table(["class", "train", "validation", "test"], rows, "numbers long")
    return f"<p>{charts.escape(text)}</p>{table}"
