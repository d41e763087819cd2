import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from lightning_runs.errors import UserError
from lightning_runs.texts import pretrained
from lightning_runs.texts.pretrained import PretrainedEncoder
from starts import start_module
from torch.nn import functional
from written_texts import DataModule, prepared, write_encoder

transformers = pytest.importorskip("transformers")
TextClassifier = start_module("text", "module").TextClassifier


def refused(text: str):
    return pytest.raises(UserError, match=re.escape(text))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def data(tiny: Path):
    return prepared(tokenizer=str(tiny), max_tokens=16)


def built(data, **options: Any):
    torch.manual_seed(0)

    def network(vocabulary_size: int, num_classes: int) -> PretrainedEncoder:
        return PretrainedEncoder(vocabulary_size, num_classes, **options)

    return TextClassifier(data.vocabulary_size, 10, network, torch.optim.AdamW, facts=data.facts).eval()


def test_texts_have_the_tokens_of_the_pretrained_model(data) -> None:
    tokens, _ = next(iter(data.train_dataloader()))
    assert bool((tokens[:, 0] == 1).all())  # [CLS]
    ends = tokens.gather(1, (tokens != 3).sum(dim=1, keepdim=True) - 1)
    assert bool((ends == 2).all())  # [SEP], also where a text is cut


def test_more_padding_leaves_the_logits_as_they_are(data) -> None:
    model = built(data)
    tokens, _ = next(iter(data.val_dataloader()))
    assert torch.allclose(model(tokens), model(functional.pad(tokens, (0, 9), value=3)), atol=1e-5)


def test_only_a_new_training_reads_the_weights(data, tiny) -> None:
    theirs = transformers.BertModel.from_pretrained(tiny).state_dict()
    for checkpoint, options, same in ((None, {}, True), ("last.ckpt", {}, False), (None, {"weights": False}, False)):
        model = cast(Any, built(data, **options))
        model.trainer = SimpleNamespace(ckpt_path=checkpoint, datamodule=None, strategy=None)
        model.on_fit_start()
        ours = model.network.encoder.state_dict()
        assert all(ours[key].equal(value) for key, value in theirs.items()) == same


def test_layers_are_grouped_from_the_input_to_the_output(data) -> None:
    names = [type(group[0]).__name__ for group in built(data).layer_groups()]
    assert names == ["BertEmbeddings", "BertLayer", "BertLayer", "BertPooler", "Linear"]


def test_a_model_that_can_not_be_read_is_refused(data, tmp_path, monkeypatch) -> None:
    missing = tmp_path / "none"
    with refused(f"data.tokenizer is {missing}, which can't be read"):
        DataModule(tokenizer=str(missing)).setup("fit")
    with refused("model.network is PretrainedEncoder, but data.tokenizer is null"):
        PretrainedEncoder(10, 2).build(None)
    network = PretrainedEncoder(10, 2)
    network.build({**json.loads(data.facts)["encoder"], "name": str(missing)})
    with refused(f"the weights of {missing} can't be read"):
        network.load_weights()
    monkeypatch.setattr("lightning_runs.errors.find_spec", lambda name: None)
    with refused("transformers is not installed"):
        pretrained.read_pretrained("bert")
