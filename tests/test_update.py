"""A project follows its template: `cruft` brings what has changed, and leaves what its owner has written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from project import PACKAGE, TEMPLATE
from test_hooks import HARMLESS
from test_ways_in import ANSWERS, AS_TYPED, GITHUB, assert_same, change, person, repository, shell, tree

DEFAULT = "configs/default.yaml"
TEXTS = ("author_name", "description", "project_name")
UP_TO_DATE = "SUCCESS: Good work! Project's cruft is up to date"
OUT_OF_DATE = "FAILURE: Project's cruft is out of date! Run `cruft update`"
UPDATED = "Good work! Project's cruft has been updated"
UNCLEAN = "Cruft cannot apply updates on an unclean git project."


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    # where nobody is asked for a password
    return person(tmp_path / "home") | {"GIT_TERMINAL_PROMPT": "0"}


@pytest.fixture
def template(tmp_path: Path, environment: dict[str, str]) -> Path:
    """Return a git repository of the template, which is on GitHub for this test's git."""
    return repository(tmp_path / "home" / "github" / "org" / "lightning-template.git", environment)


@pytest.fixture
def create(template: Path, tmp_path: Path, environment: dict[str, str]) -> Callable[..., Path]:
    """Return a function that has `cruft create` make a project, and commits it as it was made unless told otherwise."""

    def run(answers: dict[str, str] | None = None, commit: bool = True) -> Path:
        command = ["cruft", "create", GITHUB, "--no-input", "--extra-context", json.dumps(answers or {})]
        shell(command, tmp_path, environment)
        (made,) = tmp_path.glob("*/.cruft.json")
        if commit:
            shell("git init --quiet; git add .; git commit --quiet -m Start", made.parent, environment)
        return made.parent

    return run


def improve(template: Path, environment: dict[str, str]) -> None:
    """Commit to the template what an author does in a year: change files, add and remove one, add a prompt."""
    project = template / TEMPLATE.name
    front = project / ".tasks" / "image_classification"
    change(front / "configs" / "default.part.yaml", "batch_size: 64", "batch_size: 128")
    change(front / "configs" / "default.part.yaml", "dropout: 0.1", "dropout: 0.2")
    change(project / "configs" / "fsdp.yaml", "trainer:\n", "trainer:\n  max_epochs: 5\n")
    change(project / "README.md", "\n## Install\n", "\n## Installation\n")
    for folder, name in ((front, "network.py"), (project, "runtime/cli.py")):
        file = folder / "src" / "{{cookiecutter.__package}}" / name
        file.write_text("# Better by one line.\n" + file.read_text(encoding="utf-8"), encoding="utf-8")
    (project / "configs" / "new.yaml").write_text('trainer:\n  max_epochs: {{ cookiecutter.epochs }} # "new"\n')
    (project / "configs" / "profile.yaml").unlink()
    change(template / "cookiecutter.json", '  "torch_build": [', '  "epochs": "30",\n  "torch_build": [')
    change(template / "cookiecutter.json", '"wandb>=0.19"', '"wandb>=0.20"')
    shell("git add --all; git commit --quiet -m B", template, environment)


def commit(project: Path, environment: dict[str, str]) -> None:
    shell("git add .; git commit --quiet -m Mine", project, environment)


def section(project: Path) -> str:
    """Return what the project's docs say on updates."""
    page = (project / "docs" / "update.md").read_text(encoding="utf-8")
    return page.split("\n## Update from the template\n")[1].split("\n## ")[0]


def commands(project: Path) -> tuple[str, str]:
    """Return the lines of docs/update.md that update a project, and those that connect one before."""
    update, link = re.findall(r"^```\n(.*?)^```", section(project), flags=re.MULTILINE | re.DOTALL)
    return update, link


def test_cruft_makes_the_project_that_cookiecutter_makes(create, bake_project):
    project = create(ANSWERS, commit=False)
    (project / ".cruft.json").unlink()

    assert_same(project, bake_project(ANSWERS))


def test_an_update_brings_what_the_template_changed_and_keeps_what_the_owner_did(create, template, environment):
    project = create()
    own = project / "src" / PACKAGE
    network, module, readme, default = own / "network.py", own / "module.py", project / "README.md", project / DEFAULT
    for file in (network, module):
        file.write_text(file.read_text(encoding="utf-8") + "\n\nMINE = 1\n", encoding="utf-8")
    (own / "mine.py").write_text("MINE = 2\n")
    change(default, "max_epochs: 20", "max_epochs: 7")
    change(readme, "\nA deep-learning project built on PyTorch Lightning.\n", "\nFinds cats.\n")
    (project / "configs" / "fsdp.yaml").unlink()
    commit(project, environment)
    assert UP_TO_DATE in shell("cruft check", project, environment)
    improve(template, environment)
    assert OUT_OF_DATE in shell("cruft check", project, environment, status=1)

    said = shell("cruft update --skip-apply-ask", project, environment)

    assert UPDATED in said
    assert UP_TO_DATE in shell("cruft check", project, environment)
    text = {file.name: file.read_text(encoding="utf-8") for file in (network, readme, default)}
    assert text["network.py"].startswith("# Better by one line.\n")
    assert text["network.py"].endswith("\n\nMINE = 1\n")
    assert "\nFinds cats.\n" in text["README.md"]
    assert "\n## Installation\n" in text["README.md"]
    assert "max_epochs: 7\n" in text["default.yaml"]
    assert "dropout: 0.2" in text["default.yaml"]
    assert module.read_text(encoding="utf-8").endswith("\n\nMINE = 1\n")
    assert (own / "mine.py").read_text() == "MINE = 2\n"
    # the machinery is the template's
    (theirs,) = (template / TEMPLATE.name / "src").glob("*/runtime")
    assert tree(own / "runtime") == tree(theirs)
    # a prompt that was not there has its default, and a value that depends on others is a new one
    assert (project / "configs" / "new.yaml").read_text() == 'trainer:\n  max_epochs: 30 # "new"\n'
    assert '"wandb>=0.20"' in (project / "pyproject.toml").read_text(encoding="utf-8")
    # what the template removed is gone, and what the owner removed stays away
    assert not (project / "configs" / "profile.yaml").exists()
    assert not (project / "configs" / "fsdp.yaml").exists()
    assert shell("git diff --name-only --diff-filter=U; find . -name '*.rej'", project, environment) == ""


def test_a_project_of_another_task_is_updated_too(create, template, environment):
    project = create({"dataset": "own"})
    module = project / "src" / PACKAGE / "module.py"
    module.write_text(module.read_text(encoding="utf-8") + "\n\nMINE = 1\n", encoding="utf-8")
    commit(project, environment)
    front = template / TEMPLATE.name / ".tasks" / "own"
    change(front / "configs" / "default.part.yaml", "hidden_size: 128", "hidden_size: 256")
    for name in ("data.py", "module.py"):
        file = front / "src" / "{{cookiecutter.__package}}" / name
        file.write_text("# Better by one line.\n" + file.read_text(encoding="utf-8"), encoding="utf-8")
    shell("git commit --quiet --all -m B", template, environment)

    assert UPDATED in shell("cruft update --skip-apply-ask", project, environment)

    assert module.read_text(encoding="utf-8").startswith("# Better by one line.\n")
    assert module.read_text(encoding="utf-8").endswith("\n\nMINE = 1\n")
    assert (module.parent / "data.py").read_text(encoding="utf-8").startswith("# Better by one line.\n")
    assert "hidden_size: 256" in (project / DEFAULT).read_text(encoding="utf-8")
    assert (
        shell("git diff --name-only --diff-filter=U; find . -name '*.rej' -o -name .tasks", project, environment) == ""
    )


def test_the_documented_line_exchanges_the_front(create, environment, tmp_path):
    project = create()
    own = project / "src" / PACKAGE
    (own / "mine.py").write_text("MINE = 1\n")
    (own / "module.py").write_text("MINE = 2\n" + (own / "module.py").read_text(encoding="utf-8"), encoding="utf-8")
    change(project / DEFAULT, "max_epochs: 20", "max_epochs: 7")
    commit(project, environment)
    page = (project / "docs" / "update.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^cruft update .*--variables-to-update.*dataset.*$", page, flags=re.MULTILINE)

    assert UPDATED in shell(line, project, environment)
    assert f"UU src/{PACKAGE}/module.py" in shell("git status --short", project, environment)
    shell(f"git checkout --theirs src/{PACKAGE}/module.py", project, environment)

    change(project / DEFAULT, "max_epochs: 7", "max_epochs: 20")
    (own / "mine.py").unlink()
    (project / ".cruft.json").unlink()
    arguments = ["cookiecutter", GITHUB, "--no-input", "-o", str(tmp_path / "new"), "dataset=own"]
    shell(arguments, tmp_path, environment)
    (new,) = (tmp_path / "new").iterdir()
    assert_same(project, new)


@pytest.mark.parametrize(("before", "after"), [("all", "core"), ("core", "all")])
def test_the_documented_line_removes_or_adds_commands(create, environment, tmp_path, before, after):
    project = create({"commands": before})
    change(project / DEFAULT, "max_epochs: 20", "max_epochs: 7")
    commit(project, environment)
    page = (project / "docs" / "update.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^cruft update .*--variables-to-update.*commands.*$", page, flags=re.MULTILINE)

    assert UPDATED in shell(line, project, environment)

    change(project / DEFAULT, "max_epochs: 7", "max_epochs: 20")
    (project / ".cruft.json").unlink()
    shell(
        ["cookiecutter", GITHUB, "--no-input", "-o", str(tmp_path / "new"), f"commands={after}"], tmp_path, environment
    )
    (new,) = (tmp_path / "new").iterdir()
    assert_same(project, new)


def test_a_line_that_both_changed_is_marked_in_the_file(create, template, environment):
    project = create()
    default = project / "configs" / "default.yaml"
    change(default, "batch_size: 64", "batch_size: 32")
    commit(project, environment)
    improve(template, environment)

    said = shell("cruft update --skip-apply-ask", project, environment)

    assert "Applied patch to 'configs/default.yaml' with conflicts." in said
    comment = "# images per step per device"
    assert (
        f"<<<<<<< ours\n  batch_size: 32 {comment}\n=======\n  batch_size: 128 {comment}\n>>>>>>> theirs\n"
    ) in default.read_text(encoding="utf-8")
    assert "dropout: 0.2" in default.read_text(encoding="utf-8")
    assert (project / "configs" / "new.yaml").exists()
    assert "UU configs/default.yaml" in shell("git status --short", project, environment)
    # it counts as updated, and the next update is not offered the same again
    commit(project, environment)
    assert UP_TO_DATE in shell("cruft check", project, environment)
    assert "Nothing to do, project's cruft is already up to date!" in shell("cruft update", project, environment)


def test_what_does_not_fit_an_edited_start_is_put_beside_the_file(create, template, environment):
    project = create(commit=False)
    change(project / "configs" / "default.yaml", "batch_size: 64", "batch_size: 32")
    shell("git init --quiet; git add .; git commit --quiet -m Start", project, environment)
    improve(template, environment)

    said = shell("cruft update --skip-apply-ask", project, environment)

    assert "Project directory may have *.rej files reflecting merge conflicts" in said
    assert "\n+  batch_size: 128 " in (project / "configs" / "default.yaml.rej").read_text(encoding="utf-8")
    default = (project / "configs" / "default.yaml").read_text(encoding="utf-8")
    assert "batch_size: 32" in default
    assert "dropout: 0.2" in default
    assert (project / "configs" / "new.yaml").exists()
    assert [path.name for path in project.rglob("*.rej")] == ["default.yaml.rej"]


def test_an_update_waits_until_everything_is_committed(create, template, environment):
    project = create()
    improve(template, environment)
    (project / "notes.txt").write_text("mine")
    before = tree(project)

    assert UNCLEAN in shell("cruft update --skip-apply-ask", project, environment, status=1)
    assert tree(project) == before


@pytest.mark.parametrize(
    "answers",
    [
        *({"project_slug": "cats", **dict(zip(TEXTS, HARMLESS[i:], strict=False))} for i in range(0, len(HARMLESS), 3)),
        {**ANSWERS, "license": "none"},
    ],
    ids=lambda answers: answers["author_name"],
)
def test_an_unedited_project_becomes_the_one_that_the_new_template_makes(
    create, template, environment, answers, tmp_path
):
    project = create(answers)
    improve(template, environment)

    shell("cruft update --skip-apply-ask", project, environment)

    arguments = [f"{name}={text}" for name, text in answers.items()]
    shell(["cookiecutter", GITHUB, "--no-input", "-o", str(tmp_path / "new"), *arguments], tmp_path, environment)
    state = json.loads((project / ".cruft.json").read_text(encoding="utf-8"))
    assert {name: state["context"]["cookiecutter"][name] for name in answers} == answers
    (project / ".cruft.json").unlink()
    (new,) = (tmp_path / "new").iterdir()
    assert_same(project, new)


def test_the_documented_lines_update_a_project_of_cruft(create, template, environment):
    project = create()
    improve(template, environment)

    assert UPDATED in shell(commands(project)[0], project, environment)
    assert (project / "configs" / "new.yaml").exists()


@pytest.mark.parametrize("named", [True, False], ids=["the commit of then", "the newest"])
def test_the_documented_lines_connect_and_update_a_project_of_cookiecutter(template, environment, tmp_path, named):
    shell(["cookiecutter", "gh:org/lightning-template"], tmp_path, environment, typed=AS_TYPED)
    project = tmp_path / ANSWERS["project_slug"]
    shell("git init --quiet; git add .; git commit --quiet -m Start", project, environment)
    then = shell("git rev-parse HEAD", template, environment)
    improve(template, environment)
    update, link = commands(project)
    assert GITHUB in section(project)
    # it asks for the new answer too, before those to torch_build and commands
    answers = AS_TYPED.splitlines(keepends=True)
    typed = "".join([*answers[:-2], "\n", *answers[-2:]])

    shell(link.replace("TEMPLATE", GITHUB), project, environment, typed=typed + (then if named else "\n"))
    assert shell("git status --short", project, environment) == ""
    said = shell(update, project, environment)

    # from the newest commit on, what was changed before does not come
    assert (UPDATED in said) == named
    assert (project / "configs" / "new.yaml").exists() == named
    assert UP_TO_DATE in shell("cruft check", project, environment)
