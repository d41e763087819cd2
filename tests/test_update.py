"""A project follows its template: `cruft` brings what has changed, and leaves what its owner has written."""

import json
import re
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
from project import PACKAGE, TEMPLATE
from test_hooks import HARMLESS
from test_ways_in import ANSWERS, AS_TYPED, GITHUB, assert_same, change, person, repository, shell

DEFAULT = "configs/default.yaml"
UP_TO_DATE = "SUCCESS: Good work! Project's cruft is up to date"
UPDATED = "Good work! Project's cruft has been updated"
UPDATE = "cruft update --skip-apply-ask"
slow = pytest.mark.slow
CONFLICTS = "git diff --name-only --diff-filter=U; find . -name '*.rej'"
OLD, NEW = (f"vendor/lightning_runs-1.0.{number}-py3-none-any.whl" for number in (0, 99))


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
    """Return a function that has `cruft create` make a project, and commits it."""

    def run(answers: dict[str, str] | None = None) -> Path:
        command = ["cruft", "create", GITHUB, "--no-input", "--extra-context", json.dumps(answers or {})]
        shell(command, tmp_path, environment)
        (made,) = tmp_path.glob("*/.cruft.json")
        shell("git init --quiet; git add .; git commit --quiet -m Start", made.parent, environment)
        return made.parent

    return run


def improve(template: Path, environment: dict[str, str]) -> None:
    """Commit what an author does in a year: a new version of the library, changed files, one gone, a new prompt."""
    project = template / TEMPLATE.name
    library = project / "vendor" / "lightning-runs"
    change(library / "pyproject.toml", 'version = "1.0.0"', 'version = "1.0.99"')
    change(library / "src" / "lightning_runs" / "__init__.py", '"1.0.0"', '"1.0.99"')
    change(template / "cookiecutter.json", "lightning_runs-1.0.0-", "lightning_runs-1.0.99-")
    start = project / ".starts" / "images"
    change(start / "configs" / "default.part.yaml", "batch_size: 64", "batch_size: 128")
    change(start / "configs" / "default.part.yaml", "dropout: 0.1", "dropout: 0.2")
    change(project / "README.md", "\n## Install\n", "\n## Installation\n")
    network = start / "src" / "{{cookiecutter.__package}}" / "network.py"
    network.write_text("# Better by one line.\n" + network.read_text(encoding="utf-8"), encoding="utf-8")
    (project / "configs" / "new.yaml").write_text('trainer:\n  max_epochs: {{ cookiecutter.epochs }} # "new"\n')
    (project / "configs" / "quick.yaml").unlink()
    change(template / "cookiecutter.json", '  "torch_build": [', '  "epochs": "30",\n  "torch_build": [')
    shell("git add --all; git commit --quiet -m B", template, environment)


def commit(project: Path, environment: dict[str, str]) -> None:
    shell("git add .; git commit --quiet -m Mine", project, environment)


