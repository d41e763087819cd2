"""Put the chosen licence and the task's front in their places and print the next commands.

Every bake starts a Python for this, so it imports little: pathlib would take 5 milliseconds.
"""

import contextlib
import io
import json
import os
import shlex
import sys

LICENSES = ("MIT", "Apache-2.0", "BSD-3-Clause", "GPL-3.0")
# What a project with the answer "core" goes without: modules of runtime/commands, and files.
MORE_COMMANDS = (
    *("lr_find.py", "sweep.py", "sweep_space.py", "trials.py", "repeat.py", "folds.py", "intervals.py", "export.py"),
    *("predict_onnx.py", "model_card.md.jinja", "push.py", "serve.py", "application.py", "service.py", "intake.py"),
    *("serve.html.jinja", "exports.py", "store.py", "statistics.py", "drift.py", "comparison.py", "drift.html.jinja"),
)
MORE_FILES = (
    *("configs/sweep.yaml", "configs/wandb_sweep.yaml", "compose.yaml", "tests/runtime/test_lr_find.py"),
    *("docs/search.md", "docs/repeat.md", "docs/export.md", "docs/serve.md", "docs/drift.md"),
)
TASKS = ("image_classification", "tabular", "text_classification", "image_segmentation", "own")


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
    file = os.path.join(".tasks", "rendered.txt")
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
    """Move the files of the chosen task to where they belong in the project, and remove those of the others.

    Files with ``.part.`` in their names are parts of other files, and are in them already.
    """
    for task in TASKS:
        front = os.path.join(".tasks", task)
        for folder, _, names in os.walk(front, topdown=False):
            for name in names:
                if task == chosen and ".part." not in name:
                    target = os.path.join(os.path.relpath(folder, front), name)
                    place(os.path.join(folder, name), target, keep)
                else:
                    os.unlink(os.path.join(folder, name))
            os.rmdir(folder)
    with contextlib.suppress(OSError):
        os.rmdir(".tasks")  # stays like .licenses


def leave_out_commands(package: str) -> None:
    """Remove the commands beside the core, with all that is theirs."""
    for name in (*(f"src/{package}/runtime/commands/{name}" for name in MORE_COMMANDS), *MORE_FILES):
        os.unlink(os.path.join(*name.split("/")))


def main() -> None:
    """Finish the project in the current directory."""
    answers = json.loads(r"""{{ cookiecutter | tojson }}""")
    keep = is_kept()
    place_licence(answers["license"], keep)
    place_front(answers["__task"], keep)
    if answers["commands"] == "core" and not keep:  # else the files may be those of the user
        leave_out_commands(answers["__package"])
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # Windows' code pages cannot print every path
    print(next_commands(os.getcwd(), answers, windows=os.name == "nt"))


if __name__ == "__main__":
    main()
