"""The commands of both READMEs, read from them and typed in fresh folders, in the order in which they stand."""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import pytest
from lightning_runs.commands import COMMANDS
from PIL import Image
from processes import Command, run
from project import PACKAGE, ROOT, STARTS, bake, clean_environment
from test_installs import with_registries
from test_recipes import blocks, recipe
from test_ways_in import person, repository, shell
from uv import find_uv_bin

# What is not typed here, and why. A command that is neither typed nor one of these is an error.
NOT_TYPED = {
    r".venv\\Scripts\\activate": "Windows",
    r"fit -c configs/gpu.yaml": "needs a GPU",
    r"fit -c configs/finetune.yaml": "downloads weights",
    r"python scripts/make_corrupt_mnist.py": "downloads MNIST",
    r"pipx install cookiecutter": "pipx is in no environment of the tests",
    r"make test(-all)?|.* pytest -n 2 .*|.* --group test|uv venv --seed|.* --upgrade .pip.*": "this runs this test",
    r"ruff check .*": "test_bake.py",
    r"wandb (login|sync .*)": "needs an account",
    r"tensorboard --logdir .*|mlflow ui .*": "a server that does not end; test_loggers.py reads the files",
    r"uv sync|uv run": "test_installs.py",
    r"serve": "a server that does not end; test_serve.py",
    r"predict PATH": "test_recipes.py, with the method that docs/own-classes.md adds",
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
def readmes(once: Callable[..., Path]) -> dict[str, str]:
    """The README of the template, and that of a project of each start; of one, with every logger."""
    texts = {"template": (ROOT / "README.md").read_text("utf-8")}
    for start in STARTS:
        for logger in ("csv", "wandb", "tensorboard", "mlflow") if start == "blank" else ("csv",):
            texts[start] = texts.get(start, "") + (project_of(start, once, logger) / "README.md").read_text("utf-8")
    return texts


def project_of(start: str, once: Callable[..., Path], logger: str = "csv") -> Path:
    """The project of a start that keeps the default name, as the READMEs have it."""
    answers = {"start": start, "logger": logger, "accelerator": "cpu"}
    return once(f"default-{start}-{logger}", partial(bake, answers=answers)) / "my-lightning-project"


@pytest.fixture
def copy_of(once: Callable[..., Path], tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that gives a copy of a start's project."""
    return lambda start: Path(shutil.copytree(project_of(start, once), tmp_path / start))


@pytest.mark.parametrize("of", ["template", *STARTS])
def test_every_command_is_typed_or_a_reason_is_given(readmes, of, record_property):
    for found in commands(readmes[of]):
        known = found.split()[0] in COMMANDS or found in typed_in_a_shell(readmes[of]) or reason(found)
        assert known, f"{found}: type it in a test, or name it in NOT_TYPED"
    record_property("commands in READMEs", len(commands(readmes[of])))


def test_every_reason_is_needed(readmes):
    every = [found for text in readmes.values() for found in commands(text)]
    assert [pattern for pattern in NOT_TYPED if not any(re.fullmatch(pattern, found) for found in every)] == []


def lines_below(text: str, title: str) -> list[str]:
    """Return the lines of the first block of commands below a title; none where there is no such title."""
    return text.partition(title)[2].split("```\n")[1].splitlines() if title in text else []


def typed_in_a_shell(text: str) -> set[str]:
    """Return the commands of a README that the tests below type, which begin with a fresh environment."""
    lines = [line for title in (DEMO, WINDOWS, UV, "## Install") for line in lines_below(text, title)]
    single = re.compile(rf"{BAKES}|{PIP}|pip install -e .*|source <.*")
    return {*lines, *filter(single.fullmatch, commands(text))}


def prepare(project: Path, start: str) -> None:
    """Write what the README asks for: data of one's own, a network, and files to predict."""
    (project / "new").mkdir()
    for i in range(2):
        Image.fromarray(np.full((40, 50, 3), 100 * i, np.uint8)).save(project / "new" / f"{i}.png")
    if start == "images":
        datasets.image_folder(project / "data" / "images")
        (project / "data" / "images" / "train" / "circle" / "broken.jpg").unlink()
    elif start == "table":
        datasets.table(project / "made")
        (project / "made" / "table.csv").rename(project / "table.csv")
        (project / "new.csv").write_text("number,word\n0.5,a\n-0.5,b\n")
    elif start == "text":
        datasets.texts("text_folder", project / "texts")
        datasets.texts("csv_texts", project / "made")
        (project / "made" / "texts.csv").rename(project / "texts.csv")
        (project / "new.csv").write_text("text\nwave fish\nmoss\n")
    elif start == "masks":
        datasets.mask_folder(project / "data" / "masks")
    if start != "blank":
        network = project / "src" / PACKAGE / "network.py"
        (block,) = blocks(recipe(project, "README.md", "Your own network"), "python")
        network.write_text(f"{network.read_text(encoding='utf-8')}\n\n{block}", encoding="utf-8")


def arguments(typed: str, number: int) -> list[str]:
    """Return the arguments of a command of the project: shorter, and each training with a name."""
    for capitals, meant in MEANT.items():
        typed = typed.replace(capitals, meant)
    words = shlex.split(typed)
    if words[0] == "fit" and not {"--resume", "--help"} & {*words}:
        return [*words, f"--run=run{number}", *SHORT]
    return [*words, *SHORT] if words[0] in ("sweep", "repeat") else words


def type_all(project: Path, found: list[str]) -> list[str]:
    """Type commands of the project one after the other, and return those that failed with what they said."""
    place = (f"{PACKAGE}.module", "training_step", 5)  # for fit --resume
    run(project, PACKAGE, "fit", "--run=killed", "--save_every_n_steps=2", *SHORT, death=place)
    fits = [typed for typed in found if typed.split()[0] == "fit"]
    failed = []
    for typed in found:
        given = Command(project, PACKAGE, *arguments(typed, fits.index(typed) if typed in fits else 0))
        if given.wait() != 0:
            failed.append(f"{typed}\n{given.output()}")
    return failed


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("start", STARTS)
def test_the_commands_of_a_project_s_readme_work(readmes, start, copy_of, record_property):
    project = copy_of(start)
    prepare(project, start)
    found = [typed for typed in commands(readmes[start]) if typed.split()[0] in COMMANDS and not reason(typed)]
    failed = type_all(project, ["fit", *(typed for typed in found if typed != "fit")])
    assert not failed, "\n".join(failed)
    record_property("commands of READMEs that were typed", len(found))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("start", ["table", "images"])
def test_what_the_template_s_readme_says_of_a_project_works(readmes, start, copy_of, record_property):
    project = copy_of(start)
    prepare(project, start)
    found = [typed for typed in commands(readmes["template"]) if typed.split()[0] in COMMANDS and not reason(typed)]
    failed = type_all(project, [typed for typed in found if ("csv_file" in typed) == (start == "table")])
    assert not failed, "\n".join(failed)
    record_property("commands of READMEs that were typed", len(found))


# ---- In a shell, from the first line on


def lend_packages(folder: Path) -> None:
    """Let a fresh environment find the packages of this one, so that pip downloads next to nothing."""
    (packages,) = (folder / ".venv").glob("lib/*/site-packages")
    (lent := folder / ".venv" / "lent").mkdir()
    for entry in Path(np.__file__).parents[1].iterdir():
        # what has to be installed, for its command or its version
        if not entry.name.startswith(("cookiecutter", "lightning_runs", "__editable__")):
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


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a clone of the template, as git takes it now."""
    return repository(tmp_path / "lightning-template", person(tmp_path / "home"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("start", ["images", "blank"])
def test_the_readme_s_lines_for_pip_work_in_a_fresh_folder(readmes, start, copy_of):
    project = copy_of(start)
    make, activate, install = lines_below(readmes[start], "## Install")
    (fit,) = lines_below(readmes[start], "## Train")
    environment = student(project)
    shell(make, project, environment)
    lend_packages(project)

    shell(f"{activate}\n{install}", project, environment)
    assert "\nReport: runs/" in shell(f"{activate}\n{fit}", project, environment)
    assert (project / ".venv" / "bin" / "my-lightning-project").is_file()


def unix(line: str) -> str:
    """Return a line for PowerShell as it is typed on this system."""
    line = re.sub(r"^py ", "python3 ", line).replace(r".venv\Scripts", ".venv/bin")
    return line.replace("\\", "/")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("title", [DEMO, WINDOWS, UV], ids=["make", "Windows", "uv"])
def test_the_lines_for_a_clone_bake_install_and_train(readmes, title, clone):
    lines = [unix(line) for line in lines_below(readmes["template"], title)]
    environment = student(clone) | {"UV_PYTHON": sys.executable}
    if title != UV:
        shell("make .venv/bin/python" if title == DEMO else lines.pop(0), clone, environment)
        lend_packages(clone)

    said = shell("\n".join(lines), clone, environment)

    assert float(re.findall(r"test/accuracy (\S+)", said)[-1]) >= 0.98
    assert list((clone / "demo" / "my-lightning-project" / "runs").glob("*/report.html"))
    for further in re.findall(r"^  (cd .*)$", said, flags=re.MULTILINE):  # what `make demo` prints to go on
        shell(f"{further}\npython -m {PACKAGE} runs", clone, environment)
