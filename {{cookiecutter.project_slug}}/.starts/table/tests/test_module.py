from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch.nn import functional as F

from {{ cookiecutter.__package }}.data import DataModule
from {{ cookiecutter.__package }}.module import TableModel
from {{ cookiecutter.__package }}.network import TableNet

BUNDLED = ("penguins", "penguin_mass")


def built(dataset: str) -> tuple[TableModel, DataModule]:
    data = DataModule(dataset)
    data.setup("fit")
    return TableModel(data.facts, network=TableNet, optimizer=torch.optim.AdamW).eval(), data


@pytest.mark.parametrize(("num_numbers", "sizes"), [(3, [4, 2]), (3, []), (0, [5])])
@pytest.mark.parametrize("num_outputs", [1, 4])
def test_network_maps_numbers_and_words_of_any_count(num_numbers, sizes, num_outputs) -> None:
    torch.manual_seed(0)
    network = TableNet(num_numbers, sizes, num_outputs)
    numbers, words = torch.randn(16, num_numbers), torch.randint(0, 2, (16, len(sizes)))
    outputs = network(numbers, words)
    assert outputs.shape == (16 * 8, num_outputs)  # each of 8 members learns by itself
    outputs.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.count_nonzero() > 0, name
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    members = network(numbers, words).view(16, 8, num_outputs)
    assert members.std(dim=1).min() > 0  # they differ, and their mean counts
    torch.testing.assert_close(network.eval()(numbers, words), members.mean(dim=1))


def test_weights_of_the_classes_are_in_the_loss_of_training_alone() -> None:
    built_model, data = built("penguins")
    data.balance, model = "weights", cast(Any, built_model)
    model.trainer, model.log = SimpleNamespace(datamodule=data), lambda *_, **__: None
    model.on_fit_start()
    batch = next(iter(data.train_dataloader()))
    outputs = model(*batch[:2])
    loss = model.training_step(batch, 0).item()
    assert loss == pytest.approx(F.cross_entropy(outputs, batch[2], data.loss_weights).item())
    plain = F.cross_entropy(outputs, batch[2]).item()
    assert loss != pytest.approx(plain)
    model.validation_step(batch, 0)
    assert model.val_metrics["loss"].compute().item() == pytest.approx(plain)


@pytest.mark.parametrize("dataset", BUNDLED)
def test_exported_module_maps_columns_to_what_is_predicted(dataset) -> None:
    model, data = built(dataset)
    batch = next(iter(data.predict_dataloader()))
    with torch.inference_mode():
        predicted = model.predict_step(batch, 0)
        expected = predicted["probabilities" if dataset == "penguins" else "prediction"]
        assert (model.exported()(batch[0]) - expected).abs().max() < 1e-5 * expected.abs().max()
    assert model.exported().facts == data.facts


def test_the_table_of_predictions_names_rows_and_classes() -> None:
    model, data = built("penguins")
    with torch.inference_mode():
        predicted = model.predict_step(next(iter(data.predict_dataloader())), 0)
    columns, rows = model.rows(predicted, data)
    assert columns == ["file", "label", "probability", "p(Adelie)", "p(Chinstrap)", "p(Gentoo)"]
    first = int(predicted["index"][0])
    assert rows[0][0] == f"penguins.csv:{first + 2}"


def test_a_number_is_predicted_in_its_own_unit() -> None:
    model, data = built("penguin_mass")
    with torch.inference_mode():
        predicted = model.predict_step(next(iter(data.predict_dataloader())), 0)
    columns, rows = model.rows(predicted, data)
    assert columns == ["file", "prediction"]
    assert 1000 < rows[0][1] < 8000  # grams
    assert model.headline == ("rmse", "min", "")
    assert built("penguins")[0].headline == ("accuracy", "max", "%")


@pytest.mark.parametrize("dataset", BUNDLED)
def test_a_picture_is_drawn_where_pillow_is_installed(dataset, monkeypatch) -> None:
    pytest.importorskip("PIL")
    model, data = built(dataset)
    numbers, words, _ = batch = next(iter(data.val_dataloader()))
    with torch.inference_mode():
        outputs = model(numbers, words)
    [picture] = model.show([outputs], batch, data).values()
    assert len(picture.getcolors(maxcolors=100000)) > 2
    monkeypatch.setattr("{{ cookiecutter.__package }}.evaluation.find_spec", lambda name: None)
    assert model.show([outputs], batch, data) == {}
