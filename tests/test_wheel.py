"""The library's wheel: the same bytes on every system, nothing else in it, and a new version for new code.

Run this file to record the bytes of a version in tests/wheels.json.
"""

import email
import email.message
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from combinations import load_hook
from packaging.requirements import Requirement
from project import ROOT, TEMPLATE
from test_ways_in import person, repository

POST = load_hook("post_gen_project")
LIBRARY = TEMPLATE / "vendor" / "lightning-runs"
VERSION = tomllib.loads((LIBRARY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
WHEEL = f"lightning_runs-{VERSION}-py3-none-any.whl"
RECORDED = ROOT / "tests" / "wheels.json"
NEXT_VERSION = """The library's code has changed, but its version has not: pip would keep the old code.
If {0} was released, raise the version in {1}/pyproject.toml,
in its __init__.py and in `__wheel` of cookiecutter.json, and add a line to its CHANGELOG.md.
Then run: python tests/test_wheel.py"""
Bake = Callable[..., Path]


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Return a copy of the library's folder."""
    return shutil.copytree(LIBRARY, tmp_path / "library", ignore=shutil.ignore_patterns("__pycache__"))


def packed(library: Path) -> bytes:
    """Return the wheel's bytes."""
    target = library.parent / "packed"
    target.mkdir(exist_ok=True)
    return (target / POST.pack_library(str(library), str(target))).read_bytes()


def wheels(project: Path) -> list[str]:
    return [file.name for file in project.glob("vendor/*.whl")]


def test_bytes_do_not_depend_on_the_order_of_folders(library, monkeypatch):
    expected, walk = packed(library), os.walk
    monkeypatch.setattr(os, "walk", lambda top: ((a, b, c[::-1]) for a, b, c in reversed(list(walk(top)))))
    assert packed(library) == expected


def test_bytes_do_not_depend_on_the_system(library, monkeypatch):
    expected, relpath = packed(library), os.path.relpath
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "sep", "\\")
    monkeypatch.setattr(os.path, "relpath", lambda *paths: relpath(*paths).replace("/", "\\"))
    assert packed(library) == expected


def test_bytes_do_not_depend_on_zlib_times_and_modes(library, monkeypatch):
    expected = packed(library)
    monkeypatch.setattr(zipfile, "zlib", None)
    for file in library.rglob("*.py"):
        file.chmod(0o700)
        os.utime(file, (0, 0))
    assert packed(library) == expected


def test_crlf_in_texts_changes_no_byte_of_the_wheel(library):
    binary = library / "src" / "lightning_runs" / "data" / "some.npz"
    binary.write_bytes(b"a\r\nb")
    expected = packed(library)
    for file in library.rglob("*"):
        if file.is_file() and file != binary:
            file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert packed(library) == expected
    assert zipfile.ZipFile(io.BytesIO(expected)).read("lightning_runs/data/some.npz") == b"a\r\nb"


def test_a_project_has_these_bytes(library, bake_project: Bake):
    assert (bake_project() / "vendor" / WHEEL).read_bytes() == packed(library)


def test_stray_files_of_a_clone_stay_out(library):
    expected = packed(library)
    package = library / "src" / "lightning_runs"
    strays = (".env", ".hidden.py", "notes.txt", "x.pyc", "__pycache__/y.py", ".ipynb_checkpoints/z.py", "weights.ckpt")
    for name in strays:
        for folder in (library, package):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("secret")
    assert packed(library) == expected


def test_every_file_of_the_library_is_packed(library):
    # a file with a suffix that the allow-list lacks would be missing for users
    listed = subprocess.run(["git", "ls-files", "src"], cwd=LIBRARY, capture_output=True, text=True, check=True).stdout
    there = {name.removeprefix("src/") for name in listed.split() if (LIBRARY / name).is_file()}
    assert there == {name for name in POST.wheel_members(str(library)) if ".dist-info/" not in name}


def test_members_are_stored_and_sorted_as_on_unix(library):
    members = zipfile.ZipFile(io.BytesIO(packed(library))).infolist()
    assert [member.filename for member in members] == sorted(member.filename for member in members)
    facts = {(m.compress_type, m.create_system, m.external_attr >> 16, m.date_time) for m in members}
    assert facts == {(zipfile.ZIP_STORED, 3, 0o644, (2020, 1, 1, 0, 0, 0))}


def test_pip_installs_the_wheel_and_python_imports_it(library, tmp_path):
    packed(library)
    (wheel,) = (tmp_path / "packed").iterdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", tmp_path / "site", wheel]
    subprocess.run(pip, check=True)
    command = [sys.executable, "-c", "import lightning_runs as library; print(library.__file__, library.__version__)"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    said = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert said.split() == [str(tmp_path / "site/lightning_runs/__init__.py"), VERSION]


def fields(text: bytes) -> dict[str, list[str]]:
    """Return what METADATA says, with requirements in a normal form."""
    message: email.message.Message = email.message_from_bytes(text)
    found = {name: sorted(message.get_all(name, [])) for name in message if name != "Metadata-Version"}
    found["Requires-Dist"] = sorted(str(Requirement(one)) for one in found["Requires-Dist"])
    return found | {"description": [str(message.get_payload()).strip()]}


@pytest.mark.slow  # downloads hatchling
def test_content_is_that_of_hatchlings_own_build(library, tmp_path):
    subprocess.run([sys.executable, "-m", "uv", "build", "--wheel", library, "-o", tmp_path / "built"], check=True)
    archive = zipfile.ZipFile(tmp_path / "built" / WHEEL)
    theirs = {name: archive.read(name) for name in archive.namelist()}
    ours = POST.wheel_members(str(library))
    metadata = f"lightning_runs-{VERSION}.dist-info/METADATA"
    assert ours.keys() == theirs.keys()
    assert fields(ours[metadata]) == fields(theirs[metadata])
    generated = re.compile(r"dist-info/(METADATA|WHEEL|RECORD)$")
    assert [name for name in ours if ours[name] != theirs[name] and not generated.search(name)] == []


@pytest.mark.slow  # downloads hatchling
@pytest.mark.parametrize("tool", [["pip"], ["uv", "pip"]], ids=" ".join)
def test_the_readmes_line_installs_the_library_from_git(tool, tmp_path):
    origin = repository(tmp_path / "origin", person(tmp_path / "home"))
    (line,) = re.findall(r'^pip install "(.*)"$', (LIBRARY / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    requirement = line.replace("https://github.com/org/lightning-template", origin.as_uri())
    command = [
        sys.executable,
        "-m",
        *tool,
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        tmp_path / "site",
        requirement,
    ]
    subprocess.run(command, check=True)
    assert (tmp_path / "site" / f"lightning_runs-{VERSION}.dist-info").is_dir()


def test_one_version_stands_in_all_places():
    prompts = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))
    assert prompts["__wheel"] == WHEEL
    assert f'\n__version__ = "{VERSION}"\n' in (LIBRARY / "src/lightning_runs/__init__.py").read_text(encoding="utf-8")
    assert f"\n## {VERSION}\n" in (LIBRARY / "CHANGELOG.md").read_text(encoding="utf-8")


def test_new_code_has_a_new_version(library):
    advice = NEXT_VERSION.format(VERSION, LIBRARY.relative_to(ROOT).as_posix())
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    assert recorded.get(VERSION) == hashlib.sha256(packed(library)).hexdigest(), advice


@pytest.fixture
def older(bake_project: Bake) -> Path:
    """Return a project that names and has an older wheel."""
    project = bake_project()
    old = "lightning_runs-0.9.0-py3-none-any.whl"
    pyproject = project / "pyproject.toml"
    pyproject.write_text(pyproject.read_text(encoding="utf-8").replace(WHEEL, old), encoding="utf-8")
    (project / "vendor" / WHEEL).rename(project / "vendor" / old)
    return project


def test_a_second_bake_leaves_the_wheel_that_pyproject_names(bake_project: Bake, older):
    before = wheels(older)
    bake_project(overwrite_if_exists=True, skip_if_file_exists=True)
    assert wheels(older) == before
    assert before[0] in (older / "pyproject.toml").read_text(encoding="utf-8")
    bake_project(overwrite_if_exists=True)
    assert wheels(older) == [WHEEL]
    assert WHEEL in (older / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("keep", [False, True])
def test_a_second_bake_leaves_the_users_files_in_vendor(bake_project: Bake, older, keep):
    mine = ["other-1.0-py3-none-any.whl", "lightning-runs/pyproject.toml", "lightning-runs/src/lightning_runs/mine.py"]
    for name in mine:
        (older / "vendor" / name).parent.mkdir(parents=True, exist_ok=True)
        (older / "vendor" / name).write_text("mine")
    bake_project(overwrite_if_exists=True, skip_if_file_exists=keep)
    (wheel,) = older.glob("vendor/lightning_runs-*.whl")
    assert b"mine.py" not in wheel.read_bytes()
    found = {path.relative_to(older / "vendor").as_posix() for path in older.rglob("vendor/**/*") if path.is_file()}
    assert found == {*mine, wheel.name}
    assert {(older / "vendor" / name).read_text() for name in mine} == {"mine"}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        wheel = Path(folder, POST.pack_library(str(LIBRARY), folder)).read_bytes()
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    recorded[VERSION] = hashlib.sha256(wheel).hexdigest()
    RECORDED.write_text(json.dumps(recorded, indent=2) + "\n", encoding="utf-8")
