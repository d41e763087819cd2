"""Classes of Lightning users, written as its documentation writes them; nothing in them is made for this library."""

from importlib import import_module

import pytorch_lightning as pl


def class_of(module: str, base: type = pl.LightningModule) -> type:
    """Return the class that a module defines below one of Lightning's."""
    found = vars(import_module(module)).values()
    own = [value for value in found if getattr(value, "__module__", "") == module]
    return next(value for value in own if isinstance(value, type) and issubclass(value, base))


def classes(module: str, data: str) -> tuple[type, type | None]:
    """Return the classes of two files of this folder; ``-`` stands for no data module."""
    data_class = None if data == "-" else class_of(f"own_classes.{data}", pl.LightningDataModule)
    return class_of(f"own_classes.{module}"), data_class
