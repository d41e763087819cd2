"""The starts' own classes, imported from the template: their Python has no placeholders, so no bake is needed."""

import re
import subprocess
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any

import lightning_runs
import torch
from jinja2 import Environment

STARTS = Path(__file__).parents[2] / "{{cookiecutter.project_slug}}" / ".starts"
DIGITS = STARTS / "images" / "src" / "{{cookiecutter.__package}}" / "digits.npz"
# Runs a command where torch can't be imported, with nothing but the library.
PROGRAM = """import sys; sys.modules["torch"] = None; import lightning_runs
raise SystemExit(lightning_runs.Project("start").main(sys.argv[1:]))"""
WITHOUT_TORCH = (sys.executable, "-c", PROGRAM)
LIBRARY_ALONE = {"PYTHONPATH": str(STARTS.parent / "vendor" / "lightning-runs" / "src")}
# the model and the network of each start, and what the model takes from the data
MODELS = {
    "images": ("ImageClassifier", "ConvNet", ("input_shape", "num_classes")),
    "masks": ("SegmentationModel", "UNet", ("input_shape", "facts")),
    "table": ("TableModel", "TableNet", ("facts",)),
    "text": ("TextClassifier", "EmbeddingAverage", ("vocabulary_size", "num_classes")),
}


def start_module(start: str, name: str) -> Any:
    """Import a module of a start, such as ``data`` of ``images``; its package is called ``start_images``."""
    package = f"start_{start}"
    if package not in sys.modules:
        spec = ModuleSpec(package, None, is_package=True)
        spec.submodule_search_locations = [str(STARTS / start / "src" / "{{cookiecutter.__package}}")]
        sys.modules[package] = module_from_spec(spec)
    return import_module(f"{package}.{name}")


def model_class(start: str) -> Any:
    return getattr(start_module(start, "module"), MODELS[start][0])


def data_class(start: str) -> Any:
    return start_module(start, "data").DataModule


def prepared(start: str, **options: Any) -> Any:
    """The data module of a start, which has read its data."""
    data = data_class(start)(**options)
    data.setup("fit")
    return data


def built(start: str, data: Any, **options: Any) -> Any:
    """The model of a start for these data, of the same weights each time, outside of training."""
    torch.manual_seed(0)
    _, network, links = MODELS[start]
    linked = [getattr(data, name) for name in links]
    options = {"network": getattr(start_module(start, "network"), network), "optimizer": torch.optim.AdamW, **options}
    return model_class(start)(*linked, **options).eval()


def add_options(start: str, dataset: str, config_file: Path) -> None:
    """Add the options of a start's two classes to a configuration."""
    text = (STARTS / start / "configs" / "default.part.yaml").read_text(encoding="utf-8")
    answers = {"__package": f"start_{start}"}
    options = Environment().from_string(text).render(cookiecutter=answers)
    with config_file.open("a", encoding="utf-8") as stream:
        stream.write(re.sub(r"^  dataset: .*", f"  dataset: {dataset}", options, count=1, flags=re.MULTILINE))


def run_start(start: str, name: str, *options: str) -> int:
    return lightning_runs.run(model_class(start), data_class(start), [name, *options], package=f"start_{start}")


def predict_without_torch(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``predict`` with an exported model in a process that can't import torch."""
    return subprocess.run([*WITHOUT_TORCH, "predict", *arguments], env=LIBRARY_ALONE, capture_output=True, text=True)
