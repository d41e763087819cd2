"""What a baked project consists of, how one is baked, and how its commands run in processes of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cookiecutter.main import cookiecutter

ROOT = Path(__file__).parents[1]
TEMPLATE = ROOT / "{{cookiecutter.project_slug}}"
LIBRARY = TEMPLATE / "vendor" / "lightning-runs" / "src"
WHEEL = "vendor/lightning_runs-1.0.0-py3-none-any.whl"
PACKAGE = "my_lightning_project"
GITHUB = "https://github.com/org/lightning-template"
STARTS = ("images", "table", "text", "masks", "blank")


def files_below(folder: Path) -> dict[str, Path]:
    """Return the files below a folder, but those of git and Python's caches, by their paths in it."""
    files = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {name.as_posix(): file for name, file in files.items() if not {".git", "__pycache__"} & {*name.parts}}


def start_files(start: str) -> dict[str, Path]:
    """Return the files that a start's project has besides licence and wheel, as they lie in the template."""
    elsewhere = (".starts/", ".licenses/", "vendor/")
    files = {name: file for name, file in files_below(TEMPLATE).items() if not name.startswith(elsewhere)}
    files |= files_below(TEMPLATE / ".starts" / start)
    package = "{{cookiecutter.__package}}"
    return {name.replace(package, PACKAGE): file for name, file in files.items() if ".part." not in name}


def assert_same(project: Path, expected: Path) -> None:
    """Two projects have the same files, byte for byte."""
    found, wanted = files_below(project), files_below(expected)
    assert set(found) == set(wanted)
    assert [name for name in wanted if found[name].read_bytes() != wanted[name].read_bytes()] == []


def bake(output: Path, answers: Mapping[str, str] | None = None, **options: Any) -> Path:
    """Bake a project with answers as if typed at a prompt, which cookiecutter alone would render as Jinja."""
    prompts = read_json(ROOT / "cookiecutter.json")
    literal = {
        name: text if isinstance(prompts[name], list) else "{% raw %}" + text + "{% endraw %}"
        for name, text in (answers or {}).items()
    }
    if "replay" not in options:  # which takes no other answers
        options |= {"no_input": True, "extra_context": literal}
    # not in the home folder
    options["default_config"] = {name: f"{output}.settings/{name}" for name in ("cookiecutters_dir", "replay_dir")}
    return Path(cookiecutter(str(ROOT), output_dir=str(output), **options))


def bake_start(start: str, output: Path) -> Path:
    """Bake the project of a start; its package has a name of its own, so that one process can import all of them."""
    answers = {"project_name": f"{start} project", "start": start}
    return bake(output, {"logger": "csv", "accelerator": "cpu", **answers})


def clean_environment(folder: Path) -> dict[str, str]:
    """Return this process's environment for one in a project's folder, without what would change its course."""
    removed = ("WANDB_", "MLFLOW_", "PL_", "LIGHTNING_", "PYTEST_", "SLURM_", "COV_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(removed)}
    home = folder.parent / "home"
    home.mkdir(exist_ok=True)
    return environment | {
        "PYTHONPATH": os.pathsep.join([str(folder / "src"), str(LIBRARY)]),
        "PYTHONWARNINGS": "",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(home),  # no W&B key of the person who runs the tests
        "OMP_NUM_THREADS": "1",  # two tests run side by side
        "CUDA_VISIBLE_DEVICES": "",
    }


def command(folder: Path, module: str, *arguments: str, status: int = 0) -> str:
    """Run ``python -m MODULE ARGUMENTS`` in a project's folder, and return what it said."""
    return shell([sys.executable, "-m", module, *arguments], folder, clean_environment(folder), status=status)


def own_tests(folder: Path, *options: str, status: int = 0) -> str:
    """Run a project's own tests, and return what they said."""
    return command(folder, "pytest", "-q", "-p", "no:cacheprovider", *options, status=status)


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
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    # nobody is asked for a password
    return kept | {"HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0", "PATH": path}


def shell(
    command: str | list[str], folder: Path, environment: dict[str, str] | None = None, typed: str = "", status: int = 0
) -> str:
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


def read_json(file: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds."""
    return json.loads(file.read_text(encoding="utf-8"))


def change(file: Path, old: str, new: str, count: int = 1) -> None:
    """Replace a text that stands once in a file, or so many times."""
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == count, (file, old, text.count(old))
    file.write_text(text.replace(old, new), encoding="utf-8")


def callback(name: str, *options: str) -> tuple[str, ...]:
    """Return options that add one of Lightning's callbacks, such as ``callback("Timer", "duration=00:01:00:00")``."""
    added = f"--trainer.callbacks+=pytorch_lightning.callbacks.{name}"
    return (added, *(f"--trainer.callbacks.{option}" for option in options))
