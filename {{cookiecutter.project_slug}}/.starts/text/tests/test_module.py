import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from {{ cookiecutter.__package }}.data import DataModule
from {{ cookiecutter.__package }}.evaluation import Classifier
from {{ cookiecutter.__package }}.module import TextClassifier
from {{ cookiecutter.__package }}.network import PAD, EmbeddingAverage, TransformerEncoder
from lightning_runs.errors import UserError

TOKENS = torch.tensor([[5, 6, 7, 8], [9, 3, PAD, PAD], [4, PAD, PAD, PAD]])
NETWORKS = (EmbeddingAverage, TransformerEncoder)


def classifier(network: Any = EmbeddingAverage, **options: Any) -> TextClassifier:
    torch.manual_seed(0)
    return TextClassifier(20, 3, network=network, optimizer=torch.optim.AdamW, **options)


@pytest.mark.parametrize("network", NETWORKS)
def test_network_maps_tokens_to_logits_and_gradient_reaches_every_parameter(network) -> None:
    model = network(20, 3)
    logits = model(TOKENS)
    assert logits.shape == (3, 3)
    logits.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.count_nonzero() > 0, name


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.enable_grad])  # attention takes another path without
@pytest.mark.parametrize("network", NETWORKS)
def test_more_padding_leaves_the_logits_as_they_are(network, mode) -> None:
    torch.manual_seed(0)
    model = network(20, 3).eval()
    with mode():
        narrow, wide = model(TOKENS), model(F.pad(TOKENS, (0, 60), value=PAD))
        alone = model(TOKENS[1:2, :2])
    assert torch.allclose(narrow, wide, atol=1e-6)
    assert torch.allclose(narrow[1:2], alone, atol=1e-6)


def test_the_order_of_tokens_counts_in_the_transformer_alone() -> None:
    torch.manual_seed(0)
    turned = TOKENS[:1].flip(1)
    for network, same in ((EmbeddingAverage, True), (TransformerEncoder, False)):
        model = network(20, 3).eval()
        assert torch.allclose(model(TOKENS[:1]), model(turned), atol=1e-6) == same


def test_weights_of_the_classes_are_in_the_loss_of_training_alone() -> None:
    model, labels = cast(Any, classifier().eval()), torch.tensor([0, 1, 2])
    weights = torch.tensor([1.0, 2.0, 5.0])
    model.trainer = SimpleNamespace(datamodule=SimpleNamespace(loss_weights=weights), ckpt_path=None)
    model.log = model.log_dict = lambda *_, **__: None
    model.on_fit_start()
    logits = model(TOKENS)
    loss = model.training_step((TOKENS, labels), 0).item()
    assert loss == pytest.approx(F.cross_entropy(logits, labels, weights).item())
    plain = F.cross_entropy(logits, labels).item()
    assert loss != pytest.approx(plain)
    model.validation_step((TOKENS, labels), 0)
    assert model.val_metrics["loss"].compute().item() == pytest.approx(plain)


def test_exported_module_maps_tokens_to_what_is_predicted() -> None:
    data = DataModule(max_vocabulary=300)
    data.setup("fit")
    model = TextClassifier(
        data.vocabulary_size, data.num_classes, EmbeddingAverage, torch.optim.AdamW, facts=data.facts
    )
    batch = next(iter(data.predict_dataloader()))
    found = model.eval().predict_step(batch, 0)
    assert isinstance(model.exported(), Classifier)
    assert model.exported()(batch[0]).equal(found["probabilities"])
    assert found["probabilities"].sum(dim=1).allclose(torch.ones(32))
    header, rows = model.rows(found, data)
    assert header[:3] == ["file", "label", "probability"]
    assert rows[0][0].startswith("glosses.csv.gz:")
    assert json.loads(data.facts)["class_names"] == data.class_names


def test_a_network_with_another_number_of_outputs_is_told() -> None:
    model = classifier(lambda vocabulary_size, num_classes: nn.Embedding(vocabulary_size, 7))
    with pytest.raises(UserError, match=r"the network's output is \(3, 4, 7\), but there are 3 classes"):
        model(TOKENS)
