import pytest
import torch

from {{ cookiecutter.__package }}.data import DataModule
from {{ cookiecutter.__package }}.network import PAD


@pytest.fixture(scope="module")
def glosses() -> DataModule:
    data = DataModule("glosses", max_vocabulary=1000)
    data.setup("fit")
    return data


def test_batches_have_the_promised_shapes_and_little_padding(glosses) -> None:
    batches = list(glosses.train_dataloader())
    assert all(len(tokens) == len(labels) == 32 for tokens, labels in batches)
    assert all(tokens.dtype == labels.dtype == torch.int64 for tokens, labels in batches)
    assert set(torch.cat([labels for _, labels in batches]).tolist()) == set(range(glosses.num_classes))
    padding = sum(int((tokens == PAD).sum()) for tokens, _ in batches)
    assert 0 < padding < 0.1 * sum(tokens.numel() for tokens, _ in batches)


def test_parts_share_the_texts_none_twice(glosses) -> None:
    parts = [glosses.splits[part][1] for part in ("train", "val", "test")]
    assert [len(part) for part in parts] == [3200, 800, 1000]
    assert torch.cat(parts).sort().values.tolist() == list(range(5000))


@pytest.mark.parametrize("dataset", ["text_folder", "csv_texts"])
def test_texts_of_your_own_are_read(tmp_path, dataset) -> None:
    rows = [(("a wave in the sea", "a leaf of the tree")[i % 2], ("sea", "wood")[i % 2]) for i in range(20)]
    root = tmp_path / "texts.csv" if dataset == "csv_texts" else tmp_path
    if dataset == "csv_texts":
        root.write_text("\n".join(["text,label", *map(",".join, rows)]))
    for i, (text, label) in enumerate(rows if dataset == "text_folder" else ()):
        (root / label).mkdir(exist_ok=True)
        (root / label / f"{i}.txt").write_text(text)
    data = DataModule(dataset, root=str(root), batch_size=4, max_tokens=8)
    data.setup("fit")
    tokens, labels = next(iter(data.train_dataloader()))
    assert data.class_names == ["sea", "wood"]
    assert (labels.shape, tokens.shape) == ((4,), (4, tokens.shape[1]))
    assert len({tuple(text) for text in tokens[labels == 0].tolist()}) == 1
