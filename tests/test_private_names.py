"""The private and undocumented names of other packages that `runtime/` uses: each is there in the installed release.

A name is private if it begins with an underscore. Such a name may go, or change its meaning, in any release.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from project import TEMPLATE

RUNTIME = TEMPLATE / "src" / "{{cookiecutter.__package}}" / "runtime"
WING = sorted(RUNTIME.rglob("*.py"))

# What has the names, as `owners` finds it: the private names that `runtime/` uses …
PRIVATE = {
    "pytorch_lightning.loops.training_epoch_loop": ["_TrainingEpochLoop"],
    "pytorch_lightning.trainer.connectors.logger_connector.result": ["_ResultCollection", "_ResultMetric"],
    "pytorch_lightning.cli.LightningCLI": [
        *("_run_subcommand", "_parse_ckpt_path", "_prepare_subcommand_kwargs", "_set_seed"),
    ],
    "pytorch_lightning.callbacks.BatchSizeFinder()": ["_batch_arg_name"],
    "pytorch_lightning.callbacks.WeightAveraging()": ["_average_model"],
    "pytorch_lightning.callbacks.ModelCheckpoint()": ["_enable_version_counter"],
    "pytorch_lightning.loggers.csv_logs.ExperimentWriter": ["_check_log_dir_exists", "_rewrite_with_new_header"],
    "pytorch_lightning.loggers.CSVLogger()": ["_experiment"],
    "pytorch_lightning.loggers.WandbLogger()": ["_wandb_init"],
    "pytorch_lightning.profilers.Profiler()": ["_local_rank"],
    "pytorch_lightning.Trainer()": ["_logger_connector", "_data_connector", "_val_check_time_interval", "_active_loop"],
    "… its LightningModule": ["_current_fx_name"],
    "… its _data_connector": ["_datahook_selector"],
    "… its _logger_connector": [
        *("_callback_metrics", "_logged_metrics", "_progress_bar_metrics"),
        *("_current_fx", "_first_loop_iter"),
    ],
    "… its fit_loop": ["_combined_loader", "_restarting", "_skip_backward"],
    "… its validate_loop": ["_combined_loader"],
    "… its test_loop": ["_combined_loader"],
    "… its predict_loop": ["_combined_loader"],
    "… its fit_loop.epoch_loop": [
        *("_batches_that_stepped", "_results", "_skip_next_val", "_should_check_val_fx"),
        "_num_ready_batches_reached",
    ],
    "… its fit_loop.epoch_loop.val_loop": ["_combined_loader"],
    "… its fit_loop._combined_loader": ["_mode"],
    "… a result of self.log": ["_defaults"],
    "torchmetrics.MeanMetric()": ["_defaults", "_update_count"],
    "jsonargparse.ArgumentParser()": ["_actions"],
    "torch.utils.data.DataLoader()": ["_iterator"],
}
# … and names without an underscore that no documentation promises.
UNDOCUMENTED = {
    "pytorch_lightning.loops.optimization.automatic.ClosureResult": ["from_training_step_output"],
    "pytorch_lightning.utilities.signature_utils": ["is_param_in_hook_signature"],
    "pytorch_lightning.utilities.model_helpers": ["is_overridden"],
    "pytorch_lightning.loggers.logger": ["rank_zero_experiment"],
    "lightning_fabric.utilities.data": ["sized_len"],
    "lightning_fabric.utilities": ["move_data_to_device"],
    "lightning_utilities.core.apply_func": ["apply_to_collection"],
    "pytorch_lightning.utilities.seed": ["isolate_rng"],
    "pytorch_lightning.strategies.Strategy": ["setup_optimizers", "broadcast"],
    "torchmetrics.Metric": ["metric_state"],
    "lightning_fabric.utilities.rank_zero": ["rank_zero_only"],
    "lightning_fabric.plugins.io.torch_io.TorchCheckpointIO": ["save_checkpoint"],
    "pytorch_lightning.cli.LightningCLI": [
        *("subcommands", "parse_arguments", "before_instantiate_classes", "instantiate_classes"),
        *("instantiate_trainer", "add_arguments_to_parser"),
    ],
    "pytorch_lightning.loggers.csv_logs.ExperimentWriter": ["log_hparams", "save", "log_metrics"],
    "… an ExperimentWriter": ["metrics_file_path", "metrics_keys"],
    "pytorch_lightning.callbacks.StochasticWeightAveraging": ["swa_end", "pl_module_contains_batch_norm"],
    "pytorch_lightning.callbacks.TQDMProgressBar": ["get_metrics", "disable", "is_enabled"],
    "pytorch_lightning.plugins.precision.Precision": ["train_step_context", "convert_module"],
    "pytorch_lightning.plugins.environments.SLURMEnvironment": ["detect", "global_rank", "main_address", "main_port"],
    "pytorch_lightning.strategies.SingleDeviceStrategy": ["process_dataloader", "root_device"],
    "… its _data_connector._datahook_selector": ["get_instance"],
    "… its _logger_connector": ["on_batch_start", "on_batch_end", "update_train_step_metrics"],
    "… its fit_loop": ["epoch_loop", "epoch_progress", "on_run_start"],
    "… its fit_loop.epoch_loop": [
        *("advance", "on_advance_end", "on_run_start", "restarting", "update_lr_schedulers", "batch_idx"),
        *("automatic_optimization", "batch_progress", "val_loop"),
    ],
    "… its fit_loop.epoch_loop.batch_progress": [
        *("is_last_batch", "current", "total", "state_dict", "load_state_dict", "increment_ready"),
        *("increment_started", "increment_processed", "increment_completed"),
    ],
    "… its fit_loop.epoch_loop.automatic_optimization.optim_progress": ["optimizer"],
    "… its fit_loop.epoch_loop.val_loop": ["restarting", "batch_progress"],
    "… its fit_loop._combined_loader": ["flattened"],
    "… its fit_loop.epoch_loop._results": ["batch", "batch_size"],
    "… a result of self.log": ["meta", "value", "cumulated_batch_size", "is_tensor"],
    "… a result of self.log's meta": [
        *("is_mean_reduction", "is_sum_reduction", "is_custom_reduction", "reduce_fx", "on_epoch"),
        "name",
    ],
    "torch": ["default_generator"],
    "torch.utils.data": ["get_worker_info"],
}

# What looks like one: `os._exit` is documented, and the other is the ending of a documented strategy.
NO_PRIVATE_NAMES = {("signals.py", "_exit"), ("hardware.py", "_find_unused_parameters_true")}
# … and this is the ending of a metric's name, which Lightning documents.
NO_PRIVATE_NAMES |= {("callbacks.py", "_step")}


@cache
def trained() -> SimpleNamespace:
    """A Trainer that has trained two batches, its loader, and what it has logged."""
    import pytorch_lightning as pl
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.layer(batch[0]).sum()
            self.log("loss", loss, on_epoch=True)
            seen.update(self.trainer.fit_loop.epoch_loop._results)
            return loss

        def validation_step(self, batch: Any, batch_idx: int) -> None: ...

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    seen: dict[str, Any] = {}
    loader, module = DataLoader(TensorDataset(torch.zeros(4, 2)), batch_size=2), Module()
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", enable_model_summary=False, **quiet)
    trainer.fit(module, loader, loader)
    return SimpleNamespace(trainer=trainer, loader=loader, result=next(iter(seen.values())))


def owner(label: str, folder: Path) -> Any:
    """What a label of the tables stands for."""
    import pytorch_lightning as pl
    from pytorch_lightning.loggers.csv_logs import ExperimentWriter

    if label == "… an ExperimentWriter":
        return ExperimentWriter(str(folder))
    if label.startswith("… a result of self.log"):
        return trained().result.meta if label.endswith("meta") else trained().result
    if label == "… its LightningModule":
        return trained().trainer.lightning_module
    if label.startswith("… its "):
        found = trained().trainer
        for name in label.removeprefix("… its ").split("."):
            found = getattr(found, name)
        return found
    made = {
        "pytorch_lightning.callbacks.ModelCheckpoint()": pl.callbacks.ModelCheckpoint,
        "pytorch_lightning.callbacks.WeightAveraging()": pl.callbacks.WeightAveraging,
        "pytorch_lightning.callbacks.BatchSizeFinder()": pl.callbacks.BatchSizeFinder,
        "pytorch_lightning.loggers.CSVLogger()": lambda: pl.loggers.CSVLogger(str(folder)),
        "pytorch_lightning.loggers.MLFlowLogger()": lambda: pl.loggers.MLFlowLogger(
            tracking_uri=f"sqlite:///{folder}/m.db"
        ),
        "pytorch_lightning.loggers.WandbLogger()": lambda: pl.loggers.WandbLogger(save_dir=str(folder), offline=True),
        "pytorch_lightning.profilers.Profiler()": pl.profilers.PassThroughProfiler,
        "pytorch_lightning.Trainer()": lambda: trained().trainer,
        "jsonargparse.ArgumentParser()": lambda: imported("jsonargparse.ArgumentParser")(),
        "torchmetrics.MeanMetric()": lambda: imported("torchmetrics.MeanMetric")(),
        "torch.utils.data.DataLoader()": lambda: trained().loader,
    }
    if label in made:
        return made[label]()
    return imported(label)


def imported(path: str) -> Any:
    """A module, or what a module has, by its dotted name."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(importlib.import_module(module), name)


