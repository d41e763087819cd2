"""``init``: make an existing project use this library, by three files beside its own."""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning.cli import LightningArgumentParser

from ..cli import classes
from ..contract import Contract
from ..errors import UserError
from ..files import write_whole
from ..names import program

TRAIN = '''"""The trainer script. All commands: python -m {package} --help"""

from lightning_runs import run

{imports}


def main(args=None):
    """Run a command, such as ["fit"], and return its exit code; None takes this process's command line."""
    return run({names}, args=args, package=__package__)
'''
MAIN = '''"""The command line: python -m {package}"""

from lightning_runs import Project

if __name__ == "__main__":
    raise SystemExit(Project("{package}").main())
'''
CONFIG = """# Change a value here, or in one call: python -m {package} fit --trainer.max_epochs 5
seed_everything: 42
logger: csv # wandb, tensorboard, mlflow, csv or none; csv is always on beside the chosen one
checkpoint:
  monitor: null # a metric that the validation logs, such as val_loss, keeps the best epoch instead of the last one
  mode: min
trainer:
  max_epochs: 10
  default_root_dir: runs # each run has a folder here
  callbacks:
    - class_path: lightning_runs.training.progress.ProgressBar
# The arguments of {names}. A value that is null may be required.
"""


def main(args: list[str]) -> int:
    """Write the files, print what to type next, and return the exit code."""
    text = "Write train.py, __main__.py and configs/default.yaml for two classes. No file that exists is changed."
    parser = argparse.ArgumentParser(f"{program()} init", description=text, allow_abbrev=False)
    parser.add_argument("model", metavar="PACKAGE.module:Model", help="the LightningModule")
    text = "the LightningDataModule; without it, the LightningModule has the loaders"
    parser.add_argument("data", metavar="PACKAGE.module:Data", nargs="?", help=text)
    options = parser.parse_args(args)
    package = options.model.partition(".")[0]
    found = [parent / package for parent in (Path(), Path("src")) if (parent / package).is_dir()]
    if not found:
        raise UserError(f"there is no folder {package} here or in src. Put the modules of the classes into one.")
    folder = found[0]
    sys.path.insert(0, str(folder.parent.absolute()))
    paths = {group: path.replace(":", ".") for group, path in vars(options).items() if path}
    owners = {group: classes.load(group, path) for group, path in paths.items()}
    imports = [f"from {path.rpartition('.')[0]} import {path.rpartition('.')[2]}" for path in paths.values()]
    names = ", ".join(owner.__name__ for owner in owners.values())
    words = {"package": package, "names": names, "imports": "\n".join(sorted(imports))}
    config = CONFIG.format(**words) + yaml.safe_dump(_arguments(owners), sort_keys=False, allow_unicode=True)
    texts = {folder / "train.py": TRAIN.format(**words), folder / "__main__.py": MAIN.format(**words)}
    for file in texts:
        if file.exists():
            raise UserError(f"{file} exists, and init changes no file. Move it, and repeat the command.")
    if not Path("configs/default.yaml").exists():
        texts[Path("configs/default.yaml")] = config
    for file, content in texts.items():
        file.parent.mkdir(exist_ok=True)
        write_whole(file, content)
        print(f"Written: {file}")
    print(f"Next, a check with one batch: python -m {package} fit --trainer.fast_dev_run true")
    if folder.parent != Path():
        print(f"Python must find {package}: pip install -e . or export PYTHONPATH={folder.parent}")
    return 0


def _arguments(owners: dict[str, type]) -> dict[str, Any]:
    """Return the arguments of the classes with their defaults, without those that follow the data module."""
    parser = LightningArgumentParser()
    for group, owner in owners.items():
        parser.add_lightning_class_args(owner, group)  # type: ignore[arg-type]
    options = yaml.safe_load(parser.dump(parser.get_defaults(), skip_unset=False, skip_validation=True))
    for name in Contract(owners["model"], owners.get("data")).linked:
        options["model"].pop(name, None)
    return options
