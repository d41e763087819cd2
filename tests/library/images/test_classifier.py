import torch
from lightning_runs.images.classifier import ImageReports, build_network, draw_examples
from starts import prepared, refused
from torch import nn
from torch.nn import functional


def test_sections_show_images_and_their_mistakes() -> None:
    data = prepared("images")
    predicted = data.splits["test"][0].labels.clone()
    predicted[:36] = (predicted[:36] + 1) % 10
    predictions = {"index": torch.arange(360), "probabilities": functional.one_hot(predicted, 10) * 0.89 + 0.011}
    drawn = {title: draw() for title, draw in ImageReports().sections(predictions, data)}
    assert "324 of 360 images" in drawn["Test result"]
    assert drawn["Surest mistakes"].count("<img") == 24
    assert "CC BY 4.0" in drawn["Data"]
    assert drawn["Data"].count("<img") == 10
    names, [row, *_] = ImageReports().rows(predictions, data)
    assert (names[0], row[0]) == ("index", 0)


def test_examples_are_drawn_with_their_captions() -> None:
    data = prepared("images")
    images, labels = data.splits["test"][0][torch.arange(5)]
    logits = functional.one_hot(labels, 10)
    [picture] = ImageReports().show([logits], (data.levels(images), labels), data).values()
    assert picture.size == (4 * 128, 2 * 144)
    other = draw_examples(images, labels, (labels + 1) % 10, data.class_names)
    for part, is_same in (((0, 0, 512, 124), True), ((0, 128, 512, 144), False)):  # images, and captions
        assert (picture.crop(part).tobytes() == other.crop(part).tobytes()) is is_same


def test_a_network_that_does_not_take_the_arguments_is_named() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()

    with refused("model.network is Named, which does not take input_shape and num_classes"):
        build_network(Named, (1, 8, 8), 10)  # pyright: ignore[reportArgumentType]
