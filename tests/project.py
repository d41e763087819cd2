"""What a baked project consists of, and what it is run with."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEMPLATE = ROOT / "{{cookiecutter.project_slug}}"
PACKAGE = "my_lightning_project"
TASKS = TEMPLATE / ".tasks"  # the front of each task, from which the post hook takes one
# What every project has; with the licence "none" there is no LICENSE.
CORE = {
    *(".dockerignore", ".github/dependabot.yml", ".github/workflows/ci.yml", ".gitignore"),
    *(".pre-commit-config.yaml", "AGENTS.md", "mkdocs.yml"),
    *("CITATION.cff", "CLAUDE.md", "Dockerfile", "LICENSE", "README.md", "pyproject.toml"),
    *(f"docs/{page}.md" for page in ("api", "clusters", "evaluate", "how-it-works", "index", "loggers", "own-code")),
    *(f"docs/{page}.md" for page in ("python", "resume", "tested", "update")),
    *(
        f"configs/{name}.yaml"
        for name in ("ddp", "default", "ema", "fsdp", "gpu", "overfit", "profile", "quick", "swa")
    ),
    "scripts/skypilot.yaml",
    "scripts/train.sbatch",
    *(f"src/{PACKAGE}/{name}.py" for name in ("__init__", "__main__")),
    *(f"src/{PACKAGE}/runtime/{name}.py" for name in ("__init__", "assembly", "callbacks", "changes", "charts")),
    *(f"src/{PACKAGE}/runtime/{name}.py" for name in ("checkpoints", "cli", "contract", "data", "errors", "exported")),
    *(f"src/{PACKAGE}/runtime/{name}.py" for name in ("finetune", "folders", "hardware", "help", "interpolation")),
    *(
        f"src/{PACKAGE}/runtime/{name}.py"
        for name in ("loaders", "loggers", "memory", "parser", "parts", "predictions")
    ),
    *(f"src/{PACKAGE}/runtime/{name}.py" for name in ("profiler", "python", "randomness", "ranks", "rehearsal")),
    *(f"src/{PACKAGE}/runtime/{name}.py" for name in ("resume", "runs", "schedule", "signals", "speed", "states")),
    f"src/{PACKAGE}/runtime/trainer.py",
    *(f"src/{PACKAGE}/runtime/commands/{name}.py" for name in ("__init__", "completion", "predict", "report", "runs")),
    *(f"src/{PACKAGE}/runtime/{page}.jinja" for page in ("chart.svg", "page.css", "commands/report.html")),
    *(path.relative_to(TEMPLATE).as_posix() for path in (TEMPLATE / "tests").rglob("*.py")),
} - {"tests/runtime/test_lr_find.py"}
# What the answer "all" to `commands` adds.
MORE = {
    *("compose.yaml", "configs/sweep.yaml", "configs/wandb_sweep.yaml", "tests/runtime/test_lr_find.py"),
    *(f"docs/{page}.md" for page in ("drift", "export", "repeat", "search", "serve")),
    *(
        f"src/{PACKAGE}/runtime/commands/{name}.py"
        for name in ("application", "comparison", "drift", "export", "exports", "folds")
    ),
    *(f"src/{PACKAGE}/runtime/commands/{name}.py" for name in ("intake", "intervals", "lr_find", "predict_onnx")),
    *(f"src/{PACKAGE}/runtime/commands/{name}.py" for name in ("push", "repeat", "serve", "service", "statistics")),
    *(f"src/{PACKAGE}/runtime/commands/{name}.py" for name in ("store", "sweep", "sweep_space", "trials")),
    *(f"src/{PACKAGE}/runtime/commands/{page}.jinja" for page in ("drift.html", "model_card.md", "serve.html")),
}
SHARED = CORE | MORE
# What a project has for its task: what its user reads and changes.
FRONTS = {
    "image_classification": {
        *(f"src/{PACKAGE}/{name}.py" for name in ("data", "datasets", "evaluation", "inputs", "module")),
        *(f"src/{PACKAGE}/network.py", f"src/{PACKAGE}/pretrained.py", f"src/{PACKAGE}/train.py"),
        f"src/{PACKAGE}/digits.npz",
        *("configs/finetune.yaml", "docs/data.md", "docs/pretrained.md"),
        *(f"tests/{name}.py" for name in ("bundled", "test_data", "test_evaluation", "test_module", "test_pretrained")),
        "tests/test_train.py",
        *("notebooks/start.ipynb", "scripts/make_corrupt_mnist.py"),
    },
    "image_segmentation": {
        *(f"src/{PACKAGE}/{name}.py" for name in ("data", "datasets", "evaluation", "inputs", "module")),
        *(f"src/{PACKAGE}/network.py", f"src/{PACKAGE}/train.py", f"src/{PACKAGE}/digits.npz", "docs/data.md"),
        *("configs/gpu.yaml", "notebooks/start.ipynb"),
        *(f"tests/{name}.py" for name in ("bundled", "test_data", "test_evaluation", "test_module", "test_train")),
    },
    "own": {
        *(f"src/{PACKAGE}/{name}" for name in ("__main__.py", "data.py", "module.py", "train.py", "digits.npz")),
        *("docs/course.md", "notebooks/start.ipynb"),
        *("tests/bundled.py", "tests/test_train.py"),
    },
    "tabular": {
        *(f"src/{PACKAGE}/{name}.py" for name in ("data", "datasets", "evaluation", "inputs", "module")),
        *(f"src/{PACKAGE}/network.py", f"src/{PACKAGE}/train.py", f"src/{PACKAGE}/penguins.csv"),
        *(f"src/{PACKAGE}/penguins.LICENSE.txt", "docs/data.md"),
        *("configs/gpu.yaml", "notebooks/start.ipynb"),
        *(f"tests/{name}.py" for name in ("bundled", "test_data", "test_evaluation", "test_module", "test_train")),
    },
    "text_classification": {
        *(f"src/{PACKAGE}/{name}.py" for name in ("data", "evaluation", "inputs", "module", "network", "pretrained")),
        *(f"src/{PACKAGE}/{name}" for name in ("train.py", "glosses.csv.gz", "glosses.LICENSE.txt")),
        *("configs/finetune.yaml", "configs/gpu.yaml", "docs/data.md", "docs/pretrained.md", "notebooks/start.ipynb"),
        *(f"tests/{name}.py" for name in ("bundled", "test_data", "test_evaluation", "test_module", "test_pretrained")),
        "tests/test_train.py",
    },
}
# by data set; of the others it is image classification
TASK_OF = {
    "own": "own",
    **dict.fromkeys(("penguins", "penguin_mass", "csv_file"), "tabular"),
    **dict.fromkeys(("glosses", "text_folder", "csv_texts"), "text_classification"),
    **dict.fromkeys(("digit_scenes", "mask_folder"), "image_segmentation"),
}
# of each task, the one that is bundled
FIRST = {
    **{"image_classification": "digits", "tabular": "penguins", "image_segmentation": "digit_scenes"},
    **{"text_classification": "glosses", "own": "own"},
}
FILES = SHARED | FRONTS["image_classification"]  # of the default project
# Small, quick and the same on every machine, whatever the answers were.
SMALL = (
    *("--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.strategy=auto"),
    *("--trainer.max_epochs=2", "--trainer.limit_train_batches=3", "--trainer.limit_val_batches=2"),
    *("--trainer.log_every_n_steps=1", "--trainer.limit_test_batches=2", "--data.batch_size=16"),
)


def task_of(answers: Mapping[str, str]) -> str:
    """The task that answers lead to."""
    return TASK_OF.get(answers.get("dataset", ""), "image_classification")


def package_files(task: str = "image_classification") -> dict[str, Path]:
    """The files of a project's package as they stand in the template, by their places in the package."""
    folders = [folder / "src" / "{{cookiecutter.__package}}" for folder in (TEMPLATE, TASKS / task)]
    return {
        path.relative_to(folder).as_posix(): path
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def clean_environment(project: Path) -> dict[str, str]:
    """This process's environment for a process in a project, without what would change its course."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "MLFLOW_", "PL_", "LIGHTNING_"))}
    home = project.parent / "home"
    home.mkdir(exist_ok=True)
    return environment | {
        "PYTHONPATH": str(project / "src"),
        "PYTHONWARNINGS": "",
        "HOME": str(home),  # no W&B key of the person who runs the tests
        "OMP_NUM_THREADS": "1",  # two tests run side by side
        "CUDA_VISIBLE_DEVICES": "",
    }


def read_rows(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
