import torch
from lightning_runs.images.classifier import ImageReports, build_network
from starts import prepared, refused
from torch import nn
from torch.nn import functional


def test_sections_and_a_picture_show_images() -> None:
    data = prepared("images")
    predicted = data.splits["test"][0].labels.clone()
    predicted[:36] = (predicted[:36] + 1) % 10
    predictions = {"index": torch.arange(360), "probabilities": functional.one_hot(predicted, 10) * 0.89 + 0.011}
    drawn = {title: draw() for title, draw in ImageReports().sections(predictions, data)}
    assert "324 of 360 images" in drawn["Test result"]
    assert drawn["Surest mistakes"].count("<img") == 24
    assert "CC BY 4.0" in drawn["Data"]
    assert drawn["Data"].count("<img") == 10
    batch = (data.levels(data.splits["test"][0].tensors[0]), data.splits["test"][0].labels)
    [picture] = ImageReports().show([predictions["probabilities"]], batch, data).values()
    assert picture.size == (4 * 128, 4 * 144)


def test_a_network_that_does_not_take_the_arguments_is_named() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()

    with refused("model.network is Named, which does not take input_shape and num_classes"):
        build_network(Named, (1, 8, 8), 10)  # pyright: ignore[reportArgumentType]