USED = [(label, name) for table in (PRIVATE, UNDOCUMENTED) for label, names in table.items() for name in names]


@pytest.mark.parametrize(("label", "name"), USED, ids=lambda text: text.removeprefix("… "))
def test_a_name_that_runtime_uses_is_there(label, name, tmp_path):
    assert hasattr(owner(label, tmp_path), name), f"{label} has no {name} any more"


# ---- The table is complete


def is_private(name: str) -> bool:
    return re.fullmatch(r"_[A-Za-z]\w*", name) is not None


def of_others(tree: ast.Module) -> Iterator[str]:
    """Yield private names that a module uses and does not define: attributes, imports, texts, overridden methods."""
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    imports = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 0
        for alias in node.names
    }
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    yield from (path.rpartition(".")[2] for path in imports.values() if is_private(path.rpartition(".")[2]))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            of = ast.unparse(node.value)
            if of == "super()" or (of not in ("self", "cls") and node.attr not in own):
                yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and is_private(node.value):
            if id(node) not in parts:
                yield node.value
        elif isinstance(node, ast.ClassDef):
            yield from _inherited(node, imports)


def _inherited(node: ast.ClassDef, imports: dict[str, str]) -> Iterator[str]:
    """Private names that a class takes from a base class of another package, or puts in the place of that one's."""
    bases = [imports[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in imports]
    methods = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
    attributes = [n for n in ast.walk(node) if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "self"]
    names = {name for name in (*methods, *(n.attr for n in attributes)) if is_private(name)}
    defined = methods | {n.attr for n in attributes if isinstance(n.ctx, ast.Store)}
    if bases:
        code = "".join(inspect.getsource(one) for base in bases for one in _classes(imported(base)))
        yield from (name for name in names if name not in defined or re.search(rf"\b{name}\b", code))


def _classes(base: type) -> Iterator[type]:
    """Yield a class and its base classes, without those of Python."""
    packages = ("torch", "torchmetrics", "pytorch_lightning", "lightning_fabric", "jsonargparse")
    return (one for one in getattr(base, "__mro__", ()) if one.__module__.split(".")[0] in packages)


@pytest.mark.parametrize("file", WING, ids=lambda file: file.relative_to(RUNTIME).as_posix())
def test_every_private_name_of_another_package_is_in_the_table(file):
    listed = {name for names in PRIVATE.values() for name in names}
    used = set(of_others(ast.parse(file.read_text(encoding="utf-8"))))
    assert used - listed - {name for of, name in NO_PRIVATE_NAMES if of == file.name} == set()


def test_no_name_is_in_the_table_that_runtime_does_not_use():
    used = {name for file in WING for name in of_others(ast.parse(file.read_text(encoding="utf-8")))}
    text = "\n".join(file.read_text(encoding="utf-8") for file in WING)
    assert {name for names in PRIVATE.values() for name in names} - used == set()
    assert [name for _, name in USED if not re.search(rf"\b{name}\b", text)] == []


@pytest.mark.parametrize(
    "code",
    [
        "trainer._secret",
        "trainer.fit_loop._secret = 1",
        "getattr(metric, '_secret')",
        "from torch.utils import _secret",
        "from torch.utils.data import DataLoader\nclass C(DataLoader):\n    def f(self): return self._secret",
        "from torch.utils.data import DataLoader\nclass C(DataLoader):\n    def _get_iterator(self): pass",
    ],
)
def test_a_private_name_is_found(code):
    assert set(of_others(ast.parse(code))) in ({"_secret"}, {"_get_iterator"})


def test_a_private_name_of_the_file_s_own_is_none_of_others():
    code = "class C:\n    def __init__(self):\n        self._a = 1\n    def _b(self): return self._a\ndef f(c): c._b()"
    assert set(of_others(ast.parse(code))) == set()
