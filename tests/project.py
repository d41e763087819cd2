"""What a baked project consists of, and what it is run with."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEMPLATE = ROOT / "{{cookiecutter.project_slug}}"
PACKAGE = "my_lightning_project"
# What a project consists of; with the licence "none" there is no LICENSE.
FILES = {
    *(".dockerignore", ".github/workflows/ci.yml", ".gitignore", ".pre-commit-config.yaml", "AGENTS.md"),
    *("CITATION.cff", "CLAUDE.md", "Dockerfile", "LICENSE", "README.md", "pyproject.toml"),
    *(f"docs/{page}.md" for page in ("clusters", "data", "evaluate", "export", "how-it-works", "loggers", "own-code")),
    *(f"docs/{page}.md" for page in ("resume", "search", "tested", "update")),
    *(f"configs/{name}.yaml" for name in ("ddp", "default", "fsdp", "gpu", "overfit", "profile", "quick")),
    *("configs/sweep.yaml", "configs/wandb_sweep.yaml", "scripts/make_corrupt_mnist.py", "scripts/train.sbatch"),
    # the user's …
    *(f"src/{PACKAGE}/{name}.py" for name in ("__init__", "__main__", "data", "datasets", "evaluation", "inputs")),
    *(f"src/{PACKAGE}/{name}.py" for name in ("module", "network", "train")),
    f"src/{PACKAGE}/digits.npz",
    # … and the machinery
    *(f"src/{PACKAGE}/runtime/{name}.py" for name in ("__init__", "assembly", "callbacks", "changes", "charts")),
    *(f"src/{PACKAGE}/runtime/{name}.py" for name in ("checkpoints", "cli", "contract", "data", "errors", "folders")),
    *(f"src/{PACKAGE}/runtime/{name}.py" for name in ("hardware", "loaders", "loggers", "parser", "predictions")),
    *(f"src/{PACKAGE}/runtime/{name}.py" for name in ("profiler", "randomness", "ranks", "resume", "runs", "schedule")),
    *(f"src/{PACKAGE}/runtime/{name}.py" for name in ("signals", "speed", "states", "trainer")),
    *(f"src/{PACKAGE}/runtime/commands/{name}.py" for name in ("__init__", "export", "predict", "report")),
    *(f"src/{PACKAGE}/runtime/commands/{name}.py" for name in ("runs", "sweep", "sweep_space")),
    f"src/{PACKAGE}/runtime/chart.svg.jinja",
    *(f"src/{PACKAGE}/runtime/commands/{page}.jinja" for page in ("model_card.md", "report.html")),
    *(path.relative_to(TEMPLATE).as_posix() for path in (TEMPLATE / "tests").rglob("*.py")),
}
# Small, quick and the same on every machine, whatever the answers were.
SMALL = (
    *("--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.strategy=auto"),
    *("--trainer.max_epochs=2", "--trainer.limit_train_batches=3", "--trainer.limit_val_batches=2"),
    *("--trainer.log_every_n_steps=1", "--trainer.limit_test_batches=2", "--data.batch_size=16"),
)


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
