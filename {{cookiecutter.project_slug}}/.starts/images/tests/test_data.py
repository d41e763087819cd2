import os
import pickle
import re
import runpy
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_runs.images import reading
from {{ cookiecutter.__package }}.data import DataModule
from {{ cookiecutter.__package }}.datasets import FACTS, ImageFiles
from lightning_runs.errors import UserError

make_corrupt_mnist = runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "make_corrupt_mnist.py"))["main"]


def write_idx(file: Path, array: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    file.write_bytes(header + array.astype(np.uint8).tobytes())


def write_mnist(root: Path, name: str = "MNIST") -> None:
    random = np.random.default_rng(0)
    for part, count in (("train", 40), ("t10k", 20)):
        write_idx(root / name / "raw" / f"{part}-images-idx3-ubyte", random.integers(0, 256, (count, 28, 28)))
        write_idx(root / name / "raw" / f"{part}-labels-idx1-ubyte", np.arange(count) % 10)


def write_cifar10(root: Path) -> None:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        data = random.integers(0, 256, (10, 3 * 32 * 32), dtype=np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": data, "labels": list(range(10))}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(FACTS["cifar10"].class_names)}))


def write_corrupt_mnist(root: Path, *options: str) -> None:
    write_mnist(root.parent)
    assert make_corrupt_mnist(["--source", str(root.parent), "--output", str(root), "--parts", "3", *options]) == 0


def write_image_folder(root: Path, parts: tuple[str, ...] = ("train", "test")) -> None:
    modes = (("L", "png"), ("RGB", "jpg"), ("P", "png"), ("RGBA", "png"), ("1", "png"))
    for part in parts:
        for label, name in enumerate(("cat", "dog")):
            (root / part / name).mkdir(parents=True)
            for i in range(10):
                mode, suffix = modes[i % len(modes)]
                image = Image.new("RGB", (10 + 7 * i, 40 - 3 * i), (255 * label, 0, 0)).convert(mode)
                image.save(root / part / name / f"{i}.{suffix}")


def write_files(dataset: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if dataset == "mnist":
        write_mnist(root)
    elif dataset == "fashion_mnist":
        write_mnist(root, name="FashionMNIST")
    elif dataset == "cifar10":
        write_cifar10(root)
        # torchvision knows the checksums of the real files
        monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *args: True)
    elif dataset == "corrupt_mnist":
        write_corrupt_mnist(root)
    elif dataset == "image_folder":
        write_image_folder(root)


def digits(**options) -> DataModule:
    data = DataModule("digits", **options)
    data.setup("fit")
    return data


@pytest.mark.parametrize("dataset", FACTS)
def test_every_data_set_is_read_into_batches_of_the_promised_shape(dataset, tmp_path, monkeypatch) -> None:
    write_files(dataset, tmp_path / "data", monkeypatch)
    data = DataModule(dataset, root=str(tmp_path / "data"), batch_size=8, num_workers=0, image_size=16)
    data.prepare_data()
    data.setup("fit")
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        raw = next(iter(loader))
        assert raw[0].dtype == torch.uint8
        images, labels = data.on_after_batch_transfer(raw, 0)
        assert images.shape == (len(labels), *data.input_shape)
        assert images.dtype == torch.float32
        assert labels.dtype == torch.int64
        assert set(labels.tolist()) <= set(range(data.num_classes))
    assert len(next(iter(data.train_dataloader()))[0]) == 8
    assert next(iter(data.predict_dataloader()))[1].tolist() == list(range(8))


def test_digits_are_all_there() -> None:
    data = digits()
    assert len(data.splits["train"][1]) + len(data.splits["val"][1]) == 1437
    assert len(data.splits["test"][1]) == 360


def test_training_and_validation_images_share_out_the_training_part() -> None:
    splits = digits(val_fraction=0.2).splits
    train, val = splits["train"][1].tolist(), splits["val"][1].tolist()
    assert sorted(train + val) == list(range(1437))
    assert len(val) == 287
    assert splits["val"][0] is splits["train"][0]
    assert splits["val"][0] is not splits["test"][0]


def test_each_class_has_its_share_of_the_validation_images() -> None:
    images, val = digits(val_fraction=0.2).splits["val"]
    counts, every = (images.labels[of].bincount() for of in (val, torch.arange(1437)))
    assert bool(((counts - 0.2 * every).abs() < 1).all())


def test_every_training_image_is_for_validation_in_one_fold_which_is_predicted() -> None:
    folds = [digits(fold=fold, num_folds=3) for fold in range(3)]
    assert torch.cat([data.splits["val"][1] for data in folds]).sort().values.equal(torch.arange(1437))
    for data in folds:
        index = torch.cat([batch[1] for batch in data.predict_dataloader()])
        assert index.equal(data.splits["val"][1])
        assert not set(index.tolist()) & set(data.splits["train"][1].tolist())
    whole = digits(fold=None, num_folds=3)
    assert [len(whole.splits[part][1]) for part in ("train", "val", "predict")] == [1437, 0, 360]


def test_split_depends_on_its_own_seed_and_not_on_that_of_the_run() -> None:
    val = digits(seed=0).splits["val"][1]
    assert digits(seed=1).splits["val"][1].equal(val)
    assert not digits(split_seed=1).splits["val"][1].equal(val)


def test_normalised_images_have_mean_0_and_standard_deviation_1() -> None:
    data = digits(val_fraction=0.001)
    images = data.normalize(data.splits["train"][0][torch.arange(1437)][0])
    assert images.mean().item() == pytest.approx(0, abs=0.01)
    assert images.std().item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("dataset", ["digits", "cifar10"])
def test_denormalize_undoes_normalize(dataset) -> None:
    data = DataModule(dataset)
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, data.input_shape[0], 16, 16)
    assert data.denormalize(data.normalize(levels)).equal(levels)


def test_images_move_by_exactly_their_offsets(monkeypatch) -> None:
    images = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    images[:, :, 2, 3] = 200
    offsets = torch.tensor([[0, 3], [2, 1]])[..., None]  # with 2 added: up by 2 or down by 1; not, or 1 to the left
    monkeypatch.setattr(torch, "randint", lambda *args, **kwargs: offsets)
    moved, labels = DataModule("digits").augment_batch(images, torch.tensor([5, 6]))
    assert moved.dtype == torch.uint8
    assert labels.tolist() == [5, 6]
    assert moved.nonzero().tolist() == [[0, c, 4, 3] for c in range(3)] + [[1, c, 1, 4] for c in range(3)]


@pytest.mark.parametrize(("dataset", "mirrored"), [("digits", False), ("cifar10", True)])
def test_only_images_that_may_be_mirrored_are(dataset, mirrored) -> None:
    torch.manual_seed(0)
    data = DataModule(dataset)
    images = torch.zeros(64, *data.input_shape, dtype=torch.uint8)
    images[..., 0] = 255  # a line on the left, which a move brings no further than an eighth
    augmented, _ = data.augment_batch(images, torch.zeros(64))
    assert bool(augmented[..., -1].any()) is mirrored


def in_training(**options) -> DataModule:
    data = DataModule("digits", **options)
    precision = SimpleNamespace(convert_input=lambda images: images)
    data.trainer = SimpleNamespace(training=True, precision_plugin=precision)  # pyright: ignore
    return data


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_labels_are_mixed_in_the_parts_of_their_images(mix) -> None:
    data = in_training(augment="none", mix=mix)
    black_and_white = torch.tensor([0, 255] * 4, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8)
    seen = []
    for seed in (0, 1, 1):
        torch.manual_seed(seed)
        images, labels = data.on_after_batch_transfer((black_and_white, torch.tensor([3, 5] * 4)), 0)
        white = data.denormalize(images).float().mean(dim=(1, 2, 3)) / 255
        assert labels.shape == (8, 10)
        assert labels[:, 5].tolist() == pytest.approx(white.tolist(), abs=0.01)
        assert labels[:, 3].tolist() == pytest.approx((1 - white).tolist(), abs=0.01)
        seen.append(images)
    assert not seen[0].equal(seen[1])
    assert seen[1].equal(seen[2])


def test_strong_augmentation_draws_for_each_group_of_a_batch() -> None:
    torch.manual_seed(0)
    data = in_training(augment="strong")
    images = torch.full((64, 1, 8, 8), 100, dtype=torch.uint8)
    changed, labels = data.augment_batch(images, torch.arange(64))
    assert changed.dtype == torch.uint8
    assert changed.shape == images.shape
    assert labels.equal(torch.arange(64))
    assert len(changed[:, 0, 4, 4].unique()) > 1  # which no move brings in from outside
    groups: list[torch.Tensor] = []
    data.transforms["strong"] = lambda group: groups.append(group) or group
    data.augment_batch(images, labels)
    assert [len(group) for group in groups] == [8] * 8


def test_augmentation_may_be_named_as_it_was_before_it_had_three_values() -> None:
    assert [DataModule(augment=augment).augment for augment in (True, False)] == ["light", "none"]


def test_fingerprint_follows_the_images_and_the_labels() -> None:
    data, other = digits(), digits(split_seed=1)
    assert data.fingerprint() == other.fingerprint()
    other.splits["train"][0].images[0, 0, 0, 0] += 1
    assert data.fingerprint() != other.fingerprint()
    other.splits["train"][0].images[0, 0, 0, 0] -= 1
    other.splits["test"][0].labels[0] += 1
    assert data.fingerprint() != other.fingerprint()


def test_fingerprint_of_files_follows_their_names_sizes_and_times(tmp_path) -> None:
    write_image_folder(tmp_path)

    def fingerprint() -> str:
        return DataModule("image_folder", root=str(tmp_path)).fingerprint()

    before = fingerprint()
    assert fingerprint() == before
    file = tmp_path / "test" / "cat" / "0.png"
    os.utime(file, (0, 0))
    touched = fingerprint()
    file.rename(file.with_name("00.png"))
    assert len({before, touched, fingerprint()}) == 3


def test_baseline_is_the_most_frequent_training_class() -> None:
    data = digits()
    train, test = (data.splits[split][0].labels[data.splits[split][1]].tolist() for split in ("train", "test"))
    most = max(range(10), key=train.count)
    share = test.count(most) / 360
    expected = {"test/accuracy": pytest.approx(share), "test/f1": pytest.approx(2 * share / (1 + share) / 10)}
    assert data.baseline() == {"most frequent class": expected}


def refused(text: str):
    return pytest.raises(UserError, match=re.escape(text))


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("batch_size", 0, "data.batch_size is 0; it must be at least 1"),
        ("val_fraction", 1.0, "data.val_fraction is 1.0; it must lie between 0 and 1"),
        ("val_fraction", 0.0, "data.val_fraction is 0.0; it must lie between 0 and 1"),
        ("num_folds", 1, "data.fold is 0 of data.num_folds 1; of at least 2 folds, the first is 0."),
        ("num_workers", -1, "data.num_workers is -1; it must be at least 0"),
        ("image_size", 3, "data.image_size is 3; it must be at least 4"),
    ],
)
def test_values_out_of_bounds_are_refused(option, value, text) -> None:
    with refused(text):
        DataModule(**{option: value})


