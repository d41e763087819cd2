"""The commands of both READMEs, read from them and typed in fresh folders, in the order in which they stand."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image
from project import FIRST, FRONTS, PACKAGE, ROOT, TEMPLATE, clean_environment
from test_installs import with_registries
from test_own_classes import kill_after
from test_recipes import blocks, recipe
from test_render import render
from test_ways_in import PROMPTS, assert_same, person, repository, shell
from uv import find_uv_bin
from warm import run, shared

SOURCE = (TEMPLATE / "src" / "{{cookiecutter.__package}}" / "runtime" / "commands" / "__init__.py").read_text("utf-8")
COMMANDS = set(ast.literal_eval(re.findall(r"^COMMANDS = (\{.*?^\})", SOURCE, re.MULTILINE | re.DOTALL)[0]))
NAMES = {None: "the template", **{task: f"a project of {task}" for task in FRONTS}}
# What is not typed here, and why. A command that is neither typed nor one of these is an error.
NOT_TYPED = {
    r".venv\\Scripts\\activate": "Windows",
    r"fit -c configs/(gpu|fsdp).yaml|fit --data.batch_size auto": "needs a GPU",
    r"fit -c configs/finetune.yaml": "downloads weights",
    r"python scripts/make_corrupt_mnist.py": "downloads MNIST",
    r"pipx install cookiecutter": "pipx is in no environment of the tests",
    r"make test|.* pytest -n 2 .*|.* --group test|uv venv --seed|.* --upgrade .pip.*": "this is what runs this test",
    r"cruft update --skip-apply-ask": "test_update.py",
    r"wandb (login|sync .*)": "needs an account",
    r"tensorboard --logdir .*|mlflow ui .*": "a server that does not end; test_loggers.py reads the files",
    r"push": "test_push.py",
    r"serve": "test_serve.py",
    r"drift": "test_drift.py",
    r"uv sync|uv run": "test_installs.py",
    r"predict PATH": "test_recipes.py, with the method that docs/own-code.md adds",
}
DEMO, WINDOWS, UV = (
    "## Try it on a clone",
    "<details><summary>The same on Windows",
    "<details><summary>The same with uv",
)
BAKES = r"(?:py -m |uvx )?cookiecutter (?!--no-input --overwrite).*"
PIP = r"(?:python3|py) -m pip install cookiecutter"
SHORT = (
    *("--trainer.max_epochs=2", "--trainer.limit_train_batches=4", "--trainer.limit_val_batches=2"),
    "--trainer.limit_test_batches=2",
)
LONG = ("image_segmentation", "text_classification")
# What the user writes in the place of a word in capitals.
MEANT = {
    "--data.target COLUMN": "--data.target level",
    "--data.text COLUMN": "--data.text text",
    "--data.label COLUMN": "--data.label label",
    "--data.root FOLDER": "--data.root texts",
    "report NAME NAME": "report run0 killed",
    "predict PATH": "predict new",
}


def commands(text: str) -> list[str]:
    """Return the commands of a README: the lines of its blocks without a language, and what is code in a sentence."""
    found = []
    for part in re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL):
        if part.startswith("```\n"):
            lines = [re.sub(r" +# .*", "", line) for line in part.splitlines()[1:-1] if line.strip()]
            found += lines if not lines[0].endswith("/") else []  # else a tree of files
        elif not part.startswith("```"):
            for line in part.splitlines():
                codes = [code for code in re.findall(r"`([^`]+)`", line) if re.match(r"[\w.]+( |$)|-c |\.venv", code)]
                codes = [f"fit {code}" if code.startswith("-c ") else code for code in codes]
                if line.startswith("| `-c "):
                    codes = [
                        f"fit -c configs/{code}" if code.endswith(".yaml") and " " not in code else code
                        for code in codes
                    ]
                found += [code for code in codes if " " in code or code in COMMANDS or "Scripts" in code]
    found = [command.removeprefix(f"python -m {PACKAGE} ") for command in found if command != f"python -m {PACKAGE}"]
    return list(dict.fromkeys(found))


def reason(command: str) -> str:
    """Return why a command is not typed; empty if it is."""
    return next((why for pattern, why in NOT_TYPED.items() if re.fullmatch(pattern, command)), "")


@pytest.fixture(scope="module")
def readmes(tmp_path_factory: pytest.TempPathFactory) -> dict[str | None, str]:
    """The README of the template, and that of a project of each task; of one, with every logger."""
    folder = tmp_path_factory.mktemp("readmes")
    texts: dict[str | None, str] = {None: (ROOT / "README.md").read_text("utf-8")}
    for task in FRONTS:
        for logger in PROMPTS["logger"] if task == "own" else ["csv"]:
            project = render({"dataset": FIRST[task], "logger": logger}, folder / task / logger)
            texts[task] = texts.get(task, "") + (project / "README.md").read_text("utf-8")
    return texts


@pytest.mark.parametrize("task", NAMES, ids=str)
def test_every_command_is_typed_or_it_is_said_why_not(readmes, task, record_property):
    for command in commands(readmes[task]):
        known = command.split()[0] in COMMANDS or command in typed_in_a_shell(readmes[task]) or reason(command)
        assert known, f"{command}: type it in a test, or name it in NOT_TYPED"
    record_property(f"commands in the README of {NAMES[task]}", len(commands(readmes[task])))


def test_every_reason_is_needed(readmes):
    every = [command for text in readmes.values() for command in commands(text)]
    assert [pattern for pattern in NOT_TYPED if not any(re.fullmatch(pattern, command) for command in every)] == []
    assert all((ROOT / "tests" / why.split(",")[0]).is_file() for why in NOT_TYPED.values() if why.startswith("test_"))


def lines_below(text: str, title: str) -> list[str]:
    """Return the lines of the first block of commands below a title; none where there is no such title."""
    return text.partition(title)[2].split("```\n")[1].splitlines() if title in text else []


def typed_in_a_shell(text: str) -> set[str]:
    """Return the commands of a README that the tests below type, which begin with a fresh environment."""
    lines = [line for title in (DEMO, WINDOWS, UV, "## Install") for line in lines_below(text, title)]
    single = re.compile(rf"{BAKES}|{PIP}|pip install -e .*|source <.*")
    return {*lines, *filter(single.fullmatch, commands(text))}


def prepare(project: Path, task: str) -> None:
    """Write what the README asks for: data of one's own, new files, a network, a file of options."""
    (project / "configs" / "experiments").mkdir()
    (project / "configs" / "experiments" / "NAME.yaml").write_text("data:\n  batch_size: 16\n")
    if task == "image_classification":
        datasets.image_folder(project / "data" / "images")
        (project / "data" / "images" / "train" / "circle" / "broken.jpg").unlink()
        for name in ("cat", "dog"):  # as in the README's tree
            for split in ("train", "test"):
                folder = project / "data" / "images" / split
                (folder / {"cat": "circle", "dog": "square"}[name]).rename(folder / name)
    elif task == "tabular":
        datasets.table(project / "made")
        (project / "made" / "table.csv").rename(project / "table.csv")
        (project / "new.csv").write_text("number,word\n0.5,a\n-0.5,b\n")
    elif task == "text_classification":
        datasets.texts("text_folder", project / "texts")
        datasets.texts("csv_texts", project / "made")
        (project / "made" / "texts.csv").rename(project / "texts.csv")
        (project / "new.csv").write_text("text\nwave fish\nmoss\n")
    elif task == "image_segmentation":
        datasets.mask_folder(project / "data" / "masks")
    (project / "new").mkdir()
    for i in range(2):
        Image.fromarray(np.full((40, 50, 3), 100 * i, np.uint8)).save(project / "new" / f"{i}.png")
    if task != "own":
        network = project / "src" / PACKAGE / "network.py"
        (block,) = blocks(recipe(project, "README.md", "Your own network"), "python")
        network.write_text(f"{network.read_text(encoding='utf-8')}\n\n{block}", encoding="utf-8")


def arguments(command: str, number: int) -> list[str]:
    """Return the arguments of a command of the project: shorter, and each training with a name."""
    for capitals, meant in MEANT.items():
        command = command.replace(capitals, meant)
    words = shlex.split(command)
    if words[0] == "fit" and "--resume" in words:
        return [*words, "--trainer.max_epochs=2"]
    if words[0] == "fit" and "--help" not in words:
        return [*words, f"--run=run{number}", *SHORT]
    return [*words, *SHORT] if words[0] in ("sweep", "repeat") else words


def type_all(project: Path, found: list[str]) -> list[str]:
    """Type commands of the project one after the other, and return those that failed with what they said."""
    kill_after(5, project, ["fit", "--run=killed", "--save_every_n_steps=2", *SHORT])  # for fit --resume
    devices = "fit -c configs/ddp.yaml"  # needs a process of its own, and a second one
    fits = [command for command in found if command.split()[0] == "fit"]
    typed = {c: arguments(c, fits.index(c) if c in fits else 0) for c in found if c != devices}
    results = dict(zip(typed, run(project, *typed.values(), own=True), strict=True))
    if devices in found:
        process = shared(own=True).start(project, [["fit", "-c", "configs/ddp.yaml", *SHORT]], processes=2)
        process.wait()
        results[devices] = process.results()[0]
    return [f"{command}\n{output}" for command, (code, output) in results.items() if code]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "task", [pytest.param(task, marks=pytest.mark.slow if task in LONG else []) for task in FRONTS]
)
def test_the_commands_of_a_project_s_readme_work_to_the_letter(readmes, task, tmp_path, record_property):
    project = render({"dataset": FIRST[task], "logger": "csv", "accelerator": "cpu"}, tmp_path)
    prepare(project, task)
    found = [c for c in commands(readmes[task]) if c.split()[0] in COMMANDS and not reason(c)]
    first = found.index("fit")
    found = [found.pop(first), *found]

    failed = type_all(project, found)

    assert not failed, "\n".join(failed)
    runs = {file.parent.name: file.read_text("utf-8") for file in project.glob("runs/*/config.yaml")}
    if task != "own":
        (own,) = [name for name, text in runs.items() if f"{PACKAGE}.network.TinyNet" in text]
        after = [["test", f"--run={own}"], ["report", own], ["export", own]]
        assert [(code, output) for code, output in run(project, *after, own=True) if code] == []
        csv = "new.csv" if task == "image_segmentation" else "predictions.csv"
        assert task == "image_classification" or (project / csv).is_file()
    record_property(f"commands of the README of {NAMES[task]} that were typed", len(found))


# ---- In a shell, from the first line on


def lend_packages(folder: Path) -> None:
    """Let a fresh environment find the packages of this one, so that pip downloads next to nothing."""
    (packages,) = (folder / ".venv").glob("lib/*/site-packages")
    (lent := folder / ".venv" / "lent").mkdir()
    for entry in Path(np.__file__).parents[1].iterdir():
        if not entry.name.startswith(("cookiecutter", "__editable__")):  # whose command has to be installed
            (lent / entry.name).symlink_to(entry)
    (packages / "lent.pth").write_text(f"{lent}\n", encoding="utf-8")


def student(folder: Path) -> dict[str, str]:
    """Return the environment of someone with an empty home, whose Python is this one without any packages."""
    dropped = ("PYTHONPATH", "VIRTUAL_ENV", "PYTEST_")
    environment = {k: v for k, v in clean_environment(folder).items() if not k.startswith(dropped)}
    commands = Path(environment["HOME"]) / "bin"
    commands.mkdir(parents=True, exist_ok=True)
    for name, target in (("python3", sys.base_prefix + "/bin/python3"), ("uv", find_uv_bin())):
        (commands / name).symlink_to(target)
    (commands / "uvx").symlink_to(Path(find_uv_bin()).with_name("uvx"))
    environment["PATH"] = os.pathsep.join([str(commands), environment["PATH"]])
    return with_registries(environment)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("task", FRONTS)
def test_the_readme_s_lines_for_pip_work_in_a_fresh_folder(readmes, task, tmp_path, record_property):
    project = render({"dataset": FIRST[task], "logger": "csv"}, tmp_path)
    make, activate, install = lines_below(readmes[task], "## Install")
    (fit,) = lines_below(readmes[task], "## Train")
    extras = [
        command for command in commands(readmes[task]) if command.startswith("pip install") and command != install
    ]
    (source,) = [command for command in commands(readmes[task]) if command.startswith("source <")]
    environment = student(project)
    shell(make, project, environment)
    lend_packages(project)

    shell("\n".join([activate, install, *extras]), project, environment)
    said = shell(f"{activate}\n{fit}", project, environment)
    completed = shell(f"{activate}\n{source}\ncomplete -p my-lightning-project", project, environment)

    assert "\nReport: runs/" in said
    assert completed.endswith("my-lightning-project\n")
    assert (project / ".venv" / "bin" / "my-lightning-project").is_file()
    record_property("lines typed in a shell", 5 + len(extras))


def unix(line: str) -> str:
    """Return a line for PowerShell as it is typed on this system."""
    line = re.sub(r"^py ", "python3 ", line).replace(r".venv\Scripts", ".venv/bin")
    return line.replace("\\", "/")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a clone of the template, as git takes it now."""
    return repository(tmp_path / "lightning-template", person(tmp_path / "home"))


def test_each_way_to_call_cookiecutter_gives_the_project_that_it_names(
    readmes, tmp_path, bake_project, record_property
):
    home = tmp_path / "home"
    environment = person(home)
    repository(home / "github" / "org" / "lightning-template.git", environment)
    environment = with_registries(environment | {"UV_PYTHON": sys.executable})
    found = [command for command in commands(readmes[None]) if re.fullmatch(BAKES, command)]
    assert len(found) == 5
    for i, command in enumerate(found):
        line = (
            unix(command).replace("/path/to/lightning-template", str(ROOT)).replace("uvx", f"{find_uv_bin()} tool run")
        )
        (folder := tmp_path / f"bake{i}").mkdir()
        shell(line, folder, environment, typed="\n" * len(PROMPTS))
        shutil.rmtree(home / ".cookiecutters", ignore_errors=True)  # else it asks whether to take the newest
        if "--no-input" in line:
            chosen = {"project_name": "Cat Finder", "dataset": "cifar10", "logger": "csv"}
            assert_same(folder / "cat-finder", bake_project(chosen))
        else:
            assert_same(folder / "my-lightning-project", bake_project({}, output_dir=tmp_path / f"expected{i}"))
    record_property("lines typed in a shell", len(found))


def test_cookiecutter_is_installed_as_the_readme_says(readmes, tmp_path, record_property):
    (line,) = {unix(command) for command in commands(readmes[None]) if re.fullmatch(PIP, command)}
    environment = student(tmp_path / "project")
    shell(f"python3 -m venv .venv\nsource .venv/bin/activate\n{line}\ncookiecutter --version", tmp_path, environment)
    record_property("lines typed in a shell", 1)


def assert_demo_was_trained(clone: Path, said: str) -> None:
    assert float(re.findall(r"test/accuracy (\S+)", said)[-1]) >= 0.98
    assert list((clone / "demo" / "my-lightning-project" / "runs").glob("*/report.html"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_make_demo_works_in_a_fresh_clone(readmes, clone, record_property):
    (line,) = lines_below(readmes[None], DEMO)
    environment = student(clone)
    shell("make .venv/bin/python", clone, environment)
    lend_packages(clone)
    said = shell(line, clone, environment)
    assert_demo_was_trained(clone, said)
    for further in re.findall(r"^  (cd .*)$", said, flags=re.MULTILINE):  # what it prints to go on
        shell(f"{further}\npython -m {PACKAGE} runs", clone, environment)
    record_property("lines typed in a shell", 1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_lines_for_windows_work_when_they_are_written_for_this_system(readmes, clone, record_property):
    make, *others = map(unix, lines_below(readmes[None], WINDOWS))
    environment = student(clone)
    shell(make, clone, environment)
    lend_packages(clone)
    assert_demo_was_trained(clone, shell("\n".join(others), clone, environment))
    record_property("lines typed in a shell", 1 + len(others))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_lines_for_uv_work_in_a_fresh_clone(readmes, clone, record_property):
    lines = lines_below(readmes[None], UV)
    assert_demo_was_trained(clone, shell("\n".join(lines), clone, student(clone) | {"UV_PYTHON": sys.executable}))
    record_property("lines typed in a shell", len(lines))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_a_project_can_do_by_the_template_s_readme_it_does(readmes, tmp_path, record_property):
    found = [c for c in commands(readmes[None]) if c.split()[0] in COMMANDS and not reason(c)]
    of_a_table = [command for command in found if "csv_file" in command]
    assert len(of_a_table) == 1
    for task, typed in (("tabular", of_a_table), ("image_classification", [c for c in found if c not in of_a_table])):
        project = render({"dataset": FIRST[task], "logger": "csv", "accelerator": "cpu"}, tmp_path / task)
        prepare(project, task)
        failed = type_all(project, typed)
        assert not failed, "\n".join(failed)
    record_property("commands of the template's README on projects that were typed", len(found))
