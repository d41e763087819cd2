"""Drift: silent on draws of the same data at the rate that its level promises, and found where something changed."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from combinations import VALUES
from project import PACKAGE, TEMPLATE, clean_environment
from scipy import stats
from test_render import render
from warm import run

TABLE = (
    "CREATE TABLE predictions (id INTEGER PRIMARY KEY, time REAL NOT NULL, model TEXT NOT NULL, label TEXT,"
    " probability REAL, statistics TEXT NOT NULL)"
)
Rows = list[dict[str, Any]]
SMALL = ("--trainer.max_epochs=3", "--trainer.accelerator=cpu")


def module(name: str) -> Any:
    """A file of the wing that imports nothing of it."""
    file = TEMPLATE / "src/{{cookiecutter.__package}}/runtime" / name
    spec = importlib.util.spec_from_file_location(f"wing_{file.stem}", file)
    assert spec
    assert spec.loader
    made = importlib.util.module_from_spec(spec)
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.modules[spec.name] = made  # where dataclasses look
    spec.loader.exec_module(made)
    sys.dont_write_bytecode = written
    return made


@pytest.fixture(scope="module")
def statistics() -> Any:
    return module("commands/statistics.py")


@pytest.fixture(scope="module")
def comparison() -> Any:
    return module("commands/comparison.py")


def exported(dataset: str, folder: Path) -> Path:
    first = {name: values[0] for name, values in VALUES.items()}
    project = render({**first, "dataset": dataset, "logger": "csv", "accelerator": "cpu"}, folder)
    for code, output in run(project, ["fit", "--run=a", *SMALL], ["export"], own=True):
        assert code == 0, output
    return project


@pytest.fixture(scope="module")
def penguins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported("penguins", tmp_path_factory.mktemp("penguins"))


def reference(project: Path) -> dict[str, Any]:
    return json.loads((project / "runs/a/export/reference.json").read_text())


def held_out(project: Path) -> Rows:
    """What the model was tested on, as rows of a store."""
    found = reference(project)
    columns = (
        dict(zip(found["statistics"], row, strict=True)) for row in zip(*found["statistics"].values(), strict=True)
    )
    rows = zip(found["labels"], found["probabilities"], columns, strict=True)
    return [{"label": label, "probability": p, "statistics": of} for label, p, of in rows]


def keep(file: Path, rows: Rows, model: str, first: float = 1.9e9) -> None:
    """Write rows as `serve` does, one each minute."""
    with sqlite3.connect(file) as connection:
        connection.execute(TABLE.replace("TABLE", "TABLE IF NOT EXISTS"))
        query = "INSERT INTO predictions (time, model, label, probability, statistics) VALUES (?, ?, ?, ?, ?)"
        for i, row in enumerate(rows):
            values = (row["label"], row["probability"], json.dumps(row["statistics"]))
            connection.execute(query, (first + 60 * i, model, *values))
    connection.close()


def moved(rows: Rows, column: str, by: float) -> Rows:
    return [
        {**row, "statistics": {k: v + by if k == column and v is not None else v for k, v in row["statistics"].items()}}
        for row in rows
    ]


# ---- What export writes


def test_the_reference_is_of_the_data_that_were_held_out_and_names_the_model(penguins):
    found = reference(penguins)
    model = (penguins / "runs/a/export/model.onnx").read_bytes()
    assert found["model"] == hashlib.sha256(model).hexdigest()[:16]
    [(code, output)] = run(penguins, ["predict", "--run=a"], own=True)
    assert code == 0, output
    with (penguins / "runs/a/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert found["labels"] == [row["label"] for row in rows]
    assert found["probabilities"] == pytest.approx([float(row["probability"]) for row in rows], abs=1e-5)
    with (penguins / f"src/{PACKAGE}/penguins.csv").open() as file:
        lines = list(csv.DictReader(file))
    of = [lines[int(row["file"].split(":")[1]) - 2] for row in rows]
    assert found["statistics"]["island"] == [line["island"] for line in of]
    mass = [float(line["body_mass_g"]) if line["body_mass_g"] not in ("", "NA") else None for line in of]
    assert found["statistics"]["body_mass_g"] == mass
    assert found["statistics"]["sex"] == [line["sex"] if line["sex"] not in ("", "NA") else None for line in of]


# ---- What drift says


def test_what_the_model_was_tested_on_is_no_drift(penguins, tmp_path):
    keep(tmp_path / "kept.sqlite", held_out(penguins), reference(penguins)["model"])
    [(code, output)] = run(penguins, ["drift", f"--store={tmp_path / 'kept.sqlite'}"], own=True)
    assert code == 0, output
    assert "No drift: of 13 statistics, none differs, at the level 0.01" in output
    assert re.search(r"^predicted class +(\w+): (\S+%) +\1: \2 +0.000 +1$", output, re.MULTILINE)
    page = (penguins / "runs/a/drift.html").read_text()
    assert "No drift: of 13 statistics" in page
    assert page.count("<figure>") == 13
    assert "<script" not in page
    assert "http" not in page


def test_a_column_that_was_moved_is_drift_and_the_others_are_not(penguins, tmp_path):
    rows = moved(held_out(penguins), "body_mass_g", 1000)
    keep(tmp_path / "kept.sqlite", rows, reference(penguins)["model"])
    keep(tmp_path / "kept.sqlite", rows[:5], "another model")
    store = f"--store={tmp_path / 'kept.sqlite'}"
    asked = (["drift", "a", store], ["drift", store, "--least_difference=0.9"], ["drift", store, "--level=0"])
    (code, output), *others = run(penguins, *asked, own=True)
    assert code == 3, output
    assert re.findall(r"^(\w+) .* drift$", output, re.MULTILINE) == ["body_mass_g"]
    assert "Drift: of 13 statistics, 1 differs, at the level 0.01" in output
    assert f"{len(rows)} predictions of the model {reference(penguins)['model']} in " in output
    assert "; 5 of other models are left out" in output
    assert [code for code, _ in others] == [0, 0]


def test_drift_needs_no_torch_and_takes_the_folder_of_a_model_alone(penguins, tmp_path):
    folder = shutil.copytree(penguins / "runs/a/export", tmp_path / "served")
    keep(folder / "predictions.sqlite", moved(held_out(penguins), "body_mass_g", 1000), reference(penguins)["model"])
    code = "import sys; sys.modules.update(torch=None, pytorch_lightning=None, yaml=None)"
    code += f"; from {PACKAGE}.__main__ import main"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; sys.argv[1:] = ['drift', {str(folder)!r}]; raise SystemExit(main())"],
        **{"cwd": tmp_path, "env": clean_environment(penguins), "capture_output": True, "text": True},
    )
    assert done.returncode == 3, done.stderr
    assert (folder / "drift.html").is_file()


def test_only_what_was_served_since_a_date_is_compared(penguins, tmp_path):
    rows, model = held_out(penguins), reference(penguins)["model"]
    keep(tmp_path / "kept.sqlite", moved(rows, "body_mass_g", 3000), model, 1.8e9)  # 2027
    keep(tmp_path / "kept.sqlite", rows, model)  # 2030
    store = f"--store={tmp_path / 'kept.sqlite'}"
    asked = (["drift", store], ["drift", store, "--since=2029-01-01"])
    (before, _), (after, output) = run(penguins, *asked, own=True)
    assert (before, after) == (3, 0)
    assert f"{len(rows)} predictions of the model {model} in " in output
    assert "since 2029-01-01" in output


@pytest.mark.parametrize(
    ("change", "options", "expected", "text"),
    [
        ("", ["--store=missing"], 1, r"there are no predictions at missing. `serve` keeps them; .* --store FILE"),
        ("few", [], 1, r"too few to compare: 29 predictions of the model \w+ in \S+. It takes 30. Wait for more."),
        ("others", [], 1, r"0 predictions of .*; 40 of other models are left out. .* exported anew, serve it anew"),
        ("text", [], 1, r"predictions.sqlite can't be read as what serve has kept: file is not a database"),
        ("empty", [], 1, r"can't be read as what serve has kept: no such table: predictions"),
        ("no reference", [], 1, r"reference.json does not exist. Write it with: python -m \S+ export a"),
        ("damaged", [], 1, r"reference.json can't be read: .* Write it with: python -m \S+ export a"),
        ("lacking", [], 1, r"reference.json can't be read: 'statistics'. Write it with"),
        ("", ["--level=2"], 2, "argument --level: 2 does not lie between 0 and 1"),
        ("", ["--level=x"], 2, "argument --level: invalid fraction value: 'x'"),
        ("", ["--since=friday"], 2, "argument --since: friday is no date such as 2030-01-31"),
        ("", ["nothing"], 2, "unrecognized arguments: nothing"),
    ],
)
def test_what_cannot_be_compared_is_said(penguins, tmp_path, change, options, expected, text):
    project = tmp_path / "project"
    shutil.copytree(penguins / "runs/a/export", project / "runs/a/export")
    shutil.copy(penguins / "runs/a/config.yaml", project / "runs/a")
    folder, model = project / "runs/a/export", reference(penguins)["model"]
    store, file = folder / "predictions.sqlite", folder / "reference.json"
    rows = {"few": held_out(penguins)[:29], "others": held_out(penguins)[:40]}.get(change, held_out(penguins))
    if change == "text":
        store.write_text("no database " * 100)
    elif change == "empty":
        sqlite3.connect(store).execute("CREATE TABLE others (id)").connection.close()
    else:
        keep(store, rows, "another" if change == "others" else model)
    if change == "no reference":
        file.unlink()
    elif change in ("damaged", "lacking"):
        file.write_text("{" if change == "damaged" else json.dumps({"model": model, "classes": True}))
    [(code, output)] = run(penguins, ["drift", str(project / "runs/a"), *options], own=True)
    assert code == expected, output
    assert re.search(text.replace("export a", f"export {project / 'runs/a'}"), output), output
    assert "Traceback" not in output


# ---- The tests


def test_probabilities_are_those_of_scipy(comparison):
    random = np.random.default_rng(0)
    for first, second, by in ((300, 200, 0.0), (69, 30, 0.5), (2000, 100, 0.3)):
        before, now = np.sort(random.normal(size=first)), np.sort(random.normal(by, size=second))
        exact, found = stats.ks_2samp(before, now), comparison._numbers("", before, now)
        assert found.difference == pytest.approx(exact.statistic)
        assert found.p == pytest.approx(exact.pvalue, rel=0.25)
    for counts in ([[30, 20], [25, 40]], [[8, 1], [3, 4]]):
        of = [comparison.Counter(dict(zip("ab", row, strict=True))) for row in counts]
        assert comparison._words("", *of).p == pytest.approx(stats.fisher_exact(counts).pvalue, rel=0.15, abs=0.02)
    classes = comparison.Counter({"a": 5})
    assert comparison._words("", classes, classes).p == 1


def draws(random: np.random.Generator, count: int) -> Rows:
    """Inputs of a made-up table, with what a model predicts for them."""
    return [
        {
            "label": str(random.choice(["cat", "dog"])),
            "probability": random.beta(8, 1),
            "statistics": {
                **{f"number {i}": random.normal() if random.random() > 0.1 else None for i in range(4)},
                "word": str(random.choice(["a", "b", "c"], p=[0.6, 0.3, 0.1])),
                "rounded": float(random.integers(5)),
            },
        }
        for _ in range(count)
    ]


def as_reference(rows: Rows) -> dict[str, Any]:
    names = rows[0]["statistics"]
    columns = {name: [row["statistics"][name] for row in rows] for name in names}
    predicted = {"labels": [row["label"] for row in rows], "probabilities": [row["probability"] for row in rows]}
    return {"classes": True, "statistics": columns, **predicted}


def alarms(comparison: Any, draw: Callable[[int], tuple[Rows, Rows]], level: float, times: int = 200) -> int:
    """Count how often one of the statistics is drift."""
    pairs = map(draw, range(times))
    return sum(comparison.compare(as_reference(before), now, level)[0].drifts for before, now in pairs)


def test_fresh_draws_of_the_same_data_alarm_as_often_as_the_level_says(comparison):
    random = np.random.default_rng(0)  # so that it is the same each time
    found = alarms(comparison, lambda _: (draws(random, 150), draws(random, 100)), 0.1)
    assert 8 <= found <= 28  # of 200: 20 are promised at most, and five standard deviations are 21


def test_more_comparisons_do_not_alarm_more_often_and_the_one_that_changed_is_found(comparison):
    random = np.random.default_rng(0)
    names = [f"column {i}" for i in range(500)]
    before, now = random.normal(size=(500, 200)), random.normal(size=(500, 200))
    rows = [{"label": None, "probability": None, "statistics": dict(zip(names, row, strict=True))} for row in now.T]
    made = {"classes": True, "labels": [None] * 200, "probabilities": [None] * 200}
    made["statistics"] = dict(zip(names, before.tolist(), strict=True))
    found = comparison.compare(made, rows, 0.05)
    assert not any(one.drifts for one in found)
    assert sum(one.p < 0.05 for one in found) > 10  # as would be found without the correction
    for row in rows:
        row["statistics"]["column 7"] += 1
    assert [one.name for one in comparison.compare(made, rows, 0.05) if one.drifts] == ["column 7"]


def test_values_that_begin_to_be_missing_or_unknown_are_drift(comparison):
    random = np.random.default_rng(0)
    before, now = draws(random, 200), draws(random, 200)
    for row in now[::3]:
        row["statistics"] |= {"number 0": None, "word": None}
    found = {one.name for one in comparison.compare(as_reference(before), now, 0.01) if one.drifts}
    assert found == {"number 0, missing", "word"}


# ---- Statistics of an input


def test_an_image_that_is_turned_mirrored_or_darker_has_other_statistics(statistics):
    with np.load(next(TEMPLATE.glob(".tasks/own/src/*/digits.npz"))) as arrays:
        image = arrays["test_images"][3][None]
    of = statistics.of_input({"images": image}, {})
    turned = statistics.of_input({"images": np.rot90(image, axes=(1, 2))}, {})
    mirrored = statistics.of_input({"images": image[:, :, ::-1]}, {})
    dark = statistics.of_input({"images": image // 2}, {})
    assert turned["upright edges"] == pytest.approx(1 - of["upright edges"], abs=1e-5)
    assert turned["brightness"] == of["brightness"]
    assert mirrored["slant"] == pytest.approx(-of["slant"])
    assert mirrored["centre across"] == pytest.approx(1 - of["centre across"], abs=1e-5)
    assert dark["brightness"] == pytest.approx(of["brightness"] / 2, rel=0.02)
    assert dark["contrast"] == pytest.approx(of["contrast"] / 2, rel=0.02)
    scaled = statistics.of_input({"images": image.astype(np.float32) / 255}, {})  # as a front of one's own takes it
    assert scaled.keys() == of.keys()
    assert scaled["centre down"] == pytest.approx(of["centre down"], abs=1e-5)


def test_an_input_is_described_by_its_dtype_and_shape(statistics):
    columns = {"mass": {"mean": 1, "std": 1}, "depth": {"mean": 1, "std": 1}, "island": {"words": ["A", "B", ""]}}
    row = np.array([4.5, np.nan, 2], np.float32)
    assert statistics.of_input({"columns": row}, {"columns": columns}) == {"mass": 4.5, "depth": None, "island": "B"}
    for word in (0, 3, 9):  # unknown; empty; not there
        assert statistics.of_input({"c": np.array([1, 1, word])}, {"columns": columns})
        row[2] = word
        assert statistics.of_input({"c": row}, {"columns": columns})["island"] is None
    tokenizer = {"padding": {"pad_id": 9}, "model": {"vocab": {"?": 1}, "unk_token": "?"}}
    found = statistics.of_input({"tokens": np.array([5, 1, 5, 1, 9, 9])}, {"tokenizer": tokenizer})
    assert found == {"tokens": 4, "mean token": 3, "different tokens": 0.5, "unknown tokens": 0.5}
    empty = statistics.of_input({"tokens": np.array([9, 9])}, {"tokenizer": tokenizer})
    assert empty == {"tokens": 0, "mean token": None, "different tokens": None, "unknown tokens": None}
    two = statistics.of_input({"a": np.float32(2), "b": np.ones((2, 3, 4, 5), np.float32)}, {})
    assert two == {"a value": 2, "b mean": 1, "b standard deviation": 0}
    colour = statistics.of_input({"images": np.stack([np.full((8, 8), v, np.uint8) for v in (20, 30, 50)])}, {})
    assert [colour[f"share of {name}"] for name in ("red", "green", "blue")] == [0.2, 0.3, 0.5]
    black = statistics.of_input({"images": np.zeros((3, 8, 8), np.uint8)}, {})
    assert black["share of red"] is None
    assert (black["contrast"], black["slant"]) == (0, 0)
    assert json.dumps(statistics.of_input({"images": np.full((1, 8, 8), np.nan)}, {}), allow_nan=False)


def test_an_output_has_a_label_and_a_probability(statistics):
    shares = np.array([0.1, 0.9], np.float32)
    assert statistics.of_output({"probabilities": shares}, ["cat", "dog"]) == ("dog", 0.9)
    assert statistics.of_output({"prediction": np.float32(12.5)}, None) == ("12.5", None)
    assert statistics.of_output({"mask": np.ones((2, 2)), "confidence": np.float32(0.5)}, ["a"]) == (None, 0.5)
    assert statistics.of_output({"prediction": shares}, None) == (None, None)


# ---- On real data


@pytest.mark.slow
def test_digits_are_told_from_what_they_were_by_their_changes_alone(statistics, comparison, tmp_path):
    project = exported("digits", tmp_path)
    session = onnxruntime.InferenceSession(project / "runs/a/export/model.onnx")
    facts = json.loads(session.get_modelmeta().custom_metadata_map["facts"])
    [name] = [each.name for each in session.get_inputs()]
    with np.load(project / f"src/{PACKAGE}/digits.npz") as arrays:
        images = arrays["test_images"][:, None]

    def served(images: np.ndarray) -> Rows:
        outputs: Any = session.run(["probabilities"], {name: images})[0]
        found = (statistics.of_output({"probabilities": row}, facts["class_names"]) for row in outputs)
        of = (statistics.of_input({name: image}, facts) for image in images)
        return [{"label": a, "probability": b, "statistics": c} for (a, b), c in zip(found, of, strict=True)]

    rows, random = served(images), np.random.default_rng(0)

    def halves(_: int) -> tuple[Rows, Rows]:
        order = random.permutation(len(rows))
        return [rows[i] for i in order[180:]], [rows[i] for i in order[:180]]

    assert alarms(comparison, halves, 0.01) <= 8
    assert 1 <= alarms(comparison, halves, 0.05) <= 20
    grey = images.astype(float)
    for changed in (
        *(np.rot90(images, turns, axes=(2, 3)) for turns in (1, 2, 3)),
        images[:, :, :, ::-1],
        np.roll(images, 1, axis=3),
        (grey.mean() + 0.8 * (grey - grey.mean())).clip(0, 255).astype(np.uint8),
        np.minimum(grey + 10, 255).astype(np.uint8),
    ):
        found = comparison.compare(reference(project), served(np.ascontiguousarray(changed)), 0.01)
        assert found[0].drifts