def test_a_batch_larger_than_the_training_images_is_refused() -> None:
    data = digits(batch_size=2000)
    with refused("data.batch_size is 2000, but there are only 1293 items for training"):
        data.train_dataloader()


def test_missing_torchvision_files_are_named(tmp_path) -> None:
    with refused(f"mnist could not be read from {tmp_path} or downloaded"):
        DataModule("mnist", root=str(tmp_path)).setup("fit")


def test_labels_beyond_the_classes_are_refused(tmp_path) -> None:
    write_mnist(tmp_path)
    write_idx(tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte", np.full(20, 11))
    with refused(
        f"the test part of mnist in {tmp_path} has labels of type torch.int64 from 11 to 11; they must be whole"
    ):
        DataModule("mnist", root=str(tmp_path)).setup("fit")


def test_corrupt_mnist_is_mnist_rotated(tmp_path) -> None:
    write_corrupt_mnist(tmp_path / "straight", "--max_degrees", "0")
    write_corrupt_mnist(tmp_path / "rotated")
    train = {}
    for name in ("mnist", "straight", "rotated"):
        data = DataModule("corrupt_mnist", root=str(tmp_path / name))
        if name == "mnist":
            data = DataModule("mnist", root=str(tmp_path))
        data.setup("fit")
        train[name] = data.splits["train"][0][torch.arange(40)]
    assert train["straight"][0].equal(train["mnist"][0])
    assert not train["rotated"][0].equal(train["mnist"][0])
    assert train["rotated"][1].equal(train["mnist"][1])


def test_corrupt_mnist_parts_are_bounded(capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        make_corrupt_mnist(["--parts", "0"])
    assert "--parts is 0; it must be between 1 and 60000" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (None, "test_images.pt is missing: data.root must be the folder with the corrupt MNIST files"),
        (b"no tensor", "test_images.pt can't be read as a tensor"),
        (torch.zeros(3, 28, 28), "test_target.pt has labels of shape (20,) for 3 images; each needs one label"),
        (
            torch.full((20, 28, 28), 7.5),
            "has pixels of type torch.float32 from 7.5 to 7.5; they must be uint8, or floats from 0 to 1",
        ),
    ],
)
def test_broken_corrupt_mnist_files_are_named(images, text, tmp_path) -> None:
    root = tmp_path / "corrupt"
    write_corrupt_mnist(root)
    file = root / "test_images.pt"
    file.unlink()
    if isinstance(images, bytes):
        file.write_bytes(images)
    elif images is not None:
        torch.save(images, file)
    with pytest.raises(UserError, match=re.escape(text)) as error:
        DataModule("corrupt_mnist", root=str(root)).setup("fit")
    assert str(root) in str(error.value)


def test_image_folder_with_a_val_folder_trains_on_all_of_train(tmp_path) -> None:
    write_image_folder(tmp_path, parts=("train", "val", "test"))
    data = DataModule("image_folder", root=str(tmp_path))
    data.setup("fit")
    assert data.class_names == ["cat", "dog"]
    assert [len(data.splits[split][1]) for split in ("train", "val", "test")] == [20, 20, 20]
    assert data.predicted_files[0] == str(tmp_path / "test" / "cat" / "0.png")
    with refused(f"{tmp_path / 'val'} has the images for validation; for folds, move them to train."):
        DataModule("image_folder", root=str(tmp_path), num_folds=2).setup("fit")


def test_grey_levels_are_the_published_ones() -> None:
    assert (FACTS["mnist"].mean, FACTS["mnist"].std) == ((0.1307,), (0.3081,))
    assert FACTS["cifar10"].mean == (0.4914, 0.4822, 0.4465)  # red, green, blue


def test_an_image_is_turned_as_its_camera_says(tmp_path) -> None:
    image, exif = Image.new("L", (20, 20)), Image.Exif()
    image.paste(255, (0, 0, 20, 10))  # white above
    exif[0x0112] = 3  # taken upside down
    image.save(tmp_path / "turned.png", exif=exif)
    found = inputs.read_image(tmp_path / "turned.png", (1, 20, 20))[0]
    assert (found[:10].max(), found[10:].min()) == (0, 255)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK", "I;16"])
