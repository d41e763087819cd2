import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch.nn import functional as F

from {{ cookiecutter.__package }} import pretrained
from {{ cookiecutter.__package }}.data import DataModule
from {{ cookiecutter.__package }}.module import TextClassifier
from {{ cookiecutter.__package }}.pretrained import PretrainedEncoder
from lightning_runs.errors import UserError
from {{ cookiecutter.__package }}.train import main

transformers = pytest.importorskip("transformers")
SHORT = [f"--trainer.limit_{part}_batches=5" for part in ("train", "val", "test")]
FINETUNE = Path(__file__).parents[1] / "configs" / "finetune.yaml"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model of BERT's form, whose padding is not 0."""
    folder = tmp_path_factory.mktemp("tiny")
    words = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", *"abcdefghijklmnopqrstuvwxyz", *(f"##{c}" for c in "aeinorst")]
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = transformers.BertTokenizerFast(vocab={word: i for i, word in enumerate(words)})
    tokenizer.save_pretrained(folder)
    torch.manual_seed(7)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.BertConfig(vocab_size=len(words), pad_token_id=3, **sizes)
    transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tiny: Path) -> DataModule:
    data = DataModule(tokenizer=str(tiny), max_tokens=16)
    data.setup("fit")
    return data


def built(data: DataModule, **options: Any) -> TextClassifier:
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
    wider = F.pad(tokens, (0, 9), value=3)
    assert torch.allclose(model(tokens), model(wider), atol=1e-5)


def test_only_a_new_training_reads_the_weights(data, tiny) -> None:
    theirs = transformers.BertModel.from_pretrained(tiny).state_dict()
    for checkpoint, options, same in ((None, {}, True), ("last.ckpt", {}, False), (None, {"weights": False}, False)):
        model = cast(Any, built(data, **options))
        model.trainer = SimpleNamespace(ckpt_path=checkpoint, datamodule=None)
        model.on_fit_start()
        ours = model.network.encoder.state_dict()
        assert all(ours[key].equal(value) for key, value in theirs.items()) == same


def test_layers_are_grouped_from_the_input_to_the_output(data) -> None:
    groups = built(data).layer_groups()
    names = [type(group[0]).__name__ for group in groups]
    assert names == ["BertEmbeddings", "BertLayer", "BertLayer", "BertPooler", "Linear"]


def test_a_run_is_fine_tuned_by_the_shipped_configuration_and_then_needs_no_hub(run, tiny, tmp_path, capsys) -> None:
    copy = tmp_path / "model"
    shutil.copytree(tiny, copy)
    options = ("--data.tokenizer", str(copy), "--trainer.max_epochs", "2", *SHORT)
    assert run("fit", "--run", "tuned", *options, config=FINETUNE) == 0
    shutil.rmtree(copy)
    new = tmp_path / "new.txt"
    new.write_text("a small fish\n")
    assert main(["predict", str(new), "--run", str(tmp_path / "tuned")]) == 0
    assert f"{new}:1" in capsys.readouterr().out
    assert main(["fit", "--resume", str(tmp_path / "tuned"), "--trainer.max_epochs", "3"]) == 0
    state = torch.load(tmp_path / "tuned" / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["epoch"] == 3
    rates = [group["lr"] for group in state["optimizer_states"][0]["param_groups"]]
    assert len(rates) == 5


def test_what_is_missing_is_told(data, tmp_path, monkeypatch) -> None:
    with pytest.raises(UserError, match=r"data\.tokenizer is \S+none, which can't be read: .*Give a model of the hub"):
        DataModule(tokenizer=str(tmp_path / "none")).setup("fit")
    facts = json.loads(data.facts)
    with pytest.raises(UserError, match=r"the tokenizer is none of a pretrained model\. Name the model"):
        PretrainedEncoder(10, 2).build(None)
    network = PretrainedEncoder(10, 2)
    network.build({**facts["encoder"], "name": str(tmp_path / "gone")})
    with pytest.raises(UserError, match=r"the weights of \S+gone can't be read: .*weights false"):
        network.load_weights()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(pretrained, "require", lambda *_: (_ for _ in ()).throw(UserError("not installed")))
    with pytest.raises(UserError, match="not installed"):
        pretrained.describe("bert")
