"""A baked project trains whatever was answered, and its files are those that the checks of many renders see."""

import importlib
import json
import re
import sys

import pytest
from project import LIBRARY, ROOT, STARTS, TEMPLATE, assert_same, files_below, own_tests, read_json, shell
from test_render import read_toml, render

# each start, precision and accelerator that a CPU trains with; tests/library/training has the other loggers
TRAINED = [
    {"start": "images", "logger": "wandb", "precision": "32-true", "accelerator": "auto"},
    {"start": "table", "logger": "csv", "precision": "bf16-mixed", "accelerator": "cpu"},
    {"start": "text", "logger": "none", "precision": "bf16-true", "accelerator": "auto"},
    {"start": "masks", "logger": "csv", "precision": "64-true", "accelerator": "cpu"},
    {"start": "blank", "logger": "none", "precision": "32-true", "accelerator": "auto"},
]
SHORT = ["--trainer.max_epochs=2", "--trainer.limit_train_batches=3", "--trainer.limit_val_batches=2"]
SHORT += ["--trainer.log_every_n_steps=1", "--trainer.limit_test_batches=2", "--data.batch_size=8"]


@pytest.mark.parametrize("start", STARTS)
def test_a_bake_writes_what_every_rendered_project_has(cookies, start, tmp_path):
    answers = {"start": start, "license": "GPL-3.0", "logger": "mlflow", "torch_build": "cu128"}
    # tests/test_render.py runs the hooks in its own process, to check many projects; here they are run for real
    result = cookies.bake(extra_context=answers)
    assert (result.exit_code, result.exception) == (0, None)
    assert_same(result.project_path, render(answers, tmp_path))


@pytest.mark.parametrize("answers", TRAINED, ids=lambda answers: "-".join(answers.values()))
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
    assert read_json(project / "runs" / "first" / "run.json")["status"] == "finished"
    assert (project / "runs" / "first" / "metrics.csv").exists() == (answers["logger"] != "none")


def test_the_librarys_readme_trains_without_a_project(tmp_path, monkeypatch):
    readme = (LIBRARY.parent / "README.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"^```(?:python|yaml)\n# (train.py|configs)(.*?)^```", readme, re.MULTILINE | re.DOTALL))
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "default.yaml").write_text(f"# {blocks['configs']}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", "fit", "--run", "first", *SHORT[1:5]])
    with pytest.raises(SystemExit, match=r"^0$"):
        exec(compile(f"# {blocks['train.py']}", "train.py", "exec"), {"__name__": "__main__"})
    assert read_json(tmp_path / "runs" / "first" / "run.json")["status"] == "finished"


# a placeholder is no module name
@pytest.mark.parametrize("arguments", [["check", "--ignore=N999"], ["format", "--check"]], ids=["check", "format"])
def test_ruff_is_content_with_the_template_in_place(arguments):
    # not its tests, whose import lines name the package by a placeholder; these are checked in a project
    sources = [TEMPLATE / "src", LIBRARY, *TEMPLATE.glob(".starts/*/src")]
    shell([sys.executable, "-m", "ruff", *arguments, "--no-cache", "hooks", "tests", *map(str, sources)], ROOT)


@pytest.mark.slow
def test_pyright_is_content_with_each_start_and_the_template(tmp_path):
    # all projects at once, with their own settings: most of the time is for reading torch
    projects = [render({"start": start}, tmp_path / start) for start in STARTS]
    settings = read_toml(projects[0] / "pyproject.toml")["tool"]["pyright"]
    settings["include"] = [str(project / name) for project in projects for name in settings["include"]]
    settings["executionEnvironments"] = [
        {"root": str(project), "extraPaths": [str(project / "src"), str(LIBRARY)]} for project in projects
    ]
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    for folder in (tmp_path, ROOT):
        shell([sys.executable, "-m", "pyright", "--pythonpath", sys.executable], folder)


@pytest.mark.slow
@pytest.mark.parametrize("start", STARTS)
def test_the_own_tests_a_project_pass_whatever_was_answered(bake_project, start):
    answers = {"logger": "none", "accelerator": "gpu", "devices": "2", "precision": "16-mixed"}
    own_tests(bake_project({**answers, "start": start}))
