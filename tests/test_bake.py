"""What a baked project consists of, whatever was answered."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml
from project import PACKAGE, ROOT, TEMPLATE, clean_environment

FILES = {
    *(".dockerignore", ".github/workflows/ci.yml", ".gitignore", ".pre-commit-config.yaml", "AGENTS.md"),
    *("CITATION.cff", "Dockerfile", "LICENSE", "README.md", "pyproject.toml"),
    *(f"configs/{name}.yaml" for name in ("ddp", "default", "fsdp", "gpu", "overfit", "profile", "quick")),
    *(
        f"src/{PACKAGE}/{name}.py"
        for name in ("__init__", "__main__", "callbacks", "cli", "corrupt_mnist", "data", "datasets", "errors")
    ),
    *(f"src/{PACKAGE}/{name}.py" for name in ("hardware", "loggers", "module", "network", "runs", "train")),
    f"src/{PACKAGE}/digits.npz",
    *(f"tests/{name}.py" for name in ("conftest", "test_data", "test_module", "test_train")),
}
# Every value of every prompt at least once.
ANSWERS = [
    {},
    {"license": "Apache-2.0", "dataset": "mnist", "logger": "tensorboard", "accelerator": "cpu", "torch_build": "cpu"},
    {"license": "BSD-3-Clause", "dataset": "fashion_mnist", "logger": "mlflow", "precision": "bf16-mixed"},
    {"license": "GPL-3.0", "dataset": "cifar10", "logger": "csv", "accelerator": "gpu", "precision": "16-mixed"},
    {"dataset": "corrupt_mnist", "logger": "none", "accelerator": "gpu", "strategy": "fsdp", "torch_build": "cu126"},
    {"dataset": "image_folder", "accelerator": "gpu", "precision": "16-true", "strategy": "ddp", "devices": "4"},
    {"accelerator": "mps", "precision": "bf16-true"},
    {"license": "none", "precision": "64-true", "torch_build": "cu128"},
    {
        "torch_build": "cu130",
        "description": "It's 100 % \N{SNOWMAN}: a & b <c> #d",
        "author_name": "O'Brien \N{SNOWMAN}",
    },
]


def files_below(folder: Path) -> set[str]:
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {file.as_posix() for file in files if "__pycache__" not in file.parts}


@pytest.fixture(params=ANSWERS, ids=lambda answers: "-".join(answers.values())[:40] or "default")
def answers(request: pytest.FixtureRequest) -> dict[str, str]:
    return request.param


def test_the_default_answers_bake_without_a_question(cookies):
    result = cookies.bake()

    assert result.exception is None
    assert result.exit_code == 0
    assert result.project_path.name == "my-lightning-project"


def test_a_project_has_exactly_the_files_that_it_should(bake_project, answers):
    expected = FILES - ({"LICENSE"} if answers.get("license") == "none" else set())

    assert files_below(bake_project(answers)) == expected


def test_no_placeholder_is_left(bake_project, answers):
    project = bake_project(answers)

    for name in files_below(project):
        assert "cookiecutter" not in name
        if not name.endswith(".npz") and not name.startswith(".github/"):
            path = project / name
            text = path.read_text(encoding="utf-8")
            # the README tells how to update from the template, by name
            assert "cookiecutter." not in text, path
            assert not re.search(r"\{%|\{#|\{\{(?! *(github|matrix))", text), path


def test_every_yaml_and_toml_file_parses(bake_project, answers):
    project = bake_project(answers)

    for path in (*project.rglob("*.yaml"), *project.rglob("*.yml"), project / "CITATION.cff"):
        assert yaml.safe_load(path.read_text(encoding="utf-8")), path
    tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_answers_arrive(bake_project, answers):
    project = bake_project(answers)
    config = yaml.safe_load((project / "configs/default.yaml").read_text(encoding="utf-8"))
    pyproject = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))

    assert config["logger"] == answers.get("logger", "wandb")
    assert config["data"]["dataset"] == answers.get("dataset", "digits")
    for option, default in {
        "accelerator": "auto",
        "devices": "auto",
        "precision": "32-true",
        "strategy": "auto",
    }.items():
        assert config["trainer"][option] == answers.get(option, default)
    if "description" in answers:
        assert pyproject["project"]["description"] == answers["description"]
        assert pyproject["project"]["authors"] == [{"name": answers["author_name"]}]
        citation = yaml.safe_load((project / "CITATION.cff").read_text(encoding="utf-8"))
        assert answers["author_name"] in str(citation["authors"])


def test_the_chosen_logger_alone_is_a_dependency_and_the_others_are_extras(bake_project, answers):
    pyproject = tomllib.loads((bake_project(answers) / "pyproject.toml").read_text(encoding="utf-8"))
    loggers = {"wandb", "tensorboard", "mlflow"}
    dependencies = {re.split(r"[\[>=<]", line)[0] for line in pyproject["project"]["dependencies"]}

    assert dependencies & loggers == {answers.get("logger", "wandb")} & loggers
    assert loggers <= set(pyproject["project"]["optional-dependencies"])


def test_the_torch_build_names_its_index_for_uv(bake_project, answers):
    pyproject = tomllib.loads((bake_project(answers) / "pyproject.toml").read_text(encoding="utf-8"))
    build = answers.get("torch_build", "default")

    if build == "default":
        assert "tool" not in pyproject or "uv" not in pyproject["tool"]
        return
    index = {"name": "pytorch", "url": f"https://download.pytorch.org/whl/{build}", "explicit": True}
    assert pyproject["tool"]["uv"]["index"] == [index]
    assert pyproject["tool"]["uv"]["sources"] == {"torch": {"index": "pytorch"}, "torchvision": {"index": "pytorch"}}


def test_the_code_is_byte_for_byte_that_of_the_template(bake_project, answers):
    baked = bake_project(answers) / "src" / PACKAGE
    source = TEMPLATE / "src" / "{{cookiecutter.__package}}"

    assert files_below(baked) == files_below(source)
    for name in files_below(source):
        assert (baked / name).read_bytes() == (source / name).read_bytes(), name


def test_the_code_has_no_jinja():
    for path in (TEMPLATE / "src").rglob("*.py"):
        assert "{{" not in path.read_text(encoding="utf-8"), path
        assert "{%" not in path.read_text(encoding="utf-8"), path


def test_the_bundled_digits_are_those_of_scikit_learn():
    source = pytest.importorskip("sklearn.datasets").load_digits()
    order = np.random.default_rng(0).permutation(1797)
    with np.load(TEMPLATE / "src" / "{{cookiecutter.__package}}" / "digits.npz") as arrays:
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
            *(["--ignore=N999"] if command == ["check"] else []),
        ],
        cwd=ROOT,
        capture_output=True,
    )

    assert done.returncode == 0, done.stdout.decode()


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=["check", "format"])
def test_ruff_is_content_with_a_project(bake_project, answers, command):
    project = bake_project(answers)
    done = subprocess.run([sys.executable, "-m", "ruff", *command, "--no-cache", "."], cwd=project, capture_output=True)

    assert done.returncode == 0, done.stdout.decode()


@pytest.mark.timeout(300)
def test_pyright_is_content_with_the_default_project_and_the_template(bake_project):
    project = bake_project({})
    environment = clean_environment(project)
    for folder in (project, ROOT):
        done = subprocess.run(
            [sys.executable, "-m", "pyright", "--pythonpath", sys.executable],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "answers",
    [{}, {"dataset": "mnist", "logger": "none", "accelerator": "gpu", "devices": "2", "precision": "16-mixed"}],
    ids=["default", "other data and hardware"],
)
def test_the_own_tests_of_a_project_pass(bake_project, answers):
    project = bake_project(answers)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"],
        cwd=project,
        env=clean_environment(project),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout
