"""Fresh environments, made by pip and by uv as the README says; and where each build of PyTorch comes from."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from project import clean_environment
from test_ways_in import change, shell
from uv import find_uv_bin

RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
VERSIONS = ("3.11", "3.13")  # the oldest and the newest that are supported
BUILDS = ("cpu", "cu126", "cu128", "cu130")
PYTORCH = "https://download.pytorch.org"
TORCH = {"torch": "2.14.1", "torchvision": "0.29.2"}


def interpreter(version: str) -> str:
    """Return the path of a Python of this version, or skip the test where there is none."""
    if version == RUNNING:
        return sys.executable
    command = shutil.which(f"python{version}")
    if command:
        # the commands that pyenv puts there answer for the version that is selected
        done = subprocess.run(
            [command, "-c", "import sys; print(sys.executable)"],
            env={**os.environ, "PYENV_VERSION": version},
            capture_output=True,
            text=True,
        )
        if done.returncode == 0:
            return done.stdout.strip()
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
def project(bake_project: Callable[..., Path]) -> Iterator[Path]:
    """Return the default project, whose environment of gigabytes is removed after the test."""
    folder = bake_project()
    yield folder
    shutil.rmtree(folder / ".venv", ignore_errors=True)


def readme(project: Path) -> str:
    return (project / "README.md").read_text(encoding="utf-8")


def block(project: Path, title: str) -> list[str]:
    """Return the lines of code that the project's README has first below a heading."""
    return readme(project).split(f"\n## {title}\n")[1].split("```\n")[1].splitlines()


def assert_it_works(project: Path, environment: dict[str, str], before: str, tests: str = "") -> None:
    """Run the project's tests, its training and its own command, each as it is typed after ``before``."""
    tested = shell(f"{before}pytest {tests}", project, environment)
    assert re.search(r"^=+ \d+ passed[^=]* =+$", tested, flags=re.MULTILINE), tested
    (train,) = block(project, "Train")
    trained = shell(before + train, project, environment)
    accuracy = re.search(r"test/accuracy (\S+)", trained)
    assert accuracy, trained
    assert float(accuracy.group(1)) >= 0.98
    shell(f"{before}my-lightning-project fit -c configs/quick.yaml --run quick", project, environment)
    records = {file.parent.name: json.loads(file.read_text()) for file in project.glob("runs/*/run.json")}
    assert len(records) == 2
    assert "quick" in records
    assert {record["status"] for record in records.values()} == {"finished"}


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_readme_s_lines_for_pip_give_a_project_that_works(project, version):
    environment = with_registries(fresh_environment(project))
    make, *others = block(project, "Install")
    assert make.startswith("python3 -m venv")

    shell("\n".join([make.replace("python3", interpreter(version), 1), *others]), project, environment)

    activate = f"{others[0]}\n"
    assert shell(f"{activate}python --version", project, environment).startswith(f"Python {version}.")
    assert "No broken requirements found." in shell(f"{activate}pip check", project, environment)
    assert_it_works(project, environment, before=activate)


# one of them in `make test`, the quickest of all fresh installs
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(
    "version",
    [
        pytest.param(version, marks=[] if version == RUNNING else pytest.mark.slow)
        for version in sorted({*VERSIONS, RUNNING})
    ],
)
def test_what_the_readme_says_of_uv_gives_a_project_that_works(project, version):
    environment = with_registries(fresh_environment(project)) | {"UV_PYTHON": interpreter(version)}
    said = re.search(r"With uv: `(.+?)`, and `(.+?)` before every command below", readme(project))
    assert said
    install, before = said.groups()

    shell(install, project, environment)

    assert shell(f"{before} python --version", project, environment).startswith(f"Python {version}.")
    # what needs a package that is not installed shows in any of its tests; all of them run with the other Pythons
    assert_it_works(project, environment, f"{before} ", "tests/test_train.py" if version == RUNNING else "")


# ---- Builds of PyTorch, from an index of empty wheels on this machine