def test_images_of_every_mode_keep_their_brightness(mode, tmp_path) -> None:
    file = tmp_path / "grey.tiff"
    grey = Image.new("I;16", (30, 20), 100 * 256) if mode == "I;16" else Image.new("RGB", (30, 20), (100,) * 3)
    (grey if mode == "I;16" else grey.convert(mode)).save(file)
    images, _ = ImageFiles([file], torch.tensor([0]), (3, 16, 16))[torch.tensor([0])]
    assert images.shape == (1, 3, 16, 16)
    assert images.float().mean().item() == pytest.approx(100, abs=3)


def test_images_that_were_decoded_are_kept_for_the_next_epoch(tmp_path):
    file = tmp_path / "a.png"
    Image.new("RGB", (16, 16), (10, 20, 30)).save(file)
    kept = ImageFiles([file], torch.tensor([0]), (3, 16, 16), cache=True)
    read_anew = ImageFiles([file], torch.tensor([0]), (3, 16, 16))
    first, _ = kept[torch.tensor([0])]
    assert torch.equal(first, read_anew[torch.tensor([0])][0])

    file.unlink()

    assert torch.equal(kept[torch.tensor([0])][0], first)
    with pytest.raises(UserError, match="can't be read as an image"):
        read_anew[torch.tensor([0])]


