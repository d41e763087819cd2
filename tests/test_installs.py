"""Fresh environments, made by pip and by uv as the README says, of a project from each way in."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from project import ROOT, clean_environment
from test_ways_in import GITHUB, change, person, repository, shell, zipped
from uv import find_uv_bin

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
SMALL = "--logger csv --trainer.max_epochs 2 --trainer.accelerator cpu"


def interpreter(version: str) -> str:
    """Return the path of a Python of this version, or skip the test if there is none."""
    command = [f"python{version}", "-c", "import sys; print(sys.executable)"]
    environment = {**os.environ, "PYENV_VERSION": version}  # the commands that pyenv puts there ask for it
    try:
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip(f"there is no python{version} on this machine")


def fresh_environment(project: Path) -> dict[str, str]:
    """Return the environment of someone with an empty home and uv, in which nothing of this Python's is found."""
    dropped = ("PYTHON", "VIRTUAL_ENV", "CONDA_", "PYTEST_", "UV_PROJECT", "UV_PYTHON", "OMP_")
    environment = {k: v for k, v in clean_environment(project).items() if not k.startswith(dropped)}
    commands = Path(environment["HOME"]) / "bin"
    commands.mkdir()
    (commands / "uv").symlink_to(find_uv_bin())
    # a pytest that the project lacks must not be taken from here
    own = (str(Path(sys.executable).parent), str(Path(sys.prefix) / "bin"))
    path = [folder for folder in os.environ["PATH"].split(os.pathsep) if folder not in own]
    return environment | {"PATH": os.pathsep.join([str(commands), *path]), "UV_PYTHON_DOWNLOADS": "never"}


def with_registries(environment: dict[str, str]) -> dict[str, str]:
    """Let pip and uv keep what tells them where this machine gets packages, and what they have downloaded before."""
    for settings in (".config/pip", ".config/uv", ".pip"):
        if (Path.home() / settings).is_dir():
            link = Path(environment["HOME"]) / settings
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(Path.home() / settings)
    caches = {}
    for tool in ("pip", "uv"):
        done = subprocess.run([sys.executable, "-m", tool, "cache", "dir"], capture_output=True, text=True)
        if done.returncode == 0:
            caches[f"{tool.upper()}_CACHE_DIR"] = done.stdout.strip()
    return environment | caches


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that makes the default project in one of four ways."""

    def run(way: str) -> Path:
        environment = person(tmp_path / "home")
        origin = repository(tmp_path / "home" / "github" / "org" / "lightning-template.git", environment)
        template = {"path": ROOT, "zip": zipped(origin, tmp_path, environment)}.get(way, GITHUB)
        create = ["cruft", "create"] if way == "cruft" else ["cookiecutter"]
        shell([*create, str(template), "--no-input", "--output-dir", str(tmp_path / way)], tmp_path, environment)
        (project,) = (tmp_path / way).iterdir()
        return project

    return run


@pytest.mark.parametrize(
    ("way", "tool", "version"),
    [("path", "pip", "3.11"), ("zip", "pip", "3.13"), ("git", "uv", "3.11"), ("cruft", "uv", "3.13")],
)
def test_a_fresh_environment_trains_and_passes_the_tests(make, way, tool, version):
    project = make(way)
    environment = with_registries(fresh_environment(project)) | {"UV_PYTHON": interpreter(version)}
    readme = (project / "README.md").read_text(encoding="utf-8")
    pip = readme.split("\n## Install\n")[1].split("```\n")[1]
    (uv,) = re.findall(r"With uv: `(.+?)`, and `(.+?)` before every command below", readme)
    try:
        if tool == "pip":
            shell(pip.replace("python3", interpreter(version), 1), project, environment)
            before = "source .venv/bin/activate\n"
            assert "No broken requirements found." in shell(f"{before}pip check", project, environment)
        else:
            shell(uv[0], project, environment)
            before = f"{uv[1]} "
            shell("uv lock --locked", project, environment)
            lock = tomllib.loads((project / "uv.lock").read_text(encoding="utf-8"))
            (source,) = [one["source"] for one in lock["package"] if one["name"] == "lightning-runs"]
            assert source["path"].startswith("vendor/lightning_runs-")  # not the path of this machine
        said = shell(f"{before}python --version", project, environment)
        assert said.startswith(f"Python {version}.")
        shell(f"{before}python -m my_lightning_project fit --run module {SMALL}", project, environment)
        shell(f"{before}my-lightning-project fit --run command {SMALL}", project, environment)
        records = {file.parent.name: json.loads(file.read_text())["status"] for file in project.glob("runs/*/run.json")}
        assert records == {"module": "finished", "command": "finished"}
        tested = shell(f"{before}pytest", project, environment)
        assert re.search(r"^=+ \d+ passed[^=]* =+$", tested, flags=re.MULTILINE), tested
    finally:
        shutil.rmtree(project / ".venv", ignore_errors=True)  # gigabytes


def write_wheel(folder: Path, name: str, version: str) -> None:
    """Write a wheel without any code."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


def test_uv_takes_torch_alone_from_the_index_of_the_build(bake_project, tmp_path):
    project = bake_project({"torch_build": "cu128"})
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name in ("torch", "torchvision", "numpy"):  # that index has many more packages
        write_wheel(wheels, name, "99.0+cu128")
    pyproject = project / "pyproject.toml"
    change(pyproject, '"https://download.pytorch.org/whl/cu128"', f'"{wheels.as_uri()}"\nformat = "flat"')

    shell("uv lock", project, with_registries(fresh_environment(project)))

    lock = tomllib.loads((project / "uv.lock").read_text(encoding="utf-8"))
    taken = {one["name"] for one in lock["package"] if one.get("version") == "99.0+cu128"}
    assert taken == {"torch", "torchvision"}
