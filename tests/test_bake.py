"""What a baked project consists of, whatever was answered."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib

import numpy as np
import pytest
import yaml
from combinations import VALUES
from project import FIRST, ROOT, TASKS, TEMPLATE, clean_environment, package_files
from test_render import FACTS, files_below, render

TEXTS = ("description", "author_name")
ANSWERS = [
    {},
    {"license": "GPL-3.0", "dataset": "image_folder", "logger": "mlflow", "accelerator": "gpu", "torch_build": "cu128"},
    {
        **{"license": "none", "dataset": "own", "logger": "none", "torch_build": "cpu", "precision": "64-true"},
        "description": "It's 100 % \N{SNOWMAN}: a & b <c> #d",
        "author_name": "O'Brien \N{SNOWMAN}",
    },
]


@pytest.fixture(params=ANSWERS, ids=lambda answers: "-".join(answers.values())[:40] or "default")
def answers(request: pytest.FixtureRequest) -> dict[str, str]:
    return request.param


def test_the_default_answers_bake_without_a_question(cookies):
    result = cookies.bake()

    assert result.exception is None
    assert result.exit_code == 0
    assert result.project_path.name == "my-lightning-project"


def test_a_bake_writes_what_is_checked_for_every_combination_of_answers(bake_project, answers, tmp_path):
    # tests/test_render.py runs the hooks in its own process, to check many projects; here they are run for real
    baked = bake_project(answers)
    literal = {name: "{% raw %}" + text + "{% endraw %}" for name, text in answers.items() if name in TEXTS}
    rendered = render({**answers, **literal}, tmp_path / "rendered")

    assert files_below(baked) == files_below(rendered)
    for name in files_below(baked):
        assert (baked / name).read_bytes() == (rendered / name).read_bytes(), name
    for fact in FACTS:
        fact(baked, {**{field: values[0] for field, values in VALUES.items()}, **answers})


def test_the_code_has_no_jinja():
    paths = [*(TEMPLATE / "src").rglob("*.py"), *TASKS.glob("*/src/*/*.py")]
    assert len(paths) > 40
    for path in paths:
        assert "{{ cookiecutter" not in path.read_text(encoding="utf-8"), path
        assert "{%" not in path.read_text(encoding="utf-8"), path


def test_the_bundled_digits_are_those_of_scikit_learn():
    source = pytest.importorskip("sklearn.datasets").load_digits()
    order = np.random.default_rng(0).permutation(1797)
    with np.load(package_files()["digits.npz"]) as arrays:
        for part, indices in (("test", np.sort(order[:360])), ("train", np.sort(order[360:]))):
            assert (np.rint(arrays[f"{part}_images"] * (16 / 255)) == source.images[indices]).all()
            assert (arrays[f"{part}_labels"] == source.target[indices]).all()


def test_unrendered_yaml_and_toml_parse():
    for path in TEMPLATE.rglob("*.yaml"):
        yaml.safe_load(path.read_text(encoding="utf-8"))
    tomllib.loads((TEMPLATE / "pyproject.toml").read_text(encoding="utf-8"))


# a placeholder is no module name
@pytest.mark.parametrize("command", [["check", "--ignore=N999"], ["format", "--check"]], ids=["check", "format"])
def test_ruff_is_content_with_the_template_in_place(command):
    # not its tests, whose import lines name the package by a placeholder; these are checked in a project
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "ruff",
            *command,
            "--no-cache",
            "hooks",
            "tests",
            TEMPLATE / "src",
            *TASKS.glob("*/src"),
            *(["--ignore=N999"] if command == ["check"] else []),
        ],
        cwd=ROOT,
        capture_output=True,
    )

    assert done.returncode == 0, done.stdout.decode()


@pytest.mark.timeout(300)
def test_pyright_is_content_with_a_project_of_each_task_and_the_template(tmp_path):
    projects = [render({"dataset": dataset}, tmp_path / dataset) for dataset in FIRST.values()]
    projects += [render({"commands": "core"}, tmp_path / "core")]
    # all projects at once, with their own settings: most of the time is for reading torch
    settings = tomllib.loads((projects[0] / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pyright"]
    settings |= {"include": [str(project / name) for project in projects for name in settings["include"]]}
    settings |= {"executionEnvironments": [{"root": str(of), "extraPaths": [str(of / "src")]} for of in projects]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    for folder in (tmp_path, ROOT):
        done = subprocess.run(
            [sys.executable, "-m", "pyright", "--pythonpath", sys.executable],
            cwd=folder,
            env=clean_environment(projects[0]) | {"PYTHONPATH": ""},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout


WITH_COMMANDS = [f"tests/runtime/test_{name}.py" for name in ("lr_find", "predictions")]  # of those that core lacks


# the tests of runtime/ are the same in each project, and run in one of them
@pytest.mark.parametrize(
    ("dataset", "commands", "tests"),
    [
        ("mnist", "core", ["tests"]),
        ("penguin_mass", "all", ["tests", "--ignore=tests/runtime"]),
        ("csv_texts", "core", ["tests", "--ignore=tests/runtime"]),
        ("mask_folder", "all", WITH_COMMANDS),
        ("mask_folder", "core", ["tests", "--ignore=tests/runtime"]),
        ("own", "core", ["tests", "--ignore=tests/runtime"]),
    ],
)
def test_the_own_tests_of_a_project_pass_whatever_was_answered(bake_project, dataset, commands, tests):
    answers = {"dataset": dataset, "logger": "none", "accelerator": "gpu", "devices": "2", "precision": "16-mixed"}
    project = bake_project({**answers, "commands": commands})
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"),
            *tests,
        ],
        cwd=project,
        env=clean_environment(project),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout
