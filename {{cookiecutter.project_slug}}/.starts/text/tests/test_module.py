from typing import Any

import pytest
import torch
from torch.nn import functional as F

from {{ cookiecutter.__package }}.data import DataModule
from {{ cookiecutter.__package }}.module import TextClassifier
from {{ cookiecutter.__package }}.network import PAD, EmbeddingAverage, TransformerEncoder

TOKENS = torch.tensor([[5, 6, 7, 8], [9, 3, PAD, PAD], [4, PAD, PAD, PAD]])
NETWORKS = (EmbeddingAverage, TransformerEncoder)


def classifier(**options: Any) -> TextClassifier:
    torch.manual_seed(0)
    return TextClassifier(20, 3, network=EmbeddingAverage, optimizer=torch.optim.AdamW, **options)


@pytest.mark.parametrize("network", NETWORKS)
def test_gradient_reaches_every_parameter(network) -> None:
    torch.manual_seed(0)
    model = network(20, 3)
    logits = model(TOKENS)
    assert logits.shape == (3, 3)
    logits.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.count_nonzero() > 0, name


@pytest.mark.parametrize("network", NETWORKS)
def test_more_padding_leaves_the_logits_as_they_are(network) -> None:
    model = network(20, 3).eval()
    torch.testing.assert_close(model(TOKENS), model(F.pad(TOKENS, (0, 60), value=PAD)))


def test_metrics_count_all_texts_of_a_smaller_last_batch() -> None:
    model = classifier().eval()
    labels = torch.tensor([0, 1, 2])
    for batch_idx, part in enumerate((slice(0, 2), slice(2, 3))):
        model.validation_step((TOKENS[part], labels[part]), batch_idx)
    logits = model(TOKENS)
    found = {name: metric.compute().item() for name, metric in model.val_metrics.items()}
    assert found["loss"] == pytest.approx(F.cross_entropy(logits, labels).item())
    assert found["accuracy"] == pytest.approx((logits.argmax(dim=1) == labels).float().mean().item())


def test_exported_module_maps_tokens_to_the_predictions() -> None:
    data = DataModule("glosses", max_vocabulary=1000)
    sizes = (data.vocabulary_size, data.num_classes)
    model = TextClassifier(*sizes, EmbeddingAverage, torch.optim.AdamW, facts=data.facts).eval()
    batch = next(iter(data.predict_dataloader()))
    with torch.inference_mode():
        torch.testing.assert_close(model.exported()(batch[0]), model.predict_step(batch, 0)["probabilities"])
