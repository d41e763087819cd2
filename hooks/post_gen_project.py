"""Put the chosen licence and the task's front in their places and print the next commands.

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
# What a wheel holds; a clone of the template may have other files in the library's folder, such as .env.
PACKED = (".py", ".jinja", ".html", ".css", ".md", ".npz", ".csv", ".gz")


def next_commands(project: str, answers: dict[str, str], windows: bool) -> str:
    """Return what to type next, from entering the folder to the first commit.

    Args:
        project: Absolute path of the project's folder.
        answers: The answers by prompt, and ``__package``.
        windows: Write for the shells of Windows instead of POSIX ones.
    """
    lines = ["", "The project is ready. Next (with uv: `uv sync` in place of the lines on venv and pip):"]
    if answers["dataset"] == "csv_file":
        lines += ["First put your table in place, data/table.csv, and name the column to learn: --data.target COLUMN."]
    if answers["dataset"] in ("text_folder", "csv_texts"):
        lines += [
            f"First put your texts in place, {answers['__data_root']} (README.md), or fit --data.dataset glosses."
        ]
    if answers["dataset"] in ("corrupt_mnist", "image_folder"):
        lines += [f"First put the files of {answers['dataset']} in place (README.md), or fit --data.dataset digits."]
    if answers["dataset"] == "mask_folder":
        lines += ["First put images and masks in place (README.md), or fit --data.dataset digit_scenes."]
    lines += [
        f'  cd "{project}"' if windows else f"  cd {shlex.quote(project)}",
        "  python -m venv .venv" if windows else "  python3 -m venv .venv",
        r"  .venv\Scripts\activate" if windows else "  source .venv/bin/activate",
    ]
    if answers["torch_build"] != "default":
        # pip reads no index from pyproject.toml; once this torch is there, the next line leaves it alone.
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


def is_kept() -> bool:
    """Whether cookiecutter was told to keep the files that were there (``--skip-if-file-exists``)."""
    file = os.path.join(".starts", "rendered.txt")
    try:
        with open(file, encoding="utf-8") as stream:
            kept = stream.read() == "by nobody yet"  # as the pre hook left it
        os.unlink(file)
    except FileNotFoundError:
        kept = False
    return kept


def place(source: str, target: str, keep: bool) -> None:
    """Move a file, in the place of one that is there, or keep that one."""
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
        os.rmdir(".licenses")  # stays if a project that is generated anew has files of its own there


def place_front(chosen: str, keep: bool) -> None:
    """Move the files of the chosen start to where they belong in the project, and remove those of the others.

    Files with ``.part.`` in their names are parts of other files, and are in them already.
    """
    for start in STARTS:
        front = os.path.join(".starts", start)
        for folder, _, names in os.walk(front, topdown=False):
            for name in names:
                if start == chosen and ".part." not in name:
                    target = os.path.join(os.path.relpath(folder, front), name)
                    place(os.path.join(folder, name), target, keep)
                else:
                    os.unlink(os.path.join(folder, name))
            os.rmdir(folder)
    with contextlib.suppress(OSError):
        os.rmdir(".starts")  # stays like .licenses


def library_files(source: str) -> dict[str, bytes]:
    """Return what the library's wheel holds: each member's name and its bytes.

    Args:
        source: The library's folder, with ``pyproject.toml``, ``README.md``, ``LICENSE`` and ``src``.
    """
    files = {}
    root = os.path.join(source, "src")
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith((".", "__pycache__"))]
        for name in names:
            if not name.startswith(".") and (name.endswith(PACKED) or name == "py.typed"):
                path = os.path.join(folder, name)
                with open(path, "rb") as stream:
                    files[os.path.relpath(path, root).replace(os.sep, "/")] = stream.read()
    with open(os.path.join(source, "pyproject.toml"), "rb") as stream:
        project = tomllib.load(stream)["project"]
    with open(os.path.join(source, "README.md"), encoding="utf-8") as stream:
        readme = stream.read()
    with open(os.path.join(source, "LICENSE"), "rb") as stream:
        licence = stream.read()
    info = f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    files[f"{info}/METADATA"] = metadata(project, readme).encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: lightning-template\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/licenses/LICENSE"] = licence
    return files


def metadata(project: dict[str, Any], readme: str) -> str:
    """Return the text of a wheel's METADATA from the table ``project`` of pyproject.toml."""
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {project['name']}",
        f"Version: {project['version']}",
        f"Summary: {project['description']}",
        f"License-Expression: {project['license']}",
        "License-File: LICENSE",
        f"Requires-Python: {project['requires-python']}",
    ]
    lines += [f"Requires-Dist: {needed}" for needed in project["dependencies"]]
    for extra, requirements in project["optional-dependencies"].items():
        lines += [f"Provides-Extra: {extra}"]
        lines += [f"Requires-Dist: {needed}; extra == '{extra}'" for needed in requirements]
    return "\n".join([*lines, "Description-Content-Type: text/markdown", "", readme])


def pack_library(source: str, target: str) -> str:
    """Pack the library as a wheel into a folder, and return the wheel's path. Its bytes are the same on every system.

    The members are stored, for deflate differs between builds of Python.
    """
    files = library_files(source)
    info = next(name.partition("/")[0] for name in files if name.endswith(".dist-info/METADATA"))
    lines = []
    for name in sorted(files):
        digest = base64.urlsafe_b64encode(hashlib.sha256(files[name]).digest()).rstrip(b"=").decode()
        lines += [f"{name},sha256={digest},{len(files[name])}"]
    files[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""]).encode()
    path = os.path.join(target, f"{info.removesuffix('.dist-info')}-py3-none-any.whl")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            member = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
            member.create_system = 3  # Unix: else Windows writes another number
            member.external_attr = 0o644 << 16
            archive.writestr(member, files[name])
    return path


def place_library() -> None:
    """Put the library's wheel into ``vendor/`` instead of its source, and remove the wheels of other versions."""
    path = pack_library(LIBRARY, "vendor")
    for name in os.listdir("vendor"):
        if name.startswith("lightning_runs-") and name.endswith(".whl") and name != os.path.basename(path):
            os.unlink(os.path.join("vendor", name))
    shutil.rmtree(LIBRARY)


def main() -> None:
    """Finish the project in the current directory."""
    answers = json.loads(r"""{{ cookiecutter | tojson }}""")
    keep = is_kept()
    place_licence(answers["license"], keep)
    place_front(answers["__start"], keep)
    place_library()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # Windows' code pages cannot print every path
    print(next_commands(os.getcwd(), answers, windows=os.name == "nt"))


if __name__ == "__main__":
    main()