def documented() -> list[str]:
    """Return the commands of the library's page: to update, to connect a project before, and to exchange the start."""
    page = TEMPLATE / "vendor" / "lightning-runs" / "src" / "lightning_runs" / "docs" / "update.md"
    update, *others = re.findall(r"^```\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [update.splitlines()[0], *others]  # without the installation


def baked(folder: Path, environment: dict[str, str], *arguments: str) -> Path:
    """Return the project that cookiecutter makes of the newest template."""
    shell(["cookiecutter", GITHUB, "--no-input", "-o", str(folder), *arguments], folder.parent, environment)
    (new,) = folder.iterdir()
    return new


def test_cruft_makes_the_project_that_cookiecutter_makes(create, bake_project):
    project = create(ANSWERS)
    (project / ".cruft.json").unlink()
    assert_same(project, bake_project(ANSWERS))


def test_an_update_keeps_what_the_owner_changed(create, template, environment):
    project = create()
    own = project / "src" / PACKAGE
    for file in (own / "network.py", own / "module.py"):
        file.write_text(file.read_text(encoding="utf-8") + "\n\nMINE = 1\n", encoding="utf-8")
    (own / "mine.py").write_text("MINE = 2\n")
    change(project / DEFAULT, "max_epochs: 20", "max_epochs: 7")
    (project / "vendor" / "mine.whl").write_text("mine")
    (project / "configs" / "overfit.yaml").unlink()
    commit(project, environment)
    assert OLD in shell("git ls-files vendor", project, environment)
    assert UP_TO_DATE in shell("cruft check", project, environment)
    improve(template, environment)
    assert UP_TO_DATE not in shell("cruft check", project, environment, status=1)

    assert UPDATED in shell(documented()[0], project, environment)

    assert UP_TO_DATE in shell("cruft check", project, environment)
    assert shell(CONFLICTS, project, environment) == ""
    network, default = ((project / name).read_text(encoding="utf-8") for name in (f"src/{PACKAGE}/network.py", DEFAULT))
    assert (network[:22], network[-11:]) == ("# Better by one line.\n", "\n\nMINE = 1\n")
    assert (own / "module.py").read_text(encoding="utf-8").endswith("\n\nMINE = 1\n")
    assert (own / "mine.py").read_text() == "MINE = 2\n"
    assert "max_epochs: 7\n" in default
    assert "dropout: 0.2" in default
    # a prompt that was not there has its default; what was removed on either side stays away
    assert (project / "configs" / "new.yaml").read_text() == 'trainer:\n  max_epochs: 30 # "new"\n'
    assert not (project / "configs" / "quick.yaml").exists()
    assert not (project / "configs" / "overfit.yaml").exists()
    # the new library alone, and what names it
    assert {path.name for path in project.glob("vendor/*")} == {"mine.whl", Path(NEW).name}
    assert (project / "pyproject.toml").read_text(encoding="utf-8").count(NEW) == 2
    runpy.run_path(str(project / "tests" / "test_vendor.py"))["test_vendor_has_the_wheel_that_pyproject_names"]()


def test_a_wheel_that_did_not_arrive_fails_the_projects_test(create, template, environment):
    project = create()
    (project / OLD).write_bytes(b"another wheel")  # so that cruft's patch does not fit
    commit(project, environment)
    improve(template, environment)

    assert UPDATED in shell(UPDATE, project, environment)

    test = runpy.run_path(str(project / "tests" / "test_vendor.py"))["test_vendor_has_the_wheel_that_pyproject_names"]
    with pytest.raises(AssertionError):
        test()
    assert NEW in (project / "pyproject.toml").read_text(encoding="utf-8")


@slow
def test_the_documented_line_exchanges_the_start(create, environment, tmp_path):
    project = create()
    module = project / "src" / PACKAGE / "module.py"
    module.write_text("MINE = 2\n" + module.read_text(encoding="utf-8"), encoding="utf-8")
    commit(project, environment)

    assert UPDATED in shell(documented()[2], project, environment)
    assert f"UU src/{PACKAGE}/module.py" in shell("git status --short", project, environment)
    shell(f"git checkout --theirs src/{PACKAGE}/module.py", project, environment)

    (project / ".cruft.json").unlink()
    assert_same(project, baked(tmp_path / "new", environment, "start=blank"))


@slow
def test_an_unedited_project_becomes_one_of_the_new_template(create, template, environment, tmp_path):
    texts = zip(("author_name", "description", "project_name"), HARMLESS, strict=False)
    answers = {**ANSWERS, "license": "none", **dict(texts)}
    project = create(answers)
    improve(template, environment)

    shell(UPDATE, project, environment)

    state = json.loads((project / ".cruft.json").read_text(encoding="utf-8"))
    assert {name: state["context"]["cookiecutter"][name] for name in answers} == answers
    (project / ".cruft.json").unlink()
    new = baked(tmp_path / "new", environment, *(f"{name}={text}" for name, text in answers.items()))
    assert_same(project, new)


@slow
def test_the_documented_lines_update_a_cookiecutter_project(template, environment, tmp_path):
    shell(["cookiecutter", "gh:org/lightning-template"], tmp_path, environment, typed=AS_TYPED)
    project = tmp_path / ANSWERS["project_slug"]
    shell("git init --quiet; git add .; git commit --quiet -m Start", project, environment)
    then = shell("git rev-parse HEAD", template, environment)
    improve(template, environment)
    update, link, _ = documented()
    answers = AS_TYPED.splitlines(keepends=True)  # it asks for the new answer too, before that to torch_build
    typed = "".join([*answers[:-1], "\n", answers[-1], then])

    shell(link.replace("TEMPLATE", GITHUB), project, environment, typed=typed)
    assert UPDATED in shell(update, project, environment)

    assert (project / "configs" / "new.yaml").exists()
    assert UP_TO_DATE in shell("cruft check", project, environment)
