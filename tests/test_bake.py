"""A baked project trains whatever was answered, and its files are those that the checks of many renders see."""

import importlib
import json
import os
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from combinations import VALUES
from project import ROOT, STARTS, TEMPLATE, clean_environment
from test_render import FACTS, files_below, render

LIBRARY = TEMPLATE / "vendor" / "lightning-runs" / "src"
README = LIBRARY.parent / "README.md"
UNUSUAL = [
    {},
    {"license": "GPL-3.0", "start": "images", "logger": "mlflow", "accelerator": "gpu", "torch_build": "cu128"},
    {"license": "none", "start": "blank", "logger": "none", "torch_build": "cpu", "precision": "64-true"},
]
# each start, logger, precision and accelerator that a CPU trains with; `make test` has two of the loggers' packages
TRAINED = [
    {"start": "images", "logger": "wandb", "precision": "32-true", "accelerator": "auto"},
    {"start": "table", "logger": "csv", "precision": "bf16-mixed", "accelerator": "cpu"},
    {"start": "text", "logger": "none", "precision": "bf16-true", "accelerator": "auto"},
    {"start": "masks", "logger": "csv", "precision": "64-true", "accelerator": "cpu"},
    {"start": "blank", "logger": "none", "precision": "32-true", "accelerator": "auto"},
]
SLOW = [
    {"start": "table", "logger": "tensorboard", "precision": "64-true", "accelerator": "auto"},
    {"start": "images", "logger": "mlflow", "precision": "bf16-mixed", "accelerator": "cpu"},
]
SHORT = ["--trainer.max_epochs=2", "--trainer.limit_train_batches=3", "--trainer.limit_val_batches=2"]
SHORT += ["--trainer.log_every_n_steps=1", "--trainer.limit_test_batches=2", "--data.batch_size=8"]


@pytest.mark.parametrize("answers", UNUSUAL, ids=lambda answers: answers.get("start", "default"))
def test_a_bake_writes_what_every_rendered_project_has(cookies, answers, tmp_path):
    # tests/test_render.py runs the hooks in its own process, to check many projects; here they are run for real
    result = cookies.bake(extra_context=answers)
    assert (result.exit_code, result.exception) == (0, None)
    rendered = render(answers, tmp_path)
    assert files_below(result.project_path) == files_below(rendered)
    for name in files_below(rendered):
        assert (result.project_path / name).read_bytes() == (rendered / name).read_bytes(), name
    for fact in FACTS:
        fact(result.project_path, {**{field: values[0] for field, values in VALUES.items()}, **answers})


@pytest.mark.parametrize(
    "answers",
    [*TRAINED, *(pytest.param(answers, marks=pytest.mark.slow) for answers in SLOW)],
    ids=lambda answers: "-".join(answers.values()),
)
def test_a_project_trains_with_its_answers(cookies, answers, monkeypatch, capfd):
    slug = f"{answers['start']}_{answers['logger']}"  # modules of two projects have two names
    project = cookies.bake(extra_context={**answers, "project_slug": slug}).project_path
    before = files_below(project)
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(str(project / "src"))
    for name, value in {"CUDA_VISIBLE_DEVICES": "", "WANDB_MODE": "offline", "HOME": str(project.parent)}.items():
        monkeypatch.setenv(name, value)
    main = importlib.import_module(f"{slug}.__main__").main

    assert main(["fit", "--trainer.fast_dev_run", "true"]) == 0
    assert f"precision {answers['precision']}" in "".join(capfd.readouterr())
    assert files_below(project) == before
    # fast_dev_run replaces the loggers
    assert main(["fit", "--run", "first", *SHORT]) == 0
    run = project / "runs" / "first"
    assert json.loads((run / "run.json").read_text(encoding="utf-8"))["status"] == "finished"
    assert (run / "metrics.csv").exists() == (answers["logger"] != "none")


def test_the_librarys_readme_trains_without_a_project(tmp_path, monkeypatch):
    blocks = dict(re.findall(r"^```(python|yaml)\n(.*?)^```", README.read_text("utf-8"), re.MULTILINE | re.DOTALL))
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "default.yaml").write_text(blocks["yaml"], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", "fit", "--run", "first", *SHORT[1:5]])
    with pytest.raises(SystemExit, match=r"^0$"):
        exec(compile(blocks["python"], "train.py", "exec"), {"__name__": "__main__"})
    assert json.loads((tmp_path / "runs" / "first" / "run.json").read_text())["status"] == "finished"


def test_unrendered_yaml_and_toml_parse():
    for path in (*TEMPLATE.rglob("*.yaml"), *TEMPLATE.rglob("*.yml")):
        yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in TEMPLATE.rglob("*.toml"):
        tomllib.loads(path.read_text(encoding="utf-8"))


# a placeholder is no module name
@pytest.mark.parametrize("command", [["check", "--ignore=N999"], ["format", "--check"]], ids=["check", "format"])
def test_ruff_is_content_with_the_template_in_place(command):
    # not its tests, whose import lines name the package by a placeholder; these are checked in a project
    sources = [TEMPLATE / "src", LIBRARY, *TEMPLATE.glob(".starts/*/src")]
    ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", "hooks", "tests", *sources]
    done = subprocess.run(ruff, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_pyright_is_content_with_each_start_and_the_template(tmp_path):
    projects = [render({"start": answers["start"]}, tmp_path / answers["start"]) for answers in TRAINED]
    # all projects at once, with their own settings: most of the time is for reading torch
    settings = tomllib.loads((projects[0] / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pyright"]
    roots = [project.relative_to(tmp_path) for project in projects]
    settings |= {"include": [str(root / name) for root in roots for name in settings["include"]]}
    environments = [{"root": str(root), "extraPaths": [str(root / "src"), str(LIBRARY)]} for root in roots]
    settings |= {"executionEnvironments": environments}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    for folder in (tmp_path, ROOT):
        command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable]
        environment = clean_environment(projects[0]) | {"PYTHONPATH": ""}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("start", STARTS)
def test_the_own_tests_of_a_project_pass_whatever_was_answered(bake_project, start):
    answers = {"logger": "none", "accelerator": "gpu", "devices": "2", "precision": "16-mixed"}
    project = bake_project({**answers, "start": start})
    environment = clean_environment(project) | {"PYTHONPATH": os.pathsep.join([str(project / "src"), str(LIBRARY)])}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "tests"]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
    assert " passed" in done.stdout
