import pytest
import torch

from {{ cookiecutter.__package }}.data import DataModule
from {{ cookiecutter.__package }}.network import Standardize


def penguins(dataset, **options) -> DataModule:
    data = DataModule(dataset, **options)
    data.setup("fit")
    return data


@pytest.mark.parametrize("dataset", ["penguins", "penguin_mass"])
def test_batches_have_the_promised_shapes(dataset) -> None:
    data = penguins(dataset=dataset, batch_size=8)
    sizes = Standardize(data.facts["columns"])
    numbers, words, targets = next(iter(data.train_dataloader()))
    assert (numbers.shape, numbers.dtype) == ((8, sizes.num_numbers), torch.float32)
    assert (words.shape, words.dtype) == ((8, len(sizes.vocabulary_sizes)), torch.int64)
    assert targets.dtype == (torch.int64 if dataset == "penguins" else torch.float32)


def test_parts_share_the_rows_none_twice() -> None:
    splits = penguins("penguins").splits
    parts = [splits[part][1] for part in ("train", "val", "test")]
    assert [len(part) for part in parts] == [220, 55, 69]
    assert torch.cat(parts).sort().values.tolist() == list(range(344))


def test_a_table_of_your_own_is_read(tmp_path) -> None:
    file = tmp_path / "table.csv"
    lines = [f"{i / 2};{('red', 'blue')[i % 2]};{('small', 'large')[i // 20]}" for i in range(40)]
    file.write_text("\n".join(["size;colour;kind", *lines]))
    data = penguins(dataset="csv_file", root=str(file), target="kind", batch_size=4)
    assert data.class_names == ["large", "small"]
    assert data.facts["columns"]["colour"] == {"words": ["blue", "red"]}
    numbers, words, labels = next(iter(data.train_dataloader()))
    assert (numbers.shape, words.shape) == ((4, 1), (4, 1))
    assert ((numbers[:, 0] > 0) == (labels == 0)).all()
