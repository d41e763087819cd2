"""A command with two classes of this folder: ``python -m own_classes classifier plain_data fit``; ``-`` is no data."""

import sys
from importlib import import_module

import pytorch_lightning as pl
from lightning_runs import run


def class_of(name: str, base: type) -> type | None:
    """Return the class of a file that is one of Lightning's."""
    if name == "-":
        return None
    module = import_module(f"own_classes.{name}")
    own = [value for value in vars(module).values() if getattr(value, "__module__", "") == module.__name__]
    return next(value for value in own if isinstance(value, type) and issubclass(value, base))


def classes(module: str, data: str) -> tuple[type, type | None]:
    """Return the LightningModule and the LightningDataModule of two files."""
    model = class_of(module, pl.LightningModule)
    assert model is not None
    return model, class_of(data, pl.LightningDataModule)


if __name__ == "__main__":
    raise SystemExit(run(*classes(*sys.argv[1:3]), sys.argv[3:], package="own_classes"))
