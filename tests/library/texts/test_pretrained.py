from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning_runs.texts import pretrained
from lightning_runs.texts.pretrained import PretrainedEncoder
from starts import add_options, built, data_class, prepared, run_start
from torch.nn import functional
from toy import refused
from training.test_finetuning import unfreezing
from written import read_table
from written_data import write_texts

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.slow


def write_encoder(folder: Path) -> Path:
    """Write a pretrained model of BERT's form, whose padding is not 0."""
    folder.mkdir(exist_ok=True)
    words = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", *"abcdefghijklmnopqrstuvwxyz", *(f"##{c}" for c in "aeinorst")]
    tokenizer = transformers.BertTokenizerFast(vocab={word: i for i, word in enumerate(words)})
    tokenizer.save_pretrained(folder)
    torch.manual_seed(7)
    sizes: Any = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.BertConfig(vocab_size=len(words), pad_token_id=3, **sizes)
    transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return prepared("text", tokenizer=str(write_encoder(tmp_path_factory.mktemp("tiny"))), max_tokens=16)


def encoder_model(data: Any, **options: Any) -> Any:
    def network(vocabulary_size: int, num_classes: int) -> PretrainedEncoder:
        return PretrainedEncoder(vocabulary_size, num_classes, **options)

    return built("text", data, network=network, facts=data.facts)


def test_more_padding_leaves_the_logits_as_they_are(data) -> None:
    model = encoder_model(data)
    tokens, _ = next(iter(data.val_dataloader()))
    assert bool((tokens[:, 0] == 1).all())  # [CLS]
    assert torch.allclose(model(tokens), model(functional.pad(tokens, (0, 9), value=3)), atol=1e-5)


def test_only_a_new_training_reads_the_weights(data) -> None:
    theirs = transformers.BertModel.from_pretrained(data.tokenizer).state_dict()
    for checkpoint, options, same in ((None, {}, True), ("last.ckpt", {}, False), (None, {"weights": False}, False)):
        model = encoder_model(data, **options)
        model.trainer = SimpleNamespace(ckpt_path=checkpoint, datamodule=None, strategy=None)
        model.on_fit_start()
        ours = model.network.encoder.state_dict()
        assert all(ours[key].equal(value) for key, value in theirs.items()) == same


def test_a_model_that_can_not_be_read_is_refused(tmp_path, monkeypatch) -> None:
    missing = tmp_path / "none"
    with refused(f"data.tokenizer is {missing}, which can't be read"):
        data_class("text")(tokenizer=str(missing)).setup("fit")
    with refused("model.network is PretrainedEncoder, but data.tokenizer is null"):
        PretrainedEncoder(10, 2).build(None)
    monkeypatch.setattr("lightning_runs.errors.find_spec", lambda name: None)
    with refused("transformers is not installed"):
        pretrained.read_pretrained("bert")


def test_a_run_is_fine_tuned_and_then_needs_no_hub(own_folder, tmp_path) -> None:
    add_options("text", "text_folder", own_folder / "configs" / "default.yaml")
    texts = write_texts(tmp_path / "texts")
    tiny = write_encoder(tmp_path / "model")
    options = [f"--data.root={texts}", "--data.batch_size=8", f"--data.tokenizer={tiny}"]
    options += ["--model.network=lightning_runs.texts.pretrained.PretrainedEncoder", "--model.layer_rate_decay=0.8"]
    assert run_start("text", "fit", "--run=tuned", *options, *unfreezing("[0,1]")) == 0
    tiny.rename(tmp_path / "gone")
    assert run_start("text", "predict", str(texts / "sea"), "--run=tuned", "--csv=new.csv") == 0
    assert len(read_table(Path("new.csv"))) == 20
    assert run_start("text", "fit", "--resume=tuned", "--trainer.max_epochs=4") == 0
