import pytest
import torch

from {{ cookiecutter.__package }} import evaluation
from {{ cookiecutter.__package }}.data import DataModule


@pytest.fixture(scope="module")
def data() -> DataModule:
    data = DataModule("digits")
    data.setup("test")
    return data


def predictions(data: DataModule, wrong: int) -> torch.Tensor:
    """Probabilities of a model that is sure of the true class, but for the first test images."""
    labels = data.splits["test"][0].labels.clone()
    labels[:wrong] = (labels[:wrong] + 1) % 10
    return torch.nn.functional.one_hot(labels, 10) * 0.89 + 0.011


def drawn(data: DataModule, wrong: int) -> dict[str, str]:
    return {title: draw() for title, draw in evaluation.sections(torch.arange(360), predictions(data, wrong), data)}


def test_sections_show_what_was_predicted(data) -> None:
    sections = drawn(data, wrong=36)
    assert "90.00%" in sections["Test result"]
    assert "324 of 360 images" in sections["Test result"]
    first = int(data.splits["test"][0].labels[0])
    assert f"{first} taken for {(first + 1) % 10}: " in sections["Confusion matrix"]
    assert sections["Surest mistakes"].count("<img") == 24
    assert "24 of 36" in sections["Surest mistakes"]
    assert "CC BY 4.0" in sections["Data"]
    assert sections["Data"].count("<img") == 10


def test_sections_can_be_drawn_where_nothing_is_wrong(data) -> None:
    sections = drawn(data, wrong=0)
    assert "100.00%" in sections["Test result"]
    assert "taken for" not in sections["Confusion matrix"].split("<p>")[0]
    assert "There are none" in sections["Surest mistakes"]
    assert "<b>0.0990</b>" in sections["Calibration"]  # sure to 0.901, and always right


def test_measures_of_each_class_are_right() -> None:
    labels, predicted = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 0, 1, 1, 1])
    table = evaluation.each_class(labels, predicted, ["cat", "dog", "cow"])
    for name, measures, count in (
        ("cat", ("1.000", "0.667", "0.800"), 3),
        ("dog", ("0.667", "1.000", "0.800"), 2),
        ("cow", ("0.000", "0.000", "0.000"), 0),
        ("mean", ("0.833", "0.833", "0.800"), 5),  # of the classes that are there
    ):
        cells = "".join(f"<td>{value}</td>" for value in (*measures, count))
        assert f'<th scope="row">{name}</th>{cells}' in table


def test_interval_of_a_fraction_is_wilsons() -> None:
    assert evaluation.wilson(9, 10) == pytest.approx((0.5958, 0.9821), abs=1e-4)
    assert evaluation.wilson(0, 10) == (0.0, pytest.approx(0.2775, abs=1e-4))
    assert evaluation.wilson(10, 10)[1] == 1.0


def test_examples_are_drawn_with_their_captions(data) -> None:
    images, labels = data.splits["test"][0][torch.arange(5)]
    picture = evaluation.draw_examples(images, labels, labels, data.class_names)
    assert picture.size == (4 * 128, 2 * 144)
    assert len(picture.getcolors(maxcolors=100000) or []) > 5


def test_the_surest_mistake_comes_first(data) -> None:
    labels = data.splits["test"][0].labels
    predicted, confidence = labels.clone(), torch.ones(360)
    predicted[:2], confidence[:2] = (labels[:2] + 1) % 10, torch.tensor([0.6, 0.9])
    section = evaluation.mistakes(torch.arange(360), labels, predicted, confidence, data)
    assert section.index("90.0%") < section.index("60.0%")
