"""The private names of other packages that the library uses: the one table of them, and each is in the release."""

import ast
import importlib
import re
import tomllib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
from jsonargparse import ArgumentParser
from lightning_runs.training.speed import COMPARED_RELEASES
from pytorch_lightning.cli import LightningCLI
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from sizes import ROOT
from torch.utils.data import DataLoader
from torchmetrics import MeanMetric
from toy import Toy, ToyData

# A name may go, or change its meaning, in any release. `used` has what the first words stand for.
PRIVATE = {
    "training_epoch_loop": ["_TrainingEpochLoop"],
    "result_module": ["_ResultCollection", "_ResultMetric"],
    "cli": ["_run_subcommand", "_parse_ckpt_path", "_prepare_subcommand_kwargs"],
    "batch_size_finder": ["_batch_arg_name"],
    "weight_averaging": ["_average_model"],
    "model_checkpoint": ["_enable_version_counter", "_every_n_train_steps", "_train_time_interval"],
    "model_checkpoint ": ["_save_on_train_epoch_end", "_last_global_step_saved"],
    "csv_writer": ["_check_log_dir_exists", "_rewrite_with_new_header"],
    "csv_logger": ["_experiment"],
    "wandb_logger": ["_wandb_init"],
    "trainer": ["_logger_connector", "_data_connector", "_val_check_time_interval", "_active_loop"],
    "trainer.lightning_module": ["_current_fx_name"],
    "trainer._data_connector": ["_datahook_selector"],
    "trainer._logger_connector": ["_callback_metrics", "_logged_metrics", "_progress_bar_metrics"],
    "trainer._logger_connector ": ["_current_fx", "_first_loop_iter"],
    "trainer.fit_loop": ["_combined_loader", "_restarting", "_skip_backward"],
    "trainer.validate_loop": ["_combined_loader"],
    "trainer.fit_loop.epoch_loop": ["_batches_that_stepped", "_results", "_skip_next_val", "_should_check_val_fx"],
    "trainer.fit_loop.epoch_loop ": ["_num_ready_batches_reached"],
    "trainer.fit_loop._combined_loader": ["_mode"],
    "result": ["_defaults"],
    "metric": ["_defaults", "_update_count"],
    "parser": ["_actions", "_load_config_parser_mode"],
    "loader": ["_iterator"],
}
# What only looks like a private name: a function, endings of a strategy and of a metric, a key of the library's own.
OTHERS = {"_exit", "_find_unused_parameters_true", "_step", "_cache"}
# Names of methods and an attribute that replace those of a base class, and so look like the library's own.
REPLACED = {"_parse_ckpt_path", "_check_log_dir_exists", "_rewrite_with_new_header", "_experiment"}
FILES = sorted(ROOT.rglob("*.py"))


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Return the objects whose private names are used."""
    results = {}

    class Watched(Toy):
        def on_train_batch_end(self, *args: Any) -> None:
            results.update(self.trainer.fit_loop.epoch_loop._results)

    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(Watched(), ToyData())
    folder = str(tmp_path_factory.mktemp("names"))
    return SimpleNamespace(
        trainer=trainer,
        result=results["training_step.train/loss"],
        metric=MeanMetric(),
        parser=ArgumentParser(),
        loader=DataLoader([1]),  # pyright: ignore
        cli=LightningCLI,
        csv_writer=ExperimentWriter(folder),
        csv_logger=pl.loggers.CSVLogger(folder),
        wandb_logger=pl.loggers.WandbLogger(save_dir=folder, offline=True),
        batch_size_finder=pl.callbacks.BatchSizeFinder(),
        weight_averaging=pl.callbacks.WeightAveraging(),
        model_checkpoint=pl.callbacks.ModelCheckpoint(),
        training_epoch_loop=importlib.import_module("pytorch_lightning.loops.training_epoch_loop"),
        result_module=importlib.import_module("pytorch_lightning.trainer.connectors.logger_connector.result"),
    )


@pytest.mark.parametrize(("owner", "names"), PRIVATE.items(), ids=PRIVATE)
def test_the_names_of_the_table_are_in_the_release(owner, names, used) -> None:
    found = used
    for part in owner.strip().split("."):
        found = getattr(found, part)
    assert [name for name in names if not hasattr(found, name)] == []


def private_names(code: str) -> Iterator[str]:
    """Yield private names that a module uses and does not define: attributes, imports and texts."""
    tree = ast.parse(code)
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    in_f_strings = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    own |= {node.attr for node in attributes if isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self"}
    names = [node.attr for node in attributes if node.attr not in own or ast.unparse(node.value) == "super()"]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in in_f_strings:
            names.append(node.value)
    return (name for name in names if re.fullmatch(r"_[A-Za-z]\w*", name))


def test_the_table_has_every_private_name_that_is_used() -> None:
    table = {name for names in PRIVATE.values() for name in names}
    names = {name for file in FILES for name in private_names(file.read_text(encoding="utf-8"))} - OTHERS
    assert names - table == set()
    assert table - names == REPLACED


@pytest.mark.parametrize("code", ["a._secret", "a.b._secret = 1", "getattr(a, '_secret')", "from a import _secret"])
def test_a_private_name_is_found_unless_it_is_the_module_s_own(code) -> None:
    assert list(private_names(code)) == ["_secret"]
    assert list(private_names("self._secret = 1\na._secret; a.__class__; f'{a}_secret'")) == []


def test_lightning_is_capped_at_the_release_that_was_compared() -> None:
    project = tomllib.loads((ROOT.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (requirement,) = [text for text in project["dependencies"] if text.startswith("pytorch-lightning")]
    major, minor, _ = COMPARED_RELEASES[-1].split(".")
    assert requirement.endswith(f",<{major}.{int(minor) + 1}")
