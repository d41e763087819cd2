"""Nothing that a file holds is executed, and a hostile file is refused in a sentence that names it."""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image
from project import SMALL, package_files
from trainings import bake, is_one_sentence, told
from warm import run

# So that what declares gigabytes is stopped by this limit, and not by the machine's end.
LITTLE_MEMORY = "import resource; resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))\n"
EVIL_MODULE = """
open("ran.txt", "w").close()
raise ImportError("stop here")
"""


class Code:
    """What writes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:  # noqa: D105
        return open, ("ran.txt", "w")


def change_checkpoints(project: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what the checkpoints of the run a hold."""
    for file in (project / "runs" / "a" / "checkpoints").glob("*.ckpt"):
        checkpoint = torch.load(file, weights_only=True)
        change(checkpoint)
        torch.save(checkpoint, file)


@pytest.fixture
def with_picture(trained: Path) -> Path:
    """Return the trained project with a picture to label."""
    Image.new("L", (8, 8)).save(trained / "x.png")
    return trained


@pytest.mark.parametrize("command", [["report", "a"], ["predict", "x.png", "--run=a"], ["export", "a"]], ids=" ".join)
def test_a_module_that_a_checkpoint_names_is_not_imported(with_picture, command):
    """``report a``, ``predict x.png --run=a`` and ``export a`` of a checkpoint with ``network: evil.Net``."""
    (with_picture / "evil.py").write_text(EVIL_MODULE)
    network = {"class_path": "evil.Net", "init_args": {}}
    change_checkpoints(with_picture, lambda checkpoint: checkpoint["hyper_parameters"].update(network=network))

    run(with_picture, command)

    assert not (with_picture / "ran.txt").exists()


def test_the_documents_say_that_a_configuration_is_code(tmp_path):
    """``grep -i config README.md AGENTS.md docs/*.md`` in a project: it names classes, and so is code."""
    project = bake(tmp_path)
    texts = [file.read_text(encoding="utf-8") for file in (*project.glob("*.md"), *project.glob("docs/*.md"))]
    sentences = re.split(r"\.\s", re.sub(r"\s+", " ", " ".join(texts)))

    assert [s for s in sentences if re.search(r"config.*class.*\b(is|are|as) (itself )?code\b", s, re.I)]


HOSTILE_CHECKPOINTS = {
    "a pickle": pickle.dumps({"state_dict": Code()}, protocol=2),
    "code in a zip": {"state_dict": Code()},
    "nothing": b"",
    "a list": [1, 2],
    "no weights": {"state_dict": None, "hyper_parameters": {}, "pytorch-lightning_version": "2.6.6"},
}


@pytest.mark.parametrize("content", HOSTILE_CHECKPOINTS.values(), ids=HOSTILE_CHECKPOINTS)
def test_a_hostile_checkpoint_is_refused_in_a_sentence(with_picture, content):
    """``predict x.png --run=a``, ``export a`` and ``test --run=a`` of checkpoints that hold something else."""
    for file in (with_picture / "runs" / "a" / "checkpoints").glob("*.ckpt"):
        file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)

    results = run(with_picture, ["predict", "x.png", "--run=a"], ["export", "a"], ["test", "--run=a"])

    assert not (with_picture / "ran.txt").exists()
    for code, output in results:
        assert code == 1, output
        assert is_one_sentence(output), output
        assert ".ckpt" in told(output)[0]


def test_an_instantiator_that_a_checkpoint_names_is_not_used(with_picture):
    """``predict x.png --run=a`` and ``export a`` of a checkpoint with ``_instantiator: os.system``."""
    change_checkpoints(
        with_picture, lambda checkpoint: checkpoint["hyper_parameters"].update(_instantiator="os.system")
    )

    for code, output in run(with_picture, ["predict", "x.png", "--run=a"], ["export", "a"]):
        assert "Traceback" not in output, output
        assert code == 0 or is_one_sentence(output), output


HOSTILE_CONFIGURATIONS = {
    "a tag": b"!!python/object/apply:os.system ['touch ran.txt']\n",
    "nothing": b"",
    "no text": b"\xff\xfe",
    "a list": b"- 1\n",
}


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="an error of the YAML parser ends in a traceback")
@pytest.mark.parametrize("content", HOSTILE_CONFIGURATIONS.values(), ids=HOSTILE_CONFIGURATIONS)
def test_a_hostile_configuration_is_refused_in_a_sentence(with_picture, content):
    """``predict x.png --run=a`` and ``export a`` of a run with another file in the place of its config.yaml."""
    (with_picture / "runs" / "a" / "config.yaml").write_bytes(content)

    results = run(with_picture, ["predict", "x.png", "--run=a"], ["export", "a"])

    assert not (with_picture / "ran.txt").exists()
    for code, output in results:
        assert code in (1, 2), output
        assert is_one_sentence(output), output
        assert "config.yaml" in told(output)[0]


