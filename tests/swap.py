"""A baked project in which a user's own classes stand in the place of the LightningModule and the data module."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from combinations import VALUES
from project import PACKAGE, ROOT
from test_render import render

CLASSES = ROOT / "tests" / "own_classes"


def project_with(module: str, data: str | None, folder: Path, monitor: str | None = None) -> Path:
    """Bake a project, put a user's classes into it, and reduce its configuration to what such a user writes.

    Args:
        module: Name of the file in ``own_classes`` that becomes ``module.py``.
        data: Name of the file that becomes ``data.py``; None where the LightningModule has the loaders.
        folder: Where to bake it.
        monitor: The metric that chooses the best checkpoint, the lower the better; None keeps Lightning's default.
    """
    project = render({name: values[0] for name, values in VALUES.items()} | {"logger": "csv"}, folder)
    source = project / "src" / PACKAGE
    shutil.copy(CLASSES / f"{module}.py", source / "module.py")
    if data is not None:
        shutil.copy(CLASSES / f"{data}.py", source / "data.py")
    data_class = None if data is None else _class_in(source / "data.py", "LightningDataModule")
    _swap_names(source / "train.py", _class_in(source / "module.py", "LightningModule"), data_class)
    write_yaml(project / "configs" / "default.yaml", _configuration(monitor))
    return project


def write_yaml(file: Path, options: Mapping[str, Any]) -> None:
    """Write options in the order that they have."""
    file.write_text(yaml.safe_dump(dict(options), sort_keys=False), encoding="utf-8")


def _class_in(file: Path, base: str) -> str:
    (name,) = re.findall(rf"^class (\w+)\((?:pl\.)?{base}\):", file.read_text(encoding="utf-8"), re.MULTILINE)
    return name


def _swap_names(train: Path, module: str, data: str | None) -> None:
    """Do in ``train.py`` what a user has to do there: import the two classes by their names, and hand them in."""
    text = train.read_text(encoding="utf-8")
    line = f"from .data import {data}\n" if data else ""
    text, imported = re.subn(r"^from \.data import DataModule\n", line, text, flags=re.MULTILINE)
    text, handed_in = re.subn(r"\(ImageClassifier, DataModule, ", f"(ImageClassifier, {data}, ", text)
    text, named = re.subn(r"\bImageClassifier\b", module, text)
    assert imported == handed_in == 1
    assert named >= 2
    train.write_text(text, encoding="utf-8")


def _configuration(monitor: str | None) -> dict[str, Any]:
    return {
        "seed_everything": 42,
        "logger": "csv",
        **({"checkpoint": {"monitor": monitor}} if monitor else {}),
        "trainer": {
            "max_epochs": 3,
            "accelerator": "cpu",
            "devices": 1,
            "default_root_dir": "runs",
            "log_every_n_steps": 5,
        },
    }
