import pytest
import torch

from {{ cookiecutter.__package }}.data import DataModule
from {{ cookiecutter.__package }}.module import TableModel
from {{ cookiecutter.__package }}.network import TableNet

BUNDLED = ("penguins", "penguin_mass")


def built(dataset) -> tuple[TableModel, DataModule]:
    data = DataModule(dataset)
    data.setup("fit")
    return TableModel(data.facts, network=TableNet, optimizer=torch.optim.AdamW).eval(), data


@pytest.mark.parametrize(("num_numbers", "sizes"), [(3, [4, 2]), (3, []), (0, [5])])
@pytest.mark.parametrize("num_outputs", [1, 4])
def test_gradient_reaches_every_parameter(num_numbers, sizes, num_outputs) -> None:
    torch.manual_seed(0)
    network = TableNet(num_numbers, sizes, num_outputs)
    outputs = network(torch.randn(16, num_numbers), torch.randint(0, 2, (16, len(sizes))))
    assert outputs.shape == (16 * 8, num_outputs)  # each of 8 members learns by itself
    outputs.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.count_nonzero() > 0, name


@pytest.mark.parametrize("dataset", BUNDLED)
def test_exported_module_maps_columns_to_the_predictions(dataset) -> None:
    model, data = built(dataset)
    batch = next(iter(data.predict_dataloader()))
    with torch.inference_mode():
        predictions = model.predict_step(batch, 0)
        expected = predictions["probabilities" if dataset == "penguins" else "prediction"]
        torch.testing.assert_close(model.exported()(batch[0]), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dataset", BUNDLED)
def test_metrics_count_all_rows_of_a_smaller_last_batch(dataset) -> None:
    model, data = built(dataset)
    for batch_idx, batch in enumerate(data.test_dataloader()):
        model.test_step(batch, batch_idx)
    rows, test = data.splits["test"]
    numbers, words, targets = rows[test]
    with torch.inference_mode():
        outputs = model(numbers, words)
    found = {name: metric.compute().item() for name, metric in model.test_metrics.items()}
    if dataset == "penguins":
        assert found["loss"] == pytest.approx(torch.nn.functional.cross_entropy(outputs, targets).item())
        assert found["accuracy"] == pytest.approx((outputs.argmax(dim=1) == targets).float().mean().item())
    else:
        error = (outputs - targets).square().mean()
        assert found["rmse"] == pytest.approx(error.sqrt().item() * data.facts["std"])  # grams
        assert found["r2"] == pytest.approx(1 - error.item() / targets.var(correction=0).item(), abs=1e-4)
