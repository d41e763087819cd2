import re
import runpy
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning_runs.images.datasets import DATASETS, download_dataset, read_dataset
from starts import DIGITS, STARTS, data_class
from toy import refused


def small_images(size: tuple[int, ...], root: str, train: bool, download: bool) -> SimpleNamespace:
    count = 40 if train else 20
    images = torch.randint(0, 256, (count, *size), generator=torch.Generator().manual_seed(0)).byte()
    return SimpleNamespace(data=images, targets=torch.arange(count) % 10)


@pytest.fixture
def downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torchvision have some images of each data set, without files."""
    for name, size in {"MNIST": (28, 28), "FashionMNIST": (28, 28), "CIFAR10": (32, 32, 3)}.items():
        monkeypatch.setattr(f"torchvision.datasets.{name}", partial(small_images, size))


def make_corrupt_mnist(root: Path) -> Path:
    script = runpy.run_path(str(STARTS / "images" / "scripts" / "make_corrupt_mnist.py"))
    assert script["main"](["--output", str(root), "--parts", "3"]) == 0
    return root


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "image_folder"])
def test_every_data_set_has_its_known_shape_and_classes(name, tmp_path, downloaded) -> None:
    root = DIGITS if name == "digits" else make_corrupt_mnist(tmp_path)
    download_dataset(name, root)
    parts = read_dataset(name, root)
    assert list(parts) == ["train", "test"]
    for part in parts.values():
        images, labels = part[torch.arange(len(part))]
        assert images.shape == (len(part), *DATASETS[name].shape)
        assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)
        assert labels.unique().tolist() == list(range(10))
    facts = data_class("images")(name).facts
    assert (facts["input_shape"], facts["mean"]) == (DATASETS[name].shape, DATASETS[name].mean)


def test_levels_are_the_published_ones() -> None:
    assert (DATASETS["mnist"].mean, DATASETS["mnist"].std) == ((0.1307,), (0.3081,))
    assert DATASETS["cifar10"].mean == (0.4914, 0.4822, 0.4465)  # red, green, blue
    levels = read_dataset("digits", DIGITS)["train"].tensors[0] / 255
    known = DATASETS["digits"]
    assert [levels.mean().item(), levels.std().item()] == pytest.approx([known.mean[0], known.std[0]], abs=0.001)


def test_missing_files_are_named(tmp_path) -> None:
    with refused(f"mnist could not be read from {tmp_path} or downloaded"):
        read_dataset("mnist", tmp_path)
    with refused(f"{tmp_path / 'digits.npz'} can't be read: No such file"):
        read_dataset("digits", tmp_path / "digits.npz")


@pytest.mark.parametrize(
    ("name", "tensor", "text"),
    [
        ("images", None, "test_images.pt is missing: data.root must be the folder with the corrupt MNIST files"),
        ("images", [1, 2], "test_images.pt must hold a plain tensor; it holds a value of type list."),
        ("images", torch.zeros(20, 14, 14), "has images of shape (20, 14, 14); they must be (N, 1, 28, 28)"),
        ("images", torch.zeros(3, 28, 28), "test_target.pt has labels of shape (20,) for 3 images; each needs one"),
        ("images", torch.full((20, 28, 28), 7.5), "has pixels of type torch.float32 from 7.5 to 7.5; they must be"),
        ("target", torch.full((20,), 11), "has labels of type torch.int64 from 11 to 11; they must be whole numbers"),
    ],
)
def test_broken_files_of_corrupt_mnist_are_named(name, tensor, text, tmp_path, downloaded) -> None:
    file = make_corrupt_mnist(tmp_path) / f"test_{name}.pt"
    file.unlink()
    if tensor is not None:
        torch.save(tensor, file)
    with refused(text):
        read_dataset("corrupt_mnist", tmp_path)


def test_images_in_other_files_need_an_entry_and_some_lines(own_folder) -> None:
    page = (STARTS / "images" / "docs" / "data.md").read_text(encoding="utf-8")
    section = page.split("\n## Images in other files\n")[1].split("\n## ")[0]
    writer, entry, reader = re.findall(r"^```python\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
    exec(writer, {})
    text = (STARTS / "images" / "src" / "{{cookiecutter.__package}}" / "data.py").read_text(encoding="utf-8")
    imports = re.findall(r"`((?:import|from) [^`]*)`", section)
    text = text.replace("import torch\n", "\n".join([*imports, "import torch\n"]), 1)
    text = text.replace('"image_folder"] =', '"image_folder", "stripes"] =')
    text = re.sub(r"(^SOURCES = .*\n)", rf"\1{entry}", text, flags=re.MULTILINE)
    text = text.replace(
        '        if self.dataset != "image_folder":\n', f'{reader}        if self.dataset != "image_folder":\n'
    )
    names: dict[str, Any] = {"__name__": "striped", "__file__": str(own_folder / "striped.py")}
    exec(text, names)
    data = names["DataModule"]("stripes")
    data.prepare_data()
    data.setup("fit")
    assert (data.input_shape, data.class_names) == ((1, 16, 16), ["rows", "columns"])
    assert [len(data.splits[part][1]) for part in ("train", "val", "test")] == [720, 80, 200]
    images, _ = data.on_after_batch_transfer(data.splits["train"][0][torch.arange(800)], 0)
    assert abs(images.mean()) < 0.05
    assert abs(images.std() - 1) < 0.05
