"""Put the licence, the start and the library's wheel in their places, and print the next commands.

Every bake starts a Python for this, so it imports little: pathlib would take 5 milliseconds.
"""

import base64
import contextlib
import hashlib
import io
import json
import os
import shlex
import shutil
import sys
import tomllib
import zipfile
from typing import Any

LICENSES = ("MIT", "Apache-2.0", "BSD-3-Clause", "GPL-3.0")
STARTS = ("images", "table", "text", "masks", "blank")
LIBRARY = os.path.join("vendor", "lightning-runs")
USERS = os.path.join("vendor", ".lightning-runs.before")  # where the pre hook puts a user's folder of that name
# A wheel holds these alone: in the library's folder, a clone of the template may have a .env or notes.
TEXTS = (".py", ".jinja", ".html", ".css", ".md", ".csv", "py.typed")
BINARIES = (".npz", ".gz")
WHEEL = b"Wheel-Version: 1.0\nGenerator: lightning-template\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def next_commands(project: str, answers: dict[str, str], windows: bool) -> str:
    """Return what to type next, from entering the folder to the first commit.

    Args:
        project: Absolute path of the project's folder.
        answers: The answers by prompt, and the derived values.
        windows: Write for the shells of Windows instead of POSIX ones.
    """
    lines = ["", "The project is ready. Next (with uv: `uv sync` instead of the lines on venv and pip):"]
    lines += [
        f'  cd "{project}"' if windows else f"  cd {shlex.quote(project)}",
        "  python -m venv .venv" if windows else "  python3 -m venv .venv",
        r"  .venv\Scripts\activate" if windows else "  source .venv/bin/activate",
    ]
    if answers["torch_build"] != "default":
        # pip reads no index from pyproject.toml; once this torch is installed, the next line leaves it alone.
        index = f"https://download.pytorch.org/whl/{answers['torch_build']}"
        lines += [f"  python -m pip install {answers['__torch_packages']} --index-url {index}"]
    lines += [
        '  python -m pip install -e ".[dev]"',
        f"  python -m {answers['__package']} fit",
        "  pytest",
        "  git init",
        "  git add .",
        '  git commit -m "Start from lightning-template"',
    ]
    return "\n".join(lines)


def keeps_files() -> bool:
    """Return whether cookiecutter keeps existing files (``--skip-if-file-exists``)."""
    file = os.path.join(".starts", "rendered.txt")
    try:
        with open(file, encoding="utf-8") as stream:
            kept = stream.read() == "by nobody yet"  # as the pre hook left it
        os.unlink(file)
    except FileNotFoundError:
        kept = False
    return kept


def place(source: str, target: str, keep: bool) -> None:
    """Move a file and replace an existing one, or keep that one."""
    if keep and os.path.exists(target):
        os.unlink(source)
    else:
        os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
        os.replace(source, target)


def place_licence(chosen: str, keep: bool) -> None:
    """Make the chosen licence the project's, and remove the others."""
    if chosen in LICENSES:
        place(os.path.join(".licenses", f"{chosen}.txt"), "LICENSE", keep)
    for name in LICENSES:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(".licenses", f"{name}.txt"))
    with contextlib.suppress(OSError):
        os.rmdir(".licenses")  # stays if an existing project has files of its own there


def place_start(chosen: str, keep: bool) -> None:
    """Move the files of the chosen start to the same paths in the project, and remove those of the others.

    Files with ``.part.`` in their names were included in other files when those were rendered.
    """
    for start in STARTS:
        source = os.path.join(".starts", start)
        for folder, _, names in os.walk(source, topdown=False):
            for name in names:
                if start == chosen and ".part." not in name:
                    target = os.path.join(os.path.relpath(folder, source), name)
                    place(os.path.join(folder, name), target, keep)
                else:
                    os.unlink(os.path.join(folder, name))
            os.rmdir(folder)
    with contextlib.suppress(OSError):
        os.rmdir(".starts")  # stays like .licenses


