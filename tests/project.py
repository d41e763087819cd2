"""What a baked project consists of, how one is baked, and how its commands run in processes of their own."""

import csv
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
STARTS = ("images", "table", "text", "masks", "blank")
# Small, quick and the same on every machine, whatever the answers were.
SMALL = (
    *("--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.strategy=auto"),
    *("--trainer.max_epochs=2", "--trainer.limit_train_batches=3", "--trainer.limit_val_batches=2"),
    *("--trainer.log_every_n_steps=1", "--trainer.limit_test_batches=2", "--data.batch_size=16"),
)


def start_files(start: str) -> set[str]:
    """Return the files of a project of a start, as they lie in the template; ``PACKAGE`` names the package's folder."""
    folders = {TEMPLATE: (".starts", ".licenses", "vendor"), TEMPLATE / ".starts" / start: ()}
    found = {
        path.relative_to(folder).as_posix().replace("{{cookiecutter.__package}}", PACKAGE)
        for folder, others in folders.items()
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] not in others and "__pycache__" not in path.parts
    }
    return {name for name in found if ".part." not in name} | {WHEEL, "LICENSE"}


def bake(output: Path, answers: Mapping[str, str] | None = None, template: Path = ROOT, **options: Any) -> Path:
    """Bake a project, and return its folder.

    Args:
        output: The folder to bake in.
        answers: Answers word for word, as if typed at a prompt; cookiecutter alone would render them as Jinja.
        template: The template.
        options: Further arguments of `cookiecutter.main.cookiecutter`.
    """
    prompts = json.loads((template / "cookiecutter.json").read_text(encoding="utf-8"))
    literal = {
        name: text if isinstance(prompts[name], list) else "{% raw %}" + text + "{% endraw %}"
        for name, text in (answers or {}).items()
    }
    if "config_file" not in options:  # else it writes into the home folder
        options["default_config"] = {name: str(output / f".{name}") for name in ("cookiecutters_dir", "replay_dir")}
    options = {"output_dir": str(output), **options}
    return Path(cookiecutter(str(template), no_input=True, extra_context=literal, **options))


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


def command(
    folder: Path,
    module: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    timeout: float = 300,
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m MODULE ARGUMENTS`` in a project's folder; stdout of the result has stderr too."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env=clean_environment(folder) | dict(environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )


def read_rows(file: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def read_json(file: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds."""
    return json.loads(file.read_text(encoding="utf-8"))


def change(file: Path, old: str, new: str) -> None:
    """Replace a text that stands once in a file."""
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, (file, old, text.count(old))
    file.write_text(text.replace(old, new), encoding="utf-8")


def callback(name: str, *options: str) -> tuple[str, ...]:
    """Return options that add one of Lightning's callbacks, such as ``callback("Timer", "duration=00:01:00:00")``."""
    added = f"--trainer.callbacks+=pytorch_lightning.callbacks.{name}"
    return (added, *(f"--trainer.callbacks.{option}" for option in options))
