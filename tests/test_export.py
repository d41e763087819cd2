"""An exported model predicts what its checkpoint does, and files are labelled alike by both."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from project import PACKAGE, SMALL, clean_environment, package_files
from warm import run


def trained(bake_project, *options: str) -> Path:
    project = bake_project({"logger": "csv"})
    [(code, output)] = run(project, ["fit", "--run=a", *SMALL, "--trainer.max_epochs=4", *options])
    assert code == 0, output
    return project


def probabilities_of_checkpoint(project: Path, images: torch.Tensor, mean: float, std: float) -> torch.Tensor:
    """Of images ``(N, C, H, W)`` uint8, by the network and the weights alone."""
    record = json.loads((project / "runs" / "a" / "run.json").read_text())
    code = f"""
import sys, torch
from {PACKAGE}.module import ImageClassifier
model = ImageClassifier.load_from_checkpoint("runs/a/checkpoints/{record["best_checkpoint"]}").eval()
images = torch.load("images.pt").float()
with torch.inference_mode():
    torch.save(model((images - 255 * {mean}) / (255 * {std})).softmax(dim=1), "expected.pt")
"""
    torch.save(images, project / "images.pt")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project, env=clean_environment(project), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return torch.load(project / "expected.pt")


def test_exported_models_predict_what_the_checkpoint_does_on_all_test_digits(bake_project):
    project = trained(bake_project, "--trainer.limit_train_batches=1.0")
    # the second one is refused: a tolerance that nothing can meet
    (code, output), (refused, reason) = run(project, ["export"], ["export", "runs/a", "--tolerance=0"])
    assert code == 0, output
    assert refused == 1
    assert re.search(r"error: nothing was written, .*: largest difference of probabilities \S+ \(tolerance 0", reason)
    # by the Trainer, by ONNX and by torch.export
    differences = [float(text) for text in re.findall(r"largest difference of probabilities (\S+) ", output)]
    assert len(differences) == 3
    assert max(differences) < 1e-5
    assert output.count("(tolerance 1.0e-04)") == 3
    assert output.count("0 of 360 labels differ") == 3

    folder = project / "runs" / "a" / "export"
    assert {file.name for file in folder.iterdir()} == {"model.onnx", "model.pt2", "README.md", "reference.json"}
    assert not list(folder.parent.glob(".export*"))
    with np.load(package_files()["digits.npz"]) as digits:
        images = digits["test_images"][:, None]
    expected = probabilities_of_checkpoint(project, torch.from_numpy(images), 0.3055, 0.3765).numpy()
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    (by_onnx,) = session.run(None, {"images": images})
    assert np.abs(by_onnx - expected).max() < 1e-5
    (single,) = session.run(None, {"images": images[:1]})
    assert np.abs(single - expected[:1]).max() < 1e-5
    files = {"facts.json": ""}
    module = torch.export.load(folder / "model.pt2", extra_files=files).module()
    assert (module(images=torch.from_numpy(images)) - torch.from_numpy(expected)).abs().max() < 1e-5
    assert facts_of(folder) == json.loads(files["facts.json"])
    facts = facts_of(folder)
    assert facts["class_names"] == list("0123456789")
    assert facts["run"] == "a"
    assert facts["inputs"] == [{"name": "images", "dtype": "uint8", "shape": ["batch", 1, 8, 8]}]
    assert facts["outputs"] == [{"name": "probabilities", "dtype": "float32", "shape": ["batch", 10]}]
    card = (folder / "README.md").read_text()
    tested = json.loads((folder.parent / "test.json").read_text())
    assert f"| test/accuracy | {tested['test/accuracy']:.6g} |" in card
    assert "CC BY 4.0" in card
    assert "Code and weights: MIT" in card
    assert 'session.run(None, {"images": images})' in card


def facts_of(folder: Path) -> dict[str, Any]:
    """What the ONNX file says of itself."""
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    return json.loads(session.get_modelmeta().custom_metadata_map["facts"])


def rows(file: Path) -> list[list[str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))


def test_own_images_are_labelled_alike_by_the_run_by_onnx_and_by_the_test(bake_project, tmp_path):
    options = datasets.write("image_folder", tmp_path / "own")
    (tmp_path / "own" / "train" / "circle" / "broken.jpg").unlink()
    project = trained(bake_project, *options, "--data.image_size=24", "--data.batch_size=8")
    test = str(tmp_path / "own" / "test")
    results = run(
        project,
        ["export", "a"],
        ["predict", test, "--csv", "run.csv"],
        ["predict", "--onnx", "runs/a/export/model.onnx", "--csv=onnx.csv", test],
        ["predict", "--run=a"],
        ["predict", f"{test}/circle/000.jpg", "--run=a"],
    )
    assert [code for code, _ in results] == [0] * 5, results

    by_run, by_onnx, by_test = (
        rows(file) for file in (project / "run.csv", project / "onnx.csv", project / "runs" / "a" / "predictions.csv")
    )
    assert by_run[0] == ["file", "label", "probability", "p(circle)", "p(square)"]
    assert len(by_run) == len(by_onnx) == len(by_test) == 25
    for one, other, tested in zip(by_run[1:], by_onnx[1:], by_test[1:], strict=True):
        assert one[:2] == other[:2] == tested[:2]
        assert [float(p) for p in one[2:]] == pytest.approx([float(p) for p in other[2:]], abs=1e-5)
        assert float(one[2]) == pytest.approx(float(tested[2]), abs=1e-5)
    table = results[4][1].strip().splitlines()
    assert table[-2].split() == ["file", "label", "probability"]
    assert table[-1].split()[:2] == by_run[1][:2]


def test_a_file_that_is_no_image_is_named_and_the_others_are_labelled_without_torch(bake_project):
    project = trained(bake_project)
    [(code, output)] = run(project, ["export"])
    assert code == 0, output
    pictures = project / "pictures"
    (pictures / "deeper").mkdir(parents=True)
    for i, mode in enumerate(("L", "RGB", "RGBA", "P", "I;16")):  # digits are grey: each is brought to that
        Image.new(mode, (20 + i, 30)).save(pictures / "deeper" / f"{i}.png")
    (pictures / "bad.png").write_bytes(b"no image")
    (pictures / "text.txt").write_text("passed over")
    upright, turned = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)), Image.Exif()
    turned[0x0112] = 6  # the camera was held upright: to be turned to the right
    upright.save(pictures / "upright.png")
    upright.transpose(Image.Transpose.ROTATE_90).save(pictures / "turned.png", exif=turned)
    command = [sys.executable, "-X", "importtime", "-m", PACKAGE, "predict", "pictures", "nowhere.png"]
    done = subprocess.run(
        [*command, "--onnx", "runs/a/export/model.onnx"],
        cwd=project,
        env=clean_environment(project),
        capture_output=True,
        text=True,
    )

    assert done.returncode == 1, done.stderr
    assert "\nerror: nowhere.png: it can't be read as an image: No such file" in done.stderr
    assert "\nerror: pictures/bad.png: it can't be read as an image: " in done.stderr
    by_onnx = [line.split() for line in done.stdout.splitlines()]
    assert len(by_onnx) == 8
    assert [line[0] for line in by_onnx[-2:]] == ["pictures/turned.png", "pictures/upright.png"]
    assert by_onnx[-2][1:] == by_onnx[-1][1:]
    assert not re.search(r"\| +(torch|pytorch_lightning|yaml|scipy)$", done.stderr, re.MULTILINE)

    # by the run
    [(code, output)] = run(project, ["predict", "pictures", "nowhere.png"])
    assert code == 1
    assert "\nerror: pictures/bad.png has no prediction\n" in output
    assert "\nerror: nowhere.png has no prediction\n" in output
    by_run = [line.split() for line in output.splitlines()[-len(by_onnx) :]]
    assert [line[:2] for line in by_run] == [line[:2] for line in by_onnx]
    assert [float(line[2]) for line in by_run[1:]] == pytest.approx([float(line[2]) for line in by_onnx[1:]], abs=1e-5)


def test_what_cannot_be_exported_or_predicted_is_told_in_one_line(bake_project):
    project = trained(bake_project)
    (project / "runs" / "empty").mkdir()
    (project / "runs" / "empty" / "config.yaml").write_text((project / "runs" / "a" / "config.yaml").read_text())
    (project / "picture.png").write_bytes(b"no image")
    (project / "folder").mkdir()
    cases = {
        "there is no run nowhere in ": ["export", "nowhere"],
        "there is no run elsewhere in ": ["predict", "picture.png", "--run=elsewhere"],
        "the run empty has no checkpoint in ": ["export", "empty"],
        "--tolerance is 2.0; it must lie between 0 and 1": ["export", "--tolerance=2"],
        "missing.onnx does not exist. Write it with: ": ["predict", "picture.png", "--onnx=missing.onnx"],
        "picture.png": ["predict", "picture.png", "--run=a"],
        ".jpg": ["predict", "folder", "--run=a"],
    }
    for (text, command), (code, output) in zip(cases.items(), run(project, *cases.values()), strict=True):
        lines = [line for line in output.splitlines() if line.startswith("error: ")]
        assert code == 1, (command, output)
        assert text in lines[-1], (command, output)
        assert "Traceback" not in output
    # an extra that is not installed
    before = f"from {PACKAGE}.runtime import errors; errors.find_spec = lambda name: None"
    [(code, output)] = run(project, ["export"], before=before)
    assert code == 1
    assert (
        "error: onnx and onnxscript and onnxruntime are not installed. Install with: pip install -e '.[export]'"
        in output
    )


def test_an_onnx_file_that_no_export_wrote_is_refused_in_one_line(bake_project):
    project = trained(bake_project)
    Image.new("L", (8, 8)).save(project / "picture.png")
    [(code, output)] = run(project, ["export"])
    assert code == 0, output
    good = (project / "runs" / "a" / "export" / "model.onnx").read_bytes()
    files = {
        "no_model": b"no model",
        "empty": b"",
        "cut": good[: len(good) // 2],
        "without_facts": with_facts(good, None),
        "no_json": with_facts(good, "{"),
        "a_list": with_facts(good, "[]"),
        "nine_classes": with_facts(good, json.dumps({"class_names": list("012345678")})),
        "no_classes": with_facts(good, json.dumps({"class_names": None})),
    }
    for name, content in files.items():
        (project / f"{name}.onnx").write_bytes(content)
    commands = [["predict", "picture.png", f"--onnx={name}.onnx"] for name in files]
    for name, (code, output) in zip(files, run(project, *commands), strict=True):
        assert code == 1, output
        [line] = [line for line in output.splitlines() if line.strip() and not line.startswith(" predict")]
        assert line.startswith(f"error: {name}.onnx "), output


def with_facts(model: bytes, facts: str | None) -> bytes:
    """An ONNX file that says something else of itself."""
    proto = onnx.load_from_string(model)
    del proto.metadata_props[:]
    if facts is not None:
        onnx.helper.set_model_props(proto, {"facts": facts})
    return proto.SerializeToString()
