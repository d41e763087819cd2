"""Bad input at training time: what is said, the exit code, and that nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest
from mistakes import MISTAKES, Mistake, table
from project import ROOT, SMALL
from stress import differences
from warm import run


def wrong(mistake: Mistake, code: int, output: str) -> str:
    """Say in which way a command did not fail as it should; empty if it did."""
    told = output[output.rfind("error:") :].splitlines()
    whole = code == mistake.code and mistake.says in output and "error:" in output
    brief = len(told) <= 5 and all(line.strip() for line in told)
    if whole and brief and "Traceback" not in output and "\nexecuted" not in output:
        return ""
    return f"{mistake.what}: exit {code}, not {mistake.code} with: {mistake.says}\n{output[-3000:]}\n"


def failures(project: Path, mistakes: list[Mistake]) -> str:
    """Make each mistake and say in which ways they did not fail as they should."""
    for mistake in mistakes:
        mistake.prepare(project)
    together = [mistake for mistake in mistakes if not mistake.before]
    results = list(zip(together, run(project, *([*mistake.arguments] for mistake in together)), strict=True))
    for mistake in mistakes:
        if mistake.before:
            results += [(mistake, *run(project, [*mistake.arguments], before=mistake.before))]
    return "\n".join(filter(None, (wrong(mistake, *result) for mistake, result in results)))


@pytest.mark.parametrize("group", [group for group in MISTAKES if group not in ("In mid-run", "Checkpoints and runs")])
def test_each_mistake_is_told_in_a_line_and_leaves_no_run_behind(bake_project, group):
    project = bake_project({"logger": "csv"})
    assert not failures(project, MISTAKES[group])
    for folder in (project / "runs").glob("*"):
        assert list((folder / "checkpoints").glob("*.ckpt")), folder  # else it has never trained


def test_each_checkpoint_that_does_not_fit_is_told_in_a_line_and_the_runs_stay_as_they_were(bake_project):
    project = bake_project({"logger": "csv"})
    datasets.image_folder(project / "images")
    images = ["--data.dataset=image_folder", "--data.root=images", "--data.num_workers=0", "--data.image_size=16"]
    trained = run(
        project,
        ["fit", *SMALL, "--run=trained"],
        ["fit", *SMALL, "--run=narrow", "--model.network.init_args.width=8"],
        ["fit", *SMALL, "--run=folder", *images, "--data.skip_corrupt=true"],
    )
    assert [code for code, _ in trained] == [0, 0, 0], trained
    files = {file: file.read_bytes() for file in (project / "runs").rglob("*") if file.is_file()}

    assert not failures(project, MISTAKES["Checkpoints and runs"])
    assert {file: file.read_bytes() for file in (project / "runs").rglob("*") if file.is_file()} == files


@pytest.mark.parametrize("mistake", MISTAKES["In mid-run"], ids=lambda mistake: mistake.what)
def test_what_fails_in_mid_run_loses_nothing_and_goes_on_when_it_is_mended(bake_project, mistake):
    project = bake_project({"logger": "csv"})
    mistake.prepare(project)
    [(code, output)] = run(project, [*mistake.arguments, "--run=whole", "--save_every_n_steps=2"])
    assert code == 0, output
    [(code, output)] = run(project, [*mistake.arguments, "--run=a", "--save_every_n_steps=2"], before=mistake.before)
    assert not wrong(mistake, code, output)
    record = project / "runs" / "a" / "run.json"
    assert mistake.mend is not None
    mistake.mend(project)
    assert json.loads(record.read_text())["status"] in ("failed", "running")

    options = ["--data.num_workers=0"] if "died" in mistake.says else []
    [(code, output)] = run(project, ["fit", "--resume", *options])

    assert code == 0, output
    assert json.loads(record.read_text())["status"] == "finished"
    assert differences(project / "runs" / "whole", project / "runs" / "a") == []


def test_the_document_shows_the_table_of_this_test():
    assert (ROOT / "docs" / "mistakes.md").read_text(encoding="utf-8") == table(), "run tests/tables.py"