def write_wheel(folder: Path, name: str, version: str, requires: str = "") -> None:
    """Write a wheel without any code, and the page of an index that names it."""
    folder = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    texts = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    hashes = {n: base64.urlsafe_b64encode(hashlib.sha256(t.encode()).digest()).decode() for n, t in texts.items()}
    record = "".join(f"{n},sha256={hashes[n].rstrip('=')},{len(t.encode())}\n" for n, t in texts.items())
    with zipfile.ZipFile(file, "w") as archive:
        for member, text in {**texts, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(member, text)
    link = f'<a href="{file.name.replace("+", "%2B")}">{file.name}</a>\n'
    (folder / "index.html").write_text(f"<!DOCTYPE html><html><body>\n{link}</body></html>\n")


class Index:
    """Two kinds of indexes: ``/simple`` in place of PyPI, and ``/whl/BUILD`` in place of PyTorch's own.

    Args:
        folder: Where the wheels are written and served from.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        for build in BUILDS:
            pages = folder / "whl" / build
            write_wheel(pages, "torch", f"{TORCH['torch']}+{build}")
            requires = f"Requires-Dist: torch=={TORCH['torch']}\n"
            write_wheel(pages, "torchvision", f"{TORCH['torchvision']}+{build}", requires)
            # PyTorch's indexes have many more packages; those must be left where they are
            write_wheel(pages, "numpy", "99.0")
        index = self

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                index.asked.append(self.path)
                super().do_GET()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def publish_what_is_needed_by(self, project: Path) -> None:
        """Offer each package that a project names, torch in the build of PyPI."""
        change(project / "pyproject.toml", 'exclude-newer = "7 days"', "")  # the pages here give no dates
        pyproject = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
        extras = pyproject["project"]["optional-dependencies"].values()
        named = [*pyproject["project"]["dependencies"], *(name for extra in extras for name in extra)]
        for name, version in re.findall(r"^([\w-]+)(?:\[.*\])?>=([\d.]+)", "\n".join(named), flags=re.MULTILINE):
            write_wheel(self.folder / "simple", name, TORCH.get(name) or version)

    def asked_of(self, kind: str) -> set[str]:
        """Return the names of the packages that were asked for at ``simple`` or ``whl``."""
        parts = [path.strip("/").split("/") for path in self.asked]
        return {part[2 if kind == "whl" else 1] for part in parts if part[0] == kind}

    def environment(self, fresh: dict[str, str]) -> dict[str, str]:
        """Return an environment in which pip and uv know of no other index and have nothing yet."""
        return {k: v for k, v in fresh.items() if not k.startswith(("PIP_", "UV_"))} | {
            "UV_DEFAULT_INDEX": f"{self.address}/simple",
            "UV_CACHE_DIR": str(self.folder / "cache"),
            "UV_PYTHON": sys.executable,
            "PIP_INDEX_URL": f"{self.address}/simple",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_CACHE_DIR": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    index = Index(tmp_path / "index")
    yield index
    index.server.shutdown()
    index.server.server_close()


def installed(project: Path) -> dict[str, str]:
    """Return the versions of torch and torchvision in a project's environment."""
    found = (folder.name.removesuffix(".dist-info").split("-") for folder in project.glob(".venv/lib/*/*/*.dist-info"))
    return {name: version for name, version in found if name in TORCH}


@pytest.mark.parametrize("build", BUILDS)
def test_uv_takes_torch_and_torchvision_alone_from_the_index_of_the_build(bake_project, index, build):
    project = bake_project({"torch_build": build})
    index.publish_what_is_needed_by(project)
    # not by UV_INDEX=pytorch=...: an index that is named there is asked for every package
    change(project / "pyproject.toml", f'"{PYTORCH}/whl/{build}"', f'"{index.address}/whl/{build}"')
    (install,) = re.findall(r"^RUN (uv sync .*--no-install-project)$", (project / "Dockerfile").read_text(), re.M)

    shell(install, project, index.environment(fresh_environment(project)))

    expected = {name: f"{version}+{build}" for name, version in TORCH.items()}
    assert installed(project) == expected
    lock = tomllib.loads((project / "uv.lock").read_text(encoding="utf-8"))
    sources = {p["name"]: (p["version"], p["source"].get("registry")) for p in lock["package"]}
    assert sources.pop(project.name)[1] is None
    for name, version in expected.items():
        assert sources.pop(name) == (version, f"{index.address}/whl/{build}")
    assert {source for _, source in sources.values()} == {f"{index.address}/simple"}
    assert {"numpy", "pytorch-lightning", "wandb", "tensorboard", "pytest"} <= set(sources)
    assert index.asked_of("whl") == {"torch", "torchvision"}


def test_uv_takes_the_default_build_from_where_it_takes_everything(bake_project, index):
    project = bake_project()
    index.publish_what_is_needed_by(project)

    shell("uv sync --no-install-project", project, index.environment(fresh_environment(project)))

    assert installed(project) == TORCH
    lock = tomllib.loads((project / "uv.lock").read_text(encoding="utf-8"))
    sources = {p["name"]: p["source"].get("registry") for p in lock["package"]}
    assert sources["torch"] == sources["torchvision"] == sources["numpy"] == f"{index.address}/simple"
    assert index.asked_of("whl") == set()


@pytest.mark.parametrize("build", BUILDS)
def test_the_readme_s_line_for_pip_takes_the_wheels_of_the_build(bake_project, index, build):
    pytest.importorskip("pip")
    project = bake_project({"torch_build": build})
    (line,) = [line for line in block(project, "Install") if line.startswith("pip install torch")]
    assert f"{PYTORCH}/whl/{build}" in line.split()
    command = line.replace(PYTORCH, index.address).split()[1:]
    options = ["--dry-run", "--no-deps", "--ignore-installed", "--quiet", "--report", "-"]

    report = shell(
        [sys.executable, "-m", "pip", *command, *options], project, index.environment(fresh_environment(project))
    )

    taken = {item["metadata"]["name"]: item for item in json.loads(report)["install"]}
    assert {name: item["metadata"]["version"] for name, item in taken.items()} == {
        name: f"{version}+{build}" for name, version in TORCH.items()
    }
    for item in taken.values():
        assert item["download_info"]["url"].startswith(f"{index.address}/whl/{build}/")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_pip_leaves_a_build_that_is_there_alone(bake_project, index):
    project = bake_project({"torch_build": "cu128"})
    *torch, rest = block(project, "Install")
    assert rest == 'pip install -e ".[dev]"'
    fresh = fresh_environment(project)
    environment = index.environment(fresh)
    shell("\n".join(torch).replace(PYTORCH, index.address).replace("python3", sys.executable, 1), project, environment)
    assert installed(project) == {name: f"{version}+cu128" for name, version in TORCH.items()}

    # the rest from where this machine gets packages
    shell(f"{torch[1]}\n{rest} --dry-run --quiet --report report.json", project, with_registries(fresh))

    names = {item["metadata"]["name"] for item in json.loads((project / "report.json").read_text())["install"]}
    assert {"pytorch-lightning", "torchmetrics", "wandb"} <= names
    assert not {name for name in names if name in TORCH or name.startswith(("nvidia", "triton"))}
