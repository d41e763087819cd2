"""Projects that a CPU can train, trained: every data set, every logger, and every pair of what is about hardware."""

from __future__ import annotations

import csv
import json
from itertools import cycle, islice

import datasets
import pytest
from combinations import VALUES, Answers, covering
from project import FIRST, ROOT, task_of
from warm import shared

HARDWARE = {
    "precision": ("32-true", "bf16-mixed", "bf16-true", "64-true"),
    "accelerator": ("auto", "cpu"),
    "devices": ("auto", "1", "2"),
    "strategy": ("auto", "ddp"),
}
DATASETS, LOGGERS = VALUES["dataset"], VALUES["logger"]
WITH_FILES = ("tabular", "text_classification")  # tasks whose predictions name a file and a line
# a few batches; the answers decide over the rest
SHORT = (
    *("--trainer.max_epochs=2", "--trainer.limit_train_batches=3", "--trainer.limit_val_batches=2"),
    *("--trainer.log_every_n_steps=1", "--trainer.limit_test_batches=2", "--data.batch_size=8"),
)
ROWS = covering(HARDWARE, 2)
# data set and logger have nothing to do with each other, nor with the hardware
COMBINATIONS = [
    {"dataset": dataset, "logger": logger, "commands": commands, **answers}
    for dataset, logger, commands, answers in islice(
        zip(cycle(DATASETS), cycle(LOGGERS), cycle(VALUES["commands"]), cycle(ROWS), strict=False),
        max(len(ROWS), len(DATASETS)),
    )
]


def test_the_page_on_prompts_says_how_many_are_trained():
    page = (ROOT / "docs" / "prompts.md").read_text(encoding="utf-8")
    assert f"and train {len(COMBINATIONS)}, with every data set, every logger" in page


def test_every_value_is_trained():
    for field, values in {"dataset": DATASETS, "logger": LOGGERS, "commands": VALUES["commands"], **HARDWARE}.items():
        assert {answers[field] for answers in COMBINATIONS} == set(values)


@pytest.mark.parametrize("answers", COMBINATIONS, ids=lambda answers: "-".join(answers.values()))
def test_a_project_trains_tests_resumes_and_trains_again(bake_project, tmp_path, answers: Answers, record_property):
    project = bake_project(answers)
    options = [*SHORT]
    if answers["dataset"] not in (*FIRST.values(), "penguin_mass"):  # which are part of the project
        options += datasets.write(answers["dataset"], tmp_path / "files")
    commands = [
        ["fit", "--trainer.fast_dev_run=true", *options],
        ["fit", "--run=first", *options],
        ["test", "--run=first"],
        ["predict", "--run=first"],
        ["fit", "--resume=first", "--trainer.max_epochs=3"],
        ["fit", "--run=second", *options],
    ]
    processes = 2 if answers["devices"] == "2" else 1
    for arguments in commands:
        warm = shared(own=task_of(answers) != "image_classification")
        command = warm.start(project, [arguments], before=datasets.WITHOUT_CIFAR_SUMS, processes=processes)
        code, output = command.wait(), command.output()
        assert code == 0, f"{arguments}: exit {code}\n{output}"
        assert "Traceback" not in output
        if arguments[0] == "fit":
            assert f"precision {answers['precision']}" in output
            assert ("2 processes" if processes == 2 else "1 process") in output

    runs = project / "runs"
    assert {file.parent.name for file in runs.glob("*/run.json")} == {"first", "second"}
    for name in ("first", "second"):
        assert json.loads((runs / name / "run.json").read_text())["status"] == "finished"
        assert {"epoch", "last.ckpt"} <= {f.name.split("=")[0] for f in (runs / name / "checkpoints").iterdir()}
        tested = json.loads((runs / name / "test.json").read_text())
        metric, most = ("rmse", 5000) if answers["dataset"] == "penguin_mass" else ("accuracy", 1)
        assert 0 <= tested[f"test/{metric}"] <= most
        assert (runs / name / "metrics.csv").exists() == (answers["logger"] != "none")
    assert not (runs / "checkpoints").exists()  # nor did the dry run leave anything
    with (runs / "first" / "predictions.csv").open(newline="") as file:
        predictions = list(csv.DictReader(file))
    in_files = answers["dataset"] in ("image_folder", "mask_folder") or task_of(answers) in WITH_FILES
    label = "file" if in_files else "index"
    assert len({row[label] for row in predictions}) == len(predictions)
    if answers["dataset"] == "penguin_mass":
        assert list(predictions[0]) == [label, "prediction"]
    elif task_of(answers) == "image_segmentation":
        assert list(predictions[0])[:3] == [label, "mask", "confidence"]
        assert all((runs / "first" / row["mask"]).is_file() for row in predictions)
    else:
        assert list(predictions[0])[:3] == [label, "label", "probability"]
        assert all(0 < float(row["probability"]) <= 1 for row in predictions)
    record_property("trained", 1)
