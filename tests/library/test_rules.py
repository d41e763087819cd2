"""Rules of the library's code, such as its floors."""

import ast
import re
import tomllib
from collections.abc import Iterator
from importlib.util import resolve_name

import pytest
from lightning_runs.training.speed import COMPARED_RELEASES
from sizes import ROOT, core_and_tasks

# From the ground up. A module may import its own package and the lower lines.
FLOORS = (
    ("names",),
    ("errors", "files"),
    ("contract",),
    ("data", "runs"),
    ("training",),
    ("resume",),
    ("reports",),
    ("cli", "images", "tables", "texts", "masks"),
    ("commands",),
    ("__init__", "__main__"),
)
FLOOR = {package: number for number, packages in enumerate(FLOORS) for package in packages}
MAY_IMPORT_BY_NAME = ("commands", "__init__")
IMPORTERS = ("import_module", "__import__", "run_module", "run_path")
FILES = sorted(ROOT.rglob("*.py"))
LIBRARY = {file.relative_to(ROOT).with_suffix("").parts: file.read_text(encoding="utf-8") for file in FILES}


def imports(code: str, module: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Yield the line and the package of what a module imports of the library; ``?`` for a name that is computed.

    Imports inside functions count, those under ``if TYPE_CHECKING`` do not. A module is such as ``("runs", "find")``.
    """
    nodes = [ast.parse(code)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        nodes += ast.iter_child_nodes(node)  # pyright: ignore
        paths = []
        if isinstance(node, ast.Import):
            paths = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            name = "." * node.level + (node.module or "")
            base = resolve_name(name, ".".join(["lightning_runs", *module[:-1]]))
            paths = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in IMPORTERS:
            yield node.lineno, "?"
        for top, *rest in (path.split(".") for path in paths):
            if top == "lightning_runs":
                yield node.lineno, rest[0] if rest and rest[0] in FLOOR else "__init__"


def offences(code: str, module: tuple[str, ...]) -> list[str]:
    """Describe each import of a module that does not go downwards, with its file and line."""
    package = module[0]
    if package not in FLOOR:
        return [f"{package} has no floor: name it in FLOORS first"]
    found = []
    for line, target in imports(code, module):
        place = f"{'/'.join(module)}.py:{line}"
        if target == "?" and package not in MAY_IMPORT_BY_NAME:
            found.append(f"{place}: imports a module by a computed name")
        elif target not in ("?", package) and FLOOR[target] >= FLOOR[package]:
            found.append(f"{place}: {package} imports {target}, which is not below it")
    return sorted(found)


def test_every_import_goes_downwards() -> None:
    assert [text for module, code in LIBRARY.items() for text in offences(code, module)] == []


@pytest.mark.parametrize("code", ["def f():\n    from ..reports import report", "import_module(name)"])
def test_an_import_upwards_is_named(code: str) -> None:
    (found,) = offences(code, ("runs", "find"))
    assert found.startswith(f"runs/find.py:{len(code.splitlines())}: ")


def test_the_library_has_few_lines_and_lines_say_one_thing() -> None:
    core, tasks = core_and_tasks()
    assert core["lines"] <= 7600  # these numbers are never raised to follow the code
    assert tasks["lines"] <= 2700
    both = core + tasks
    assert both["extra targets"] + both["walruses"] <= 60


# A name may go, or change its meaning, in any release. The module is where it is defined.
PRIVATE = {
    "pytorch_lightning.cli": "_run_subcommand _parse_ckpt_path _prepare_subcommand_kwargs",
    "pytorch_lightning.callbacks.weight_averaging": "_average_model",
    "pytorch_lightning.callbacks.model_checkpoint": "_enable_version_counter _every_n_train_steps _train_time_interval"
    " _save_on_train_epoch_end",
    "pytorch_lightning.core.module": "_current_fx_name",
    "pytorch_lightning.loggers.csv_logs": "_experiment",
    "pytorch_lightning.loggers.mlflow": "_run_id",
    "pytorch_lightning.loggers.wandb": "_wandb_init _id",
    "pytorch_lightning.loops.fit_loop": "_combined_loader _skip_backward",
    "pytorch_lightning.loops.loop": "_restarting",
    "pytorch_lightning.loops.training_epoch_loop": "_TrainingEpochLoop _batches_that_stepped _results _skip_next_val"
    " _should_check_val_fx _num_ready_batches_reached",
    "pytorch_lightning.trainer.connectors.data_connector": "_datahook_selector",
    "pytorch_lightning.trainer.connectors.logger_connector.logger_connector": "_callback_metrics _logged_metrics"
    " _progress_bar_metrics _current_fx _first_loop_iter",
    "pytorch_lightning.trainer.connectors.logger_connector.result": "_ResultCollection _ResultMetric",
    "pytorch_lightning.trainer.setup": "_val_check_time_interval",
    "pytorch_lightning.trainer.trainer": "_logger_connector _data_connector _active_loop",
    "pytorch_lightning.utilities.combined_loader": "_mode",
    "lightning_fabric.loggers.csv_logs": "_check_log_dir_exists _rewrite_with_new_header _version",
    "lightning_fabric.loggers.tensorboard": "_version",
    "jsonargparse._core": "_load_config_parser_mode",
    "argparse": "_actions",
    "torch.nn.modules.module": "_non_persistent_buffers_set",
    "torch.utils.data.dataloader": "_iterator",
    "torchmetrics.metric": "_defaults _update_count",
}
# What only looks like a private name: a function, endings of a strategy and of a metric, a key of the library's own.
OTHERS = {"_exit", "_find_unused_parameters_true", "_step", "_cache"}
# Names of methods and an attribute that replace those of a base class, and so look like the library's own.
REPLACED = {"_parse_ckpt_path", "_check_log_dir_exists", "_rewrite_with_new_header", "_experiment"}


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
    table = set(" ".join(PRIVATE.values()).split())
    names = {name for code in LIBRARY.values() for name in private_names(code)} - OTHERS
    assert names - table == set()
    assert table - names == REPLACED


def test_lightning_is_capped_at_the_release_that_was_compared() -> None:
    project = tomllib.loads((ROOT.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (requirement,) = [text for text in project["dependencies"] if text.startswith("pytorch-lightning")]
    major, minor, _ = COMPARED_RELEASES[-1].split(".")
    assert requirement.endswith(f",<{major}.{int(minor) + 1}")
