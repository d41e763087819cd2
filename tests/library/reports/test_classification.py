import html
import re

import pytest
import torch
from lightning_runs.reports.charts import picture_html
from lightning_runs.reports.classification import ClassificationReport
from PIL import Image

LABELS = torch.tensor([0, 0, 0, 1, 1, 1])
PROBABILITIES = torch.tensor([[0.9, 0.1, 0], [0.8, 0.2, 0], [0.3, 0.7, 0], [0.4, 0.6, 0], [0.95, 0.05, 0], [0, 1.0, 0]])


def report(**options) -> ClassificationReport:
    values = {"labels": LABELS, "probabilities": PROBABILITIES, "class_names": ["<cat>", "dog", "none"]}
    return ClassificationReport(**values | {"noun": "rows", "show": lambda i: f"row {i}"} | options)


def words(page: str) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page)))


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ("test_result", "accuracy 66.67% 30.00% to 90.32% (Wilson), 4 of 6 rows"),
        ("test_result", f"loss in nats {-PROBABILITIES.gather(1, LABELS[:, None]).log().mean():.4f}"),
        ("each_class", "dog 0.667 0.667 0.667 3 none 0.000 0.000 0.000 0 mean 0.667 0.667 0.667 6"),
        ("calibration", "82.50%, and 66.67% of the predictions are correct. Expected calibration error (12 bins):"),
        ("mistakes", "rows true predicted probability row 4 dog <cat> 95.0%"),
    ],
)
def test_a_section_shows_what_was_predicted(section, text) -> None:
    assert text in words(getattr(report(), section)())


def test_the_surest_mistake_is_the_first() -> None:
    picture = picture_html(Image.new("L", (2, 2)))
    page = report(show=lambda i: picture, is_picture=True).mistakes()
    assert page.startswith("<p>2 of 2 mistakes")
    assert page.count(picture) == 2
    assert page.index("is <b>dog</b>, taken for <b>&lt;cat&gt;</b><br>95.0%") < page.index("70.0%")
    right = report(labels=PROBABILITIES.argmax(dim=1)).mistakes()
    assert "all 6 test rows were predicted correctly" in right