def content(*path: str) -> bytes:
    """Return a file's bytes; the lines of a text end with LF, even if git wrote CRLF on Windows."""
    with open(os.path.join(*path), "rb") as stream:
        data = stream.read()
    return data if path[-1].endswith(BINARIES) else data.replace(b"\r\n", b"\n")


def metadata(project: dict[str, Any], readme: str) -> str:
    """Return a wheel's METADATA from the table ``project`` of pyproject.toml."""
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {project['name']}",
        f"Version: {project['version']}",
        f"Summary: {project['description']}",
        f"License-Expression: {project['license']}",
        "License-File: LICENSE",
        f"Requires-Python: {project['requires-python']}",
        *(f"Requires-Dist: {needed}" for needed in project["dependencies"]),
    ]
    for extra, requirements in project["optional-dependencies"].items():
        lines += [f"Provides-Extra: {extra}", *(f"Requires-Dist: {one}; extra == '{extra}'" for one in requirements)]
    return "\n".join([*lines, "Description-Content-Type: text/markdown", "", readme])


def wheel_members(library: str) -> dict[str, bytes]:
    """Return the bytes of each member of the library's wheel, RECORD included, by its name and sorted."""
    project = tomllib.loads(content(library, "pyproject.toml").decode())["project"]
    info = f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    members = {
        f"{info}/METADATA": metadata(project, content(library, "README.md").decode()).encode(),
        f"{info}/WHEEL": WHEEL,
        f"{info}/licenses/LICENSE": content(library, "LICENSE"),
    }
    source = os.path.join(library, "src")
    for folder, folders, names in os.walk(source):
        folders[:] = [name for name in folders if not name.startswith((".", "__pycache__"))]
        for name in names:
            if name.endswith(TEXTS + BINARIES) and not name.startswith("."):
                member = os.path.relpath(os.path.join(folder, name), source).replace(os.sep, "/")
                members[member] = content(folder, name)
    record = ""
    for name, data in sorted(members.items()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        record += f"{name},sha256={digest},{len(data)}\n"
    members[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    return dict(sorted(members.items()))


def pack_library(library: str, target: str) -> str:
    """Pack the library as a wheel into a folder, and return the wheel's name. Its bytes are the same on every system.

    Its members are stored: other builds of Python deflate to other bytes.
    """
    members = wheel_members(library)
    (info,) = {name.partition("/")[0] for name in members if ".dist-info/" in name}
    wheel = info.replace(".dist-info", "-py3-none-any.whl")
    with zipfile.ZipFile(os.path.join(target, wheel), "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            member = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
            member.create_system = 3  # Unix, also if this is Windows
            member.external_attr = 0o644 << 16
            archive.writestr(member, data)
    return wheel


def place_library(keep: bool) -> None:
    """Replace the library's source by its wheel, and remove all its wheels but the one that pyproject.toml names."""
    wheel = pack_library(LIBRARY, LIBRARY)
    place(os.path.join(LIBRARY, wheel), os.path.join("vendor", wheel), keep)
    shutil.rmtree(LIBRARY)
    if os.path.isdir(USERS):
        os.replace(USERS, LIBRARY)
    with open("pyproject.toml", encoding="utf-8") as stream:
        named = stream.read()
    for name in os.listdir("vendor"):
        if name.startswith("lightning_runs-") and name.endswith(".whl") and name not in named:
            os.unlink(os.path.join("vendor", name))


def main() -> None:
    """Finish the project in the current directory."""
    answers = json.loads(r"""{{ cookiecutter | tojson }}""")
    keep = keeps_files()
    place_licence(answers["license"], keep)
    place_start(answers["start"], keep)
    place_library(keep)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # Windows' code pages cannot print every path
    print(next_commands(os.getcwd(), answers, windows=os.name == "nt"))


if __name__ == "__main__":
    main()
