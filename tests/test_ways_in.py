"""Every way from the template to a project ends in the same files, and `cruft` brings what has changed since."""

import json
import re
from pathlib import Path

import pytest
from combinations import PRE
from project import GITHUB, LIBRARY, PACKAGE, ROOT, TEMPLATE, WHEEL, assert_same, change, read_json, shell

# None of them is the default, and the texts hold what means something to YAML, shells or `name=value`.
ANSWERS = {
    "project_name": "Cat Finder: 100 %",
    "project_slug": "cat_finder",
    "description": "It's a=b & c <d> #e, 数据 \N{SNOWMAN}",
    "author_name": "O'Brien {x} % # $HOME",
    "license": "GPL-3.0",
    "start": "masks",
    "logger": "csv",
    "accelerator": "gpu",
    "devices": "2",
    "precision": "bf16-mixed",
    "strategy": "ddp",
    "torch_build": "cu128",
}
# In answer to prompts a choice is typed as its number.
AS_TYPED = "".join(
    f"{PRE.CHOICES[name].index(text) + 1 if name in PRE.CHOICES else text}\n" for name, text in ANSWERS.items()
)
UP_TO_DATE = "SUCCESS: Good work! Project's cruft is up to date"
UPDATED = "Good work! Project's cruft has been updated"
COMMIT = "git add --all; git commit --quiet -m Change"
# the commands of the library's page: to update, and to connect a project before
PAGE = (LIBRARY / "lightning_runs" / "docs" / "update.md").read_text(encoding="utf-8")
UPDATE, LINK, _ = re.findall(r"^```\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
UPDATE = UPDATE.splitlines()[0]  # without the installation


def cook(folder: Path, environment: dict[str, str], *arguments: Path | str, typed: str = "") -> Path:
    """Run cookiecutter's command in an empty folder, and return the folder of the project."""
    folder.mkdir()
    shell(["cookiecutter", *map(str, arguments)], folder, environment, typed)
    (project,) = folder.iterdir()
    return project


def test_typed_and_replayed_answers_give_the_same_project(origin, bake_project, environment, tmp_path):
    expected = bake_project(ANSWERS)
    assert_same(cook(tmp_path / "typed", environment, ROOT, typed=AS_TYPED), expected)
    # of a template that lies elsewhere: the file names the folder of the first one
    (saved,) = (tmp_path / "home" / ".cookiecutter_replay").iterdir()
    saved.rename(tmp_path / "answers.json")
    replayed = cook(tmp_path / "replayed", environment, origin, "--replay-file", tmp_path / "answers.json")
    assert_same(replayed, expected)


def create(folder: Path, environment: dict[str, str], answers: dict[str, str]) -> Path:
    """Have `cruft create` make a project in a folder, and commit it."""
    command = ["cruft", "create", GITHUB, "--no-input", "--extra-context", json.dumps(answers)]
    shell(command, folder, environment)
    (made,) = folder.glob("*/.cruft.json")
    shell(f"git init --quiet; {COMMIT}", made.parent, environment)
    return made.parent


@pytest.mark.parametrize("way", ["gh", "git", "zip", "cruft"])
def test_each_way_to_the_template_gives_the_same_project(origin, bake_project, environment, tmp_path, way):
    archive = tmp_path / "main.zip"  # with one folder in it, as GitHub makes them
    shell(f"git archive --prefix=lightning-template-main/ --output={archive} HEAD", origin, environment)
    templates = {"gh": "gh:org/lightning-template", "git": f"git+{GITHUB}.git", "zip": archive}
    if way == "cruft":
        project = create(tmp_path, environment, ANSWERS)
        (project / ".cruft.json").unlink()
    else:
        answers = [f"{name}={text}" for name, text in ANSWERS.items()]
        project = cook(tmp_path / "cooked", environment, templates[way], "--no-input", *answers)
    assert_same(project, bake_project(ANSWERS))


def improve(template: Path, environment: dict[str, str]) -> None:
    """Commit what an author does in a year: a new version of the library, changed files, one gone, a new prompt."""
    project = template / TEMPLATE.name
    library = project / "vendor" / "lightning-runs"
    change(library / "pyproject.toml", 'version = "1.0.0"', 'version = "1.0.99"')
    change(library / "src" / "lightning_runs" / "__init__.py", '"1.0.0"', '"1.0.99"')
    change(template / "cookiecutter.json", "lightning_runs-1.0.0-", "lightning_runs-1.0.99-")
    start = project / ".starts" / "images"
    change(start / "configs" / "default.part.yaml", "dropout: 0.1", "dropout: 0.2")
    network = start / "src" / "{{cookiecutter.__package}}" / "network.py"
    network.write_text("# Better by one line.\n" + network.read_text(encoding="utf-8"), encoding="utf-8")
    (project / "configs" / "new.yaml").write_text('trainer:\n  max_epochs: {{ cookiecutter.epochs }} # "new"\n')
    (project / "configs" / "quick.yaml").unlink()
    change(template / "cookiecutter.json", '  "torch_build": [', '  "epochs": "30",\n  "torch_build": [')
    shell(COMMIT, template, environment)


def test_an_update_keeps_what_the_owner_changed(origin, environment, tmp_path):
    texts = {"description": "<!-- ``` x>", "author_name": "$HOME `id` %PATH% ~ # - : * ! | > ?"}
    project = create(tmp_path, environment, texts)
    own = project / "src" / PACKAGE
    for file in (own / "network.py", own / "module.py"):
        file.write_text(file.read_text(encoding="utf-8") + "\n\nMINE = 1\n", encoding="utf-8")
    (own / "mine.py").write_text("MINE = 2\n")
    change(project / "configs" / "default.yaml", "max_epochs: 20", "max_epochs: 7")
    (project / "vendor" / "mine.whl").write_text("mine")
    (project / "configs" / "overfit.yaml").unlink()
    shell(COMMIT, project, environment)
    assert UP_TO_DATE in shell("cruft check", project, environment)
    improve(origin, environment)
    assert UP_TO_DATE not in shell("cruft check", project, environment, status=1)

    assert UPDATED in shell(UPDATE, project, environment)

    assert UP_TO_DATE in shell("cruft check", project, environment)
    assert shell("git diff --name-only --diff-filter=U; find . -name '*.rej'", project, environment) == ""
    network = (own / "network.py").read_text(encoding="utf-8")
    assert network.startswith("# Better by one line.\n")
    assert network.endswith("\n\nMINE = 1\n")
    assert (own / "module.py").read_text(encoding="utf-8").endswith("\n\nMINE = 1\n")
    assert (own / "mine.py").read_text() == "MINE = 2\n"
    default = (project / "configs" / "default.yaml").read_text(encoding="utf-8")
    assert "max_epochs: 7\n" in default
    assert "dropout: 0.2" in default
    # a prompt that was not there has its default; what was removed on either side stays away
    assert (project / "configs" / "new.yaml").read_text() == 'trainer:\n  max_epochs: 30 # "new"\n'
    assert not {"quick.yaml", "overfit.yaml"} & {file.name for file in project.glob("configs/*")}
    assert texts.items() <= read_json(project / ".cruft.json")["context"]["cookiecutter"].items()
    # the new library alone, and what names it
    assert {path.name for path in project.glob("vendor/*")} == {"mine.whl", Path(WHEEL.replace("1.0.0", "1.0.99")).name}


@pytest.mark.slow
def test_the_documented_lines_update_a_cookiecutter_project(origin, environment, tmp_path):
    shell(["cookiecutter", "gh:org/lightning-template"], tmp_path, environment, typed=AS_TYPED)
    project = tmp_path / ANSWERS["project_slug"]
    shell(f"git init --quiet; {COMMIT}", project, environment)
    then = shell("git rev-parse HEAD", origin, environment)
    improve(origin, environment)
    answers = AS_TYPED.splitlines(keepends=True)  # it asks for the new answer too, before that to torch_build
    typed = "".join([*answers[:-1], "\n", answers[-1], then])

    shell(LINK.replace("TEMPLATE", GITHUB), project, environment, typed=typed)
    assert UPDATED in shell(UPDATE, project, environment)

    assert (project / "configs" / "new.yaml").exists()
    assert UP_TO_DATE in shell("cruft check", project, environment)
