import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning_runs.errors import UserError
from lightning_runs.images.datasets import DATASETS
from PIL import Image
from starts import start_module
from torch.nn import functional
from written_images import write_image_folder

DataModule = start_module("images", "data").DataModule
network = start_module("images", "network")
ImageClassifier = start_module("images", "module").ImageClassifier


def digits(**options: Any):
    data = DataModule("digits", **options)
    data.setup("fit")
    return data


def classifier(**options: Any):
    return ImageClassifier((1, 8, 8), 10, network=network.ConvNet, optimizer=torch.optim.AdamW, **options)


def refused(text: str):
    return pytest.raises(UserError, match=re.escape(text))


def training(data, **state: Any):
    """A data module whose trainer is in training, on the CPU."""
    precision = SimpleNamespace(convert_input=lambda images: images)
    data.trainer = SimpleNamespace(training=True, precision_plugin=precision, **state)
    return data


# ---- Data


def test_training_and_validation_share_each_class() -> None:
    splits = digits(val_fraction=0.2).splits
    images, train = splits["train"]
    val = splits["val"][1]
    assert torch.cat([train, val]).sort().values.equal(torch.arange(1437))
    assert splits["val"][0] is images
    assert splits["val"][0] is not splits["test"][0]
    counts = images.labels[val].bincount()
    assert bool(((counts - 0.2 * images.labels.bincount()).abs() < 1).all())


def test_every_training_image_is_held_out_in_one_fold() -> None:
    folds = [digits(fold=fold, num_folds=3) for fold in range(3)]
    assert torch.cat([data.splits["val"][1] for data in folds]).sort().values.equal(torch.arange(1437))
    for data in folds:
        index = torch.cat([batch[1] for batch in data.predict_dataloader()])
        assert index.equal(data.splits["val"][1])
        assert not set(index.tolist()) & set(data.splits["train"][1].tolist())
    whole = digits(fold=None, num_folds=3)
    assert [len(whole.splits[part][1]) for part in ("train", "val", "predict")] == [1437, 0, 360]


def test_a_split_depends_on_its_own_seed_alone() -> None:
    val = digits(seed=0).splits["val"][1]
    assert digits(seed=1).splits["val"][1].equal(val)
    assert not digits(split_seed=1).splits["val"][1].equal(val)


def test_a_folder_may_have_its_own_validation_images(tmp_path) -> None:
    write_image_folder(tmp_path, parts=("train", "val", "test"))
    data = DataModule("image_folder", root=str(tmp_path), image_size=16, batch_size=8, num_workers=0)
    data.setup("fit")
    assert data.class_names == ["cat", "dog"]
    assert [len(data.splits[split][1]) for split in ("train", "val", "test")] == [20, 20, 20]
    images, labels = next(iter(data.train_dataloader()))
    assert images.shape == (8, 3, 16, 16)
    assert len(labels) == 8
    with refused(f"{tmp_path / 'val'} has images for validation; for data.num_folds, move them to train."):
        DataModule("image_folder", root=str(tmp_path), num_folds=2).setup("fit")


def test_a_small_folder_without_val_gives_one_image_to_it(tmp_path) -> None:
    write_image_folder(tmp_path)
    data = DataModule("image_folder", root=str(tmp_path), val_fraction=0.001)
    data.setup("fit")
    assert [len(data.splits[split][1]) for split in ("train", "val")] == [19, 1]


def test_weights_and_sampling_let_all_classes_count_the_same() -> None:
    labels = torch.tensor([0] * 1000 + [1] * 437)
    weighted = digits(balance="weights")
    weighted.splits["train"][0].tensors[1][:] = labels
    weights = torch.tensor(weighted.loss_weights)
    counts = weighted.class_counts("train")
    assert (weights * counts)[:2].tolist() == pytest.approx([counts.sum().item() / 2] * 2)
    sampled = digits(balance="sampling")
    sampled.splits["train"][0].tensors[1][:] = labels
    drawn = torch.cat([batch[1] for batch in sampled.train_dataloader()])
    assert drawn.float().mean().item() == pytest.approx(0.5, abs=0.06)
    assert torch.cat([batch[1] for batch in sampled.val_dataloader()]).float().mean() < 0.4


def test_training_batches_are_augmented_mixed_and_normalised() -> None:
    images, labels = next(iter(digits(seed=1).train_dataloader()))
    seen = {}
    for augment, mix in (("none", "none"), ("light", "none"), ("strong", "none"), ("none", "mixup")):
        torch.manual_seed(0)
        data = training(DataModule(augment=augment, mix=mix))
        seen[augment, mix], targets = data.on_after_batch_transfer((images, labels), 0)
        assert seen[augment, mix].dtype == torch.float32
        assert targets.shape == ((64,) if mix == "none" else (64, 10))
    plain = seen["none", "none"]
    assert plain.equal(data.levels(images))
    assert abs(plain.mean()) < 0.1
    assert not any(changed.equal(plain) for key, changed in seen.items() if key != ("none", "none"))
    data.trainer.training = False
    assert data.on_after_batch_transfer((images, labels), 0)[0].equal(plain)


