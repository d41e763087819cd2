import pytest
import torch
from lightning_runs.errors import UserError
from lightning_runs.images.classifier import ExportedClassifier, ImageReports, build_network, draw_examples
from starts import start_module
from torch import nn

DataModule = start_module("images", "data").DataModule


@pytest.fixture(scope="module")
def data():
    data = DataModule("digits")
    data.setup("test")
    return data


def sections(data, wrong: int) -> dict[str, str]:
    """Sections of a model that is sure of the true class, but for the first test images."""
    predicted = data.splits["test"][0].labels.clone()
    predicted[:wrong] = (predicted[:wrong] + 1) % 10
    predictions = {"index": torch.arange(360), "probabilities": nn.functional.one_hot(predicted, 10) * 0.89 + 0.011}
    return {title: draw() for title, draw in ImageReports().sections(predictions, data)}


def test_sections_show_what_was_predicted(data) -> None:
    drawn = sections(data, wrong=36)
    titles = ["Test result", "Confusion matrix", "Each class", "Calibration", "Surest mistakes", "Data"]
    assert list(drawn) == titles
    assert "324 of 360 images" in drawn["Test result"]
    first = int(data.splits["test"][0].labels[0])
    assert f"{first} taken for {(first + 1) % 10}: " in drawn["Confusion matrix"]
    assert drawn["Surest mistakes"].count("<img") == 24
    assert "CC BY 4.0" in drawn["Data"]
    assert "(1, 8, 8)" in drawn["Data"]
    assert drawn["Data"].count("<img") == 10


def test_sections_can_be_drawn_where_nothing_is_wrong(data) -> None:
    drawn = sections(data, wrong=0)
    assert "taken for" not in drawn["Confusion matrix"].split("<p>")[0]
    assert "all 360 test images were predicted correctly" in drawn["Surest mistakes"]


def test_a_table_names_the_file_or_the_number_of_each_image(data, tmp_path) -> None:
    predictions = {"index": torch.tensor([1]), "probabilities": torch.eye(10)[7:8]}
    names, [row] = ImageReports().rows(predictions, data)
    assert names[:3] == ["index", "label", "probability"]
    assert row[:3] == [1, "7", 1.0]
    for name in "ab":
        draw_examples(torch.zeros(1, 1, 8, 8).byte(), torch.zeros(1), torch.zeros(1), "a").save(
            tmp_path / f"{name}.png"
        )
    new = DataModule("digits", predict_paths=[str(tmp_path)])
    new.setup("predict")
    names, [row] = ImageReports().rows(predictions, new)
    assert (names[0], row[0]) == ("file", str(tmp_path / "b.png"))


def test_examples_are_drawn_with_their_captions(data) -> None:
    images, labels = data.splits["test"][0][torch.arange(5)]
    [(name, picture)] = (
        ImageReports().show([nn.functional.one_hot(labels, 10)], (data.levels(images), labels), data).items()
    )
    assert (name, picture.size) == ("examples", (4 * 128, 2 * 144))
    other = draw_examples(images, labels, (labels + 1) % 10, data.class_names)
    for part, is_same in (((0, 0, 512, 124), True), ((0, 128, 512, 144), False)):  # images, and captions
        assert (picture.crop(part).tobytes() == other.crop(part).tobytes()) is is_same


def test_an_exported_module_takes_pixels_and_names_its_reader(data) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    exported = ExportedClassifier(network, data.facts)
    pixels = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    expected = network(data.levels(pixels)).softmax(dim=1)
    torch.testing.assert_close(exported(pixels), expected)
    assert exported.facts == {"kind": "images", **data.facts}


def test_a_network_that_does_not_take_the_arguments_is_named() -> None:
    assert isinstance(build_network(lambda input_shape, num_classes: nn.Linear(1, 1), (1, 8, 8), 10), nn.Linear)
    with pytest.raises(UserError, match=r"model\.network is Named, which does not take input_shape and num_classes"):
        build_network(Named, (1, 8, 8), 10)  # pyright: ignore[reportArgumentType]


class Named(nn.Module):
    """Takes no shape."""

    def __init__(self) -> None:
        super().__init__()