def test_images_to_predict_that_can_not_be_read_are_left_out_even_where_they_fill_a_batch(tmp_path) -> None:
    for name in ("a.png", "c.png"):
        Image.new("L", (8, 8)).save(tmp_path / name)
    (tmp_path / "b.png").write_text("no image")
    data = DataModule(batch_size=1, predict_paths=[str(tmp_path)], num_workers=0)
    with pytest.warns(UserWarning, match=r"b\.png can't be read as an image"):
        data.setup("predict")
    assert [index.tolist() for _, index in data.predict_dataloader()] == [[0], [2]]
    (tmp_path / "a.png").unlink()
    (tmp_path / "c.png").unlink()
    unreadable = pytest.warns(UserWarning, match="can't be read")
    with unreadable, refused(f"none of 1 images can be read; one is {tmp_path / 'b.png'}."):
        DataModule(predict_paths=[str(tmp_path)]).setup("predict")


def test_an_image_that_cannot_be_read_is_an_error_or_left_out(tmp_path) -> None:
    write_image_folder(tmp_path)
    broken = tmp_path / "train" / "cat" / "3.png"
    broken.write_bytes(b"no image")
    files = sorted((tmp_path / "train" / "cat").iterdir())
    labels = torch.zeros(len(files), dtype=torch.int64)
    with refused(f"{broken} can't be read as an image"):
        ImageFiles(files, labels, (3, 16, 16))[torch.arange(len(files))]
    dataset = ImageFiles(files, labels, (3, 16, 16), skip_corrupt=True)
    with pytest.warns(UserWarning, match=re.escape(f"{broken} can't be read as an image: cannot identify image file")):
        images, labels = dataset[torch.arange(len(files))]
    assert len(images) == len(labels) == len(files) - 1
    # it is named once: a second warning would be an error
    with refused(f"none of the 1 images of a batch can be read; the first is {broken}"):
        dataset[torch.tensor([files.index(broken)])]


def test_files_to_predict_take_the_place_of_the_test_set_where_the_data_are_not_there(tmp_path) -> None:
    write_image_folder(tmp_path / "new", parts=("here",))
    found = str(tmp_path / "new" / "here" / "dog" / "3.png")
    data = DataModule("image_folder", root="nowhere", image_size=16, predict_paths=[found, str(tmp_path / "new")])
    data.class_names = ["cat", "dog"]  # as a run has recorded them
    data.prepare_data()
    data.setup("predict")
    (images, index), *_ = data.predict_dataloader()
    assert (data.num_classes, images.shape) == (2, (21, 3, 16, 16))
    assert index.tolist() == list(range(21))
    assert data.predict_paths == data.predicted_files
    assert data.predicted_files[:2] == [found, str(tmp_path / "new" / "here" / "cat" / "0.png")]


def test_grey_digits_are_predicted_from_files_of_any_size_and_colour(tmp_path) -> None:
    Image.new("RGB", (40, 60), (200, 200, 200)).save(tmp_path / "a.png")
    data = DataModule("digits", predict_paths=[str(tmp_path)])
    data.setup("predict")
    (images, _), *_ = data.predict_dataloader()
    assert images.equal(torch.full((1, 1, 8, 8), 200, dtype=torch.uint8))
    with refused(f"{tmp_path / 'none'} has no file that ends in one of .jpg"):
        (tmp_path / "none").mkdir()
        DataModule("digits", predict_paths=[str(tmp_path / "none")]).setup("predict")


def test_new_inputs_are_read_as_an_exported_model_takes_them(tmp_path) -> None:
    Image.new("RGB", (40, 60), (200, 200, 200)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    facts = {"inputs": [{"name": "images", "dtype": "uint8", "shape": ["batch", 1, 8, 8]}]}
    (name, arrays), (other, told) = inputs.read([tmp_path], facts)
    assert (name, other) == (str(tmp_path / "a.png"), str(tmp_path / "b.png"))
    assert isinstance(arrays, dict)
    assert np.array_equal(arrays["images"], np.full((1, 8, 8), 200, dtype=np.uint8))
    assert isinstance(told, str)
    assert told.startswith("it can't be read as an image: cannot identify image file")