def test_new_images_are_predicted_without_the_data_set(tmp_path) -> None:
    write_image_folder(tmp_path, parts=("new",))
    file = str(tmp_path / "new" / "dog" / "3.png")
    data = DataModule("image_folder", root="nowhere", image_size=16, predict_paths=[file, str(tmp_path)], num_workers=0)
    data.class_names = ["cat", "dog"]  # as a run has recorded them
    data.prepare_data()
    data.setup("predict")
    (images, index), *_ = data.predict_dataloader()
    assert (data.num_classes, images.shape) == (2, (21, 3, 16, 16))
    assert index.tolist() == list(range(21))
    assert data.predict_paths[:2] == [file, str(tmp_path / "new" / "cat" / "0.png")]
    Image.new("RGB", (40, 60), (200, 200, 200)).save(tmp_path / "a.png")
    grey = DataModule("digits", predict_paths=[str(tmp_path / "a.png")])
    grey.setup("predict")
    (images, _), *_ = grey.predict_dataloader()
    assert images.equal(torch.full((1, 1, 8, 8), 200, dtype=torch.uint8))


@pytest.mark.parametrize("dataset", DATASETS)
def test_shape_and_facts_are_known_before_the_data_are_read(dataset) -> None:
    data = DataModule(dataset, image_size=32)
    assert data.input_shape == (data.about.shape if dataset != "image_folder" else (3, 32, 32))
    assert data.facts["dataset"].startswith(f"{dataset}: ")
    assert data.facts["mean"] == DATASETS[dataset].mean


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("batch_size", 0, "data.batch_size is 0; it must be at least 1"),
        ("num_workers", -1, "data.num_workers is -1; it must be at least 0"),
        ("image_size", 3, "data.image_size is 3; it must be at least 4"),
    ],
)
def test_values_out_of_bounds_are_refused(option, value, text) -> None:
    with refused(text):
        DataModule(**{option: value})


# ---- Module


def test_an_output_that_does_not_fit_is_refused() -> None:
    model = ImageClassifier((1, 8, 8), 10, lambda shape, classes: torch.nn.Flatten(), torch.optim.AdamW)
    with refused("the network's output is (2, 64), but there are 10 classes."):
        model(torch.zeros(2, 1, 8, 8))


def step_of(model: Any, images: torch.Tensor, labels: torch.Tensor) -> float:
    model.trainer = SimpleNamespace(is_last_batch=False, log_every_n_steps=10, global_step=0)
    return model.training_step((images, labels), 0).item()


def test_labels_are_smoothed_in_training() -> None:
    model = classifier(label_smoothing=0.2).eval()
    images = torch.rand(5, 1, 8, 8)
    labels = torch.arange(5)
    loss = step_of(model, images, labels)
    assert loss == pytest.approx(functional.cross_entropy(model(images), labels, label_smoothing=0.2).item())
    assert loss != pytest.approx(functional.cross_entropy(model(images), labels).item())


def test_weights_of_classes_are_in_the_loss_of_training_alone() -> None:
    weights = [1.0] * 8 + [3.0, 0.5]
    model = classifier(loss_weights=weights).eval()
    images = torch.rand(5, 1, 8, 8)
    labels = torch.tensor([0, 1, 8, 8, 9])
    plain = functional.cross_entropy(model(images), labels).item()
    expected = functional.cross_entropy(model(images), labels, weight=torch.tensor(weights)).item()
    assert expected != pytest.approx(plain)
    assert step_of(model, images, labels) == pytest.approx(expected)
    kept: dict[str, Any] = {}
    model.log_dict = lambda metrics, **_: kept.update(metrics)
    model.validation_step((images, labels), 0)
    assert kept["val/loss"].item() == pytest.approx(plain)
    assert model.double().loss_weights.dtype == torch.float64
    assert "loss_weights" not in model.state_dict()


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_the_schedule_advances_at_its_interval(interval) -> None:
    def halved(optimizer: Any) -> Any:
        return torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)

    made = classifier(scheduler=halved, scheduler_interval=interval).configure_optimizers()
    assert made["lr_scheduler"]["interval"] == interval


def test_compiling_leaves_the_names_of_the_weights_alone() -> None:
    assert list(classifier(compile=True).state_dict()) == list(classifier().state_dict())


def test_channels_last_changes_the_order_in_memory_alone() -> None:
    plain = classifier().eval()
    other = classifier(channels_last=True).eval()
    other.load_state_dict(plain.state_dict())
    images = torch.rand(5, 1, 8, 8)
    weights = next(tensor for tensor in other.network.parameters() if tensor.ndim == 4 and tensor.shape[1] > 1)
    assert weights.is_contiguous(memory_format=torch.channels_last)
    assert (other(images) - plain(images)).abs().max() < 1e-5
