"""The library's wheel: the same bytes on every system, nothing else in it, and a new version for new code.

Run this file to record the bytes of a version in tests/wheels.json.
"""

import hashlib
import io
import json
import os
import re
import shutil
import sys
import tempfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from combinations import load_hook
from packaging.requirements import Requirement
from project import ROOT, TEMPLATE, files_below, read_json, shell

POST = load_hook("post_gen_project")
LIBRARY = TEMPLATE / "vendor" / "lightning-runs"
PROJECT = tomllib.loads((LIBRARY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
VERSION = PROJECT["version"]
WHEEL = f"lightning_runs-{VERSION}-py3-none-any.whl"
RECORDED = ROOT / "tests" / "wheels.json"


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Return a copy of the library's folder."""
    return shutil.copytree(LIBRARY, tmp_path / "library", ignore=shutil.ignore_patterns("__pycache__"))


def packed(library: Path) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return Path(folder, POST.pack_library(str(library), folder)).read_bytes()


def test_a_project_has_the_bytes_that_every_system_packs(library, bake_project, monkeypatch):
    binary = library / "src" / "lightning_runs" / "data" / "some.npz"
    binary.write_bytes(b"a\r\nb")
    expected = packed(library)
    archive = zipfile.ZipFile(io.BytesIO(expected))
    assert archive.read("lightning_runs/data/some.npz") == b"a\r\nb"
    facts = {(m.compress_type, m.create_system, m.external_attr >> 16, m.date_time) for m in archive.infolist()}
    assert facts == {(zipfile.ZIP_STORED, 3, 0o644, (2020, 1, 1, 0, 0, 0))}
    walk, relpath = os.walk, os.path.relpath
    with monkeypatch.context() as patch:
        # as on Windows, with folders in another order, without zlib, and other modes, times and line ends
        patch.setattr(sys, "platform", "win32")
        patch.setattr(os.path, "relpath", lambda *paths: relpath(*paths).replace("/", "\\"))
        patch.setattr(os, "sep", "\\")
        patch.setattr(os, "walk", lambda top: ((a, b, c[::-1]) for a, b, c in reversed(list(walk(top)))))
        patch.setattr(zipfile, "zlib", None)
        for file in files_below(library).values():
            if file != binary:
                file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
            file.chmod(0o700)
            os.utime(file, (0, 0))
        assert packed(library) == expected
    binary.unlink()
    assert (bake_project() / "vendor" / WHEEL).read_bytes() == packed(library)


def test_the_wheel_has_what_git_has_and_no_stray_file(library):
    package = library / "src" / "lightning_runs"
    strays = (".env", ".hidden.py", "notes.txt", "x.pyc", "__pycache__/y.py", ".ipynb_checkpoints/z.py", "weights.ckpt")
    for name in strays:
        for folder in (library, package):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("secret")
    # a file with a suffix that the allow-list lacks would be missing for users
    listed = shell("git ls-files src", LIBRARY).split()
    there = {name.removeprefix("src/") for name in listed if (LIBRARY / name).is_file()}
    assert there == {name for name in POST.wheel_members(str(library)) if ".dist-info/" not in name}


def install(requirement: str | Path, site: Path) -> None:
    """Have pip install a package, without those that it needs, into a folder."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(requirement)]
    shell(pip, ROOT)


def test_pip_installs_the_wheel_and_python_imports_it(library, tmp_path):
    install(tmp_path / POST.pack_library(str(library), str(tmp_path)), tmp_path / "site")
    code = "import lightning_runs as library; print(library.__file__, library.__version__)"
    said = shell([sys.executable, "-c", code], tmp_path, os.environ | {"PYTHONPATH": str(tmp_path / "site")})
    assert said.split() == [str(tmp_path / "site/lightning_runs/__init__.py"), VERSION]
    found = metadata.Distribution.at(tmp_path / "site" / f"lightning_runs-{VERSION}.dist-info")
    groups = {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
    lines = {f'{line}; extra == "{extra}"' if extra else line for extra, lines in groups.items() for line in lines}
    assert {str(Requirement(line)) for line in found.requires or ()} == {str(Requirement(line)) for line in lines}
    assert set(found.metadata.get_all("Provides-Extra", ())) == set(PROJECT["optional-dependencies"])


@pytest.mark.slow  # downloads hatchling
def test_the_readmes_line_installs_the_library_from_git(origin, tmp_path):
    (line,) = re.findall(r'^pip install "(.*)"$', (LIBRARY / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    install(line.replace("https://github.com/org/lightning-template", origin.as_uri()), tmp_path / "site")
    assert (tmp_path / "site" / f"lightning_runs-{VERSION}.dist-info").is_dir()


def test_new_code_has_a_new_version_which_stands_in_all_places(library):
    assert read_json(ROOT / "cookiecutter.json")["__wheel"] == WHEEL
    assert f'\n__version__ = "{VERSION}"\n' in (LIBRARY / "src/lightning_runs/__init__.py").read_text(encoding="utf-8")
    assert f"\n## {VERSION}\n" in (LIBRARY / "CHANGELOG.md").read_text(encoding="utf-8")
    # else pip would keep the old code: if this version was released, raise it in pyproject.toml, __init__.py and
    # `__wheel` of cookiecutter.json, and add a line to CHANGELOG.md; then run this file
    assert read_json(RECORDED).get(VERSION) == hashlib.sha256(packed(library)).hexdigest()


if __name__ == "__main__":
    recorded = read_json(RECORDED) | {VERSION: hashlib.sha256(packed(LIBRARY)).hexdigest()}
    RECORDED.write_text(json.dumps(recorded, indent=2) + "\n", encoding="utf-8")
