import html
import re

import pytest
import torch
from lightning_runs.reports.classification import ClassificationReport, class_table, wilson_interval
from lightning_runs.reports.pictures import grid, picture_html
from markupsafe import Markup
from PIL import Image

LABELS = torch.tensor([0, 0, 0, 1, 1, 1])
PROBABILITIES = torch.tensor([[0.9, 0.1, 0], [0.8, 0.2, 0], [0.3, 0.7, 0], [0.4, 0.6, 0], [0.95, 0.05, 0], [0, 1.0, 0]])


def report(**options) -> ClassificationReport:
    values = {"labels": LABELS, "probabilities": PROBABILITIES, "class_names": ["<cat>", "dog", "none"]}
    return ClassificationReport(**values | {"noun": "rows", "show": lambda i: f"row {i}"} | options)


def words(page: str) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page)))


def test_sections_are_chosen_by_their_titles() -> None:
    assert [title for title, _ in report().sections("Calibration", "Test result")] == ["Calibration", "Test result"]
    sections = report().sections()
    assert len(sections) == 5
    for _, draw in sections:
        assert "<cat>" not in draw()


def test_the_test_result_has_intervals() -> None:
    text = words(report().test_result())
    assert "accuracy 66.67% 30.00% to 90.32% (Wilson), 4 of 6 rows" in text
    assert f"loss in nats {-PROBABILITIES.gather(1, LABELS[:, None]).log().mean():.4f}" in text


def test_each_class_with_items_has_its_measures() -> None:
    text = words(report().each_class())
    assert "dog 0.667 0.667 0.667 0.208 to 0.939 3" in text
    assert "none 0.000 0.000 0.000 0.000 to 1.000 0" in text
    assert "mean 0.667 0.667 0.667 - 6" in text


def test_calibration_compares_probability_and_accuracy() -> None:
    confidence = PROBABILITIES.amax(dim=1)
    right = torch.tensor([1.0, 1, 0, 1, 0, 1])
    bins = (confidence * 12).long().clamp_max(11)
    gaps = [(confidence[bins == i].sum() - right[bins == i].sum()).abs() for i in bins.unique()]
    assert f"{sum(gaps) / 6:.4f}" in report().calibration()


def test_the_surest_mistake_is_the_first() -> None:
    text = words(report().mistakes())
    assert "2 of 2 mistakes in 6 rows" in text
    assert text.index("row 4 dog <cat> 95.0%") < text.index("row 2 <cat> dog 70.0%")
    right = report(labels=PROBABILITIES.argmax(dim=1)).mistakes()
    assert "all 6 test rows were predicted correctly" in right


def test_mistakes_of_pictures_are_shown_side_by_side() -> None:
    picture = picture_html(Image.new("L", (2, 2)))
    page = report(show=lambda i: picture, is_picture=True).mistakes()
    assert page.count(picture) == 2
    assert page.index("is <b>dog</b>, taken for <b>&lt;cat&gt;</b><br>95.0%") < page.index("70.0%")


def test_a_caption_is_escaped_in_a_grid() -> None:
    page = grid([(Markup("<img>"), Markup.escape("<b>"))])
    assert page == '<div class="grid"><figure><img><figcaption>&lt;b&gt;</figcaption></figure></div>'


def test_items_of_each_class_and_part_are_counted() -> None:
    counts = {"train": torch.tensor([3, 0]), "test": torch.tensor([1, 1])}
    assert "class train test a 3 1 b 0 1 all 3 2" in words(class_table(counts, ["a", "b"]))


def test_wilson_s_interval_holds_the_fraction() -> None:
    assert wilson_interval(5, 10) == (pytest.approx(0.2366, abs=1e-4), pytest.approx(0.7634, abs=1e-4))
    assert wilson_interval(0, 10) == (0.0, pytest.approx(0.2775, abs=1e-4))
    assert wilson_interval(10, 10) == (pytest.approx(0.7225, abs=1e-4), 1.0)
    assert wilson_interval(0, 0) == (0.0, 1.0)
