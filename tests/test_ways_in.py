"""Every way to hand the template and the answers to cookiecutter ends in the same project."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from project import ROOT

PROMPTS = {
    name: value
    for name, value in json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8")).items()
    if not name.startswith("_")
}
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
AS_ARGUMENTS = [f"{name}={text}" for name, text in ANSWERS.items()]
# In answer to prompts a choice is typed as its number.
AS_TYPED = "".join(
    f"{PROMPTS[name].index(text) + 1 if isinstance(PROMPTS[name], list) else text}\n" for name, text in ANSWERS.items()
)
GITHUB = "https://github.com/org/lightning-template"
Cook = Callable[..., Path]


def person(home: Path) -> dict[str, str]:
    """Return the environment of someone new to cookiecutter, whose git goes to ``home / "github"`` for GitHub."""
    home.mkdir(exist_ok=True)
    (home / "ignored").write_text("*.whl\n")  # as in many a list of that kind
    (home / ".gitconfig").write_text(
        f"[user]\n\tname = A Person\n\temail = person@example.com\n[core]\n\texcludesFile = {home / 'ignored'}\n"
        f'[url "{(home / "github").as_uri()}/"]\n\tinsteadOf = https://github.com/\n',
        encoding="utf-8",
    )
    # git sets its own for hooks, and the tests may run in one
    dropped = ("GIT_", "COOKIECUTTER", "XDG_")
    kept = {name: text for name, text in os.environ.items() if not name.startswith(dropped)}
    return kept | {
        "HOME": str(home),
        "USERPROFILE": str(home),
        "GIT_CONFIG_NOSYSTEM": "1",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }


def shell(command: str | list[str], folder: Path, environment: dict[str, str], typed: str = "", status: int = 0) -> str:
    """Run a command, or lines for bash, and return what it said on stdout and stderr."""
    done = subprocess.run(
        ["bash", "-ec", command] if isinstance(command, str) else command,
        cwd=folder,
        env=environment,
        input=typed,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    assert done.returncode == status, done.stdout
    return done.stdout


def repository(folder: Path, environment: dict[str, str]) -> Path:
    """Make a git repository of what git takes of the template, as it stands now, and return its folder."""
    folder.mkdir(parents=True)
    shell(["git", "init", "--quiet", "."], folder, environment)
    shell(["git", f"--git-dir={folder / '.git'}", f"--work-tree={ROOT}", "add", "--all"], ROOT, environment)
    shell("git commit --quiet -m A; git reset --quiet --hard", folder, environment)
    return folder


def zipped(origin: Path, folder: Path, environment: dict[str, str]) -> Path:
    """Pack a repository into a file with one folder in it, as GitHub makes them, and return the file."""
    archive = folder / "main.zip"
    command = ["git", "archive", "--prefix=lightning-template-main/", f"--output={archive}", "HEAD"]
    shell(command, origin, environment)
    return archive


def change(file: Path, old: str, new: str) -> None:
    """Replace a text that stands in a file once."""
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, (file, old, text.count(old))
    file.write_text(text.replace(old, new), encoding="utf-8")


def tree(project: Path) -> dict[str, bytes | None]:
    """Return the files below a folder with their contents, and the folders with None."""
    return {
        path.relative_to(project).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in project.rglob("*")
        if not {".git", "__pycache__"} & set(path.relative_to(project).parts)
    }


def assert_same(project: Path, expected: Path) -> None:
    found, wanted = tree(project), tree(expected)
    assert set(found) == set(wanted)
    assert [name for name in wanted if found[name] != wanted[name]] == []


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return person(tmp_path / "home")


@pytest.fixture
def origin(tmp_path: Path, environment: dict[str, str]) -> Path:
    """Return a repository that is on GitHub for this test's git."""
    return repository(tmp_path / "home" / "github" / "org" / "lightning-template.git", environment)


@pytest.fixture
def expected(bake_project: Callable[..., Path]) -> Path:
    """Return the project that cookiecutter's function bakes of the answers."""
    return bake_project(ANSWERS)


@pytest.fixture
def cook(tmp_path: Path, environment: dict[str, str]) -> Cook:
    """Return a function that runs cookiecutter's command and returns the project's folder."""

    def run(template: Path | str, *arguments: Path | str, output: str = "cooked", typed: str = "") -> Path:
        folder = tmp_path / output
        command = ["cookiecutter", str(template), "-o", str(folder), *map(str, arguments)]
        shell(command, tmp_path, environment, typed)
        (project,) = folder.iterdir()
        return project

    return run


def test_answers_as_arguments_give_the_same_project(cook: Cook, expected):
    assert_same(cook(ROOT, "--no-input", *AS_ARGUMENTS), expected)
    # an argument is the default at its prompt
    assert_same(cook(ROOT, *AS_ARGUMENTS, output="again", typed="\n" * len(PROMPTS)), expected)


def test_answers_in_a_settings_file_give_the_same_project(cook: Cook, expected, tmp_path):
    answers = {**ANSWERS, "devices": 2}  # nobody puts a number between quotes
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"default_context": answers}, allow_unicode=True), "utf-8")
    assert_same(cook(ROOT, "--no-input", "--config-file", tmp_path / "mine.yaml"), expected)
    (tmp_path / "mine.yaml").rename(tmp_path / "home" / ".cookiecutterrc")
    assert_same(cook(ROOT, "--no-input", output="again"), expected)


def test_typed_and_replayed_answers_give_the_same_project(cook: Cook, origin, expected, tmp_path):
    assert_same(cook(ROOT, typed=AS_TYPED), expected)
    assert_same(cook(ROOT, "--replay", output="again"), expected)
    # of a template that lies elsewhere: the file names the folder of the first one
    (saved,) = (tmp_path / "home" / ".cookiecutter_replay").iterdir()
    saved.rename(tmp_path / "answers.json")
    assert_same(cook(origin, "--replay-file", tmp_path / "answers.json", output="third"), expected)


@pytest.mark.parametrize("address", ["gh:org/lightning-template", GITHUB, f"git+{GITHUB}.git"])
def test_a_template_by_its_git_address_gives_the_same_project(cook: Cook, origin, expected, address):
    assert_same(cook(address, "--no-input", *AS_ARGUMENTS), expected)


def test_a_template_in_a_bare_repository_gives_the_same_project(cook: Cook, origin, expected, environment, tmp_path):
    bare = tmp_path / "bare" / "lightning-template.git"
    shell(["git", "clone", "--quiet", "--bare", str(origin), str(bare)], tmp_path, environment)
    for prefix in ("", "git+"):
        project = cook(prefix + bare.as_uri(), "--no-input", *AS_ARGUMENTS, output=f"{prefix}cooked")
        assert_same(project, expected)


def test_a_template_in_a_zip_file_gives_the_same_project(cook: Cook, origin, expected, environment, tmp_path):
    assert_same(cook(zipped(origin, tmp_path, environment), "--no-input", *AS_ARGUMENTS), expected)