def hostile_onnx(
    file: Path, shape: str = "[1, 8, 8]", names: str = json.dumps(list("0123456789")), image: str = ""
) -> None:
    """Write an ONNX model of 8x8 images and ten classes, of whose notes one is not what it should be."""
    image = image or "images"
    weights = helper.make_tensor("w", TensorProto.FLOAT, [64, 10], np.zeros(640, np.float32))
    graph = helper.make_graph(
        [
            helper.make_node("Cast", [image], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["f"], ["x"]),
            helper.make_node("MatMul", ["x", "w"], ["y"]),
            helper.make_node("Softmax", ["y"], ["probabilities"]),
        ],
        "hostile",
        [helper.make_tensor_value_info(image, TensorProto.UINT8, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"input_shape": shape, "class_names": names})
    onnx.save(model, file)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project without a run, and with a picture to label."""
    project = bake(tmp_path_factory.mktemp("untrained"))
    Image.new("L", (8, 8)).save(project / "x.png")
    return project


@pytest.mark.parametrize(
    "notes",
    [
        {"names": "5"},
        {"names": json.dumps(list(range(10)))},
        {"names": '["one class"]'},
        {"shape": "[3, 16, 16]"},
        {"shape": "[1, 60000, 60000]"},
        {"image": "pixels"},
    ],
    ids=str,
)
def test_a_hostile_onnx_file_is_refused_in_a_sentence(untrained, notes):
    """``predict x.png --onnx=hostile.onnx`` of a model with other notes than `export` writes."""
    hostile_onnx(untrained / "hostile.onnx", **notes)

    [(code, output)] = run(untrained, ["predict", "x.png", "--onnx=hostile.onnx"], before=LITTLE_MEMORY)

    assert code == 1, output
    assert is_one_sentence(output), output
    assert "hostile.onnx" in told(output)[0]


def larger_than_it_is() -> bytes:
    """Return an array file of 64 bytes that declares 2 GB."""
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (34000000, 8, 8), }".ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(64)


def array_file(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


HOSTILE_IMAGES = {
    "pickled": array_file(np.array([Code()], dtype=object)),
    "declared larger": larger_than_it_is(),
    "missing": None,
}


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="an error of NumPy ends in a traceback")
@pytest.mark.parametrize("content", HOSTILE_IMAGES.values(), ids=HOSTILE_IMAGES)
def test_a_hostile_npz_file_is_refused_in_a_sentence(untrained, tmp_path, content):
    """``fit`` with another file in the place of digits.npz."""
    digits = package_files()["digits.npz"]
    with zipfile.ZipFile(digits) as source, zipfile.ZipFile(untrained / "hostile.npz", "w") as hostile:
        for name in source.namelist():
            if name != "train_images.npy":
                hostile.writestr(name, source.read(name))
            elif content is not None:
                hostile.writestr(name, content)
    before = "import numpy; load = numpy.load; numpy.load = lambda file, *a, **k: load('hostile.npz', *a, **k)\n"

    [(code, output)] = run(
        untrained, ["fit", f"--trainer.default_root_dir={tmp_path}/runs", *SMALL], before=LITTLE_MEMORY + before
    )

    assert not (untrained / "ran.txt").exists()
    assert code == 1, output
    assert is_one_sentence(output), output
    assert ".npz" in told(output)[0]
    assert not list(tmp_path.glob("runs/*"))


HOSTILE_TENSORS = {
    "on no device": torch.zeros(100, 28, 28, device="meta"),
    "declared larger": torch.zeros(1, 1, 1).expand(700_000, 28, 28),
}


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="an error of torch ends in a traceback")
@pytest.mark.parametrize("images", HOSTILE_TENSORS.values(), ids=HOSTILE_TENSORS)
def test_a_hostile_pt_file_is_refused_in_a_sentence(untrained, tmp_path, images):
    """``fit --data.dataset=corrupt_mnist`` with images that are none, or a kilobyte that declares 2 GB."""
    options = datasets.write("corrupt_mnist", tmp_path / "files")
    torch.save(images, tmp_path / "files" / "train_images_0.pt")
    torch.save(torch.zeros(1, dtype=torch.int64).expand(len(images)), tmp_path / "files" / "train_target_0.pt")

    [(code, output)] = run(
        untrained, ["fit", f"--trainer.default_root_dir={tmp_path}/runs", *SMALL, *options], before=LITTLE_MEMORY
    )

    assert code == 1, output
    assert is_one_sentence(output), output
    assert "train_images_0.pt" in told(output)[0]
    assert not list(tmp_path.glob("runs/*"))
