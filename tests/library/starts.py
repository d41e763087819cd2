"""The starts' own classes, imported from the template: their Python has no placeholders, so no bake is needed."""

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType

STARTS = Path(__file__).parents[2] / "{{cookiecutter.project_slug}}" / ".starts"
DIGITS = STARTS / "images" / "src" / "{{cookiecutter.__package}}" / "digits.npz"


def start_module(start: str, name: str) -> ModuleType:
    """Import a module of a start, such as ``data`` of ``images``; its package is called ``start_images``."""
    package = f"start_{start}"
    if package not in sys.modules:
        spec = ModuleSpec(package, None, is_package=True)
        spec.submodule_search_locations = [str(STARTS / start / "src" / "{{cookiecutter.__package}}")]
        sys.modules[package] = module_from_spec(spec)
    return import_module(f"{package}.{name}")
