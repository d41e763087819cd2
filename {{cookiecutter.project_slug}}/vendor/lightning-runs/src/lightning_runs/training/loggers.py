"""Loggers: built by name or class, offline where nothing can be reached, and continued when a run is resumed."""

import csv
import inspect
import io
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import quote, urlsplit

from jsonargparse import ArgumentParser
from lightning_fabric.utilities.rank_zero import rank_zero_only
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.loggers.logger import rank_zero_experiment

from ..errors import UserError, require
from ..files import write_whole
from ..names import package
from ..runs import Run, metric_rows

CLASSES = {"wandb": WandbLogger, "tensorboard": TensorBoardLogger, "mlflow": MLFlowLogger, "csv": CSVLogger}
UNSET = (None, "lightning_logs")  # defaults that the parser passes on from one class to the next
OFFLINE = ("offline", "dryrun")  # values of WANDB_MODE


class LoggerFactory(Protocol):
    """A class of loggers with its options, all but the folder."""

    def __call__(self, *, save_dir: str) -> Logger: ...


Loggers = list[Literal["wandb", "tensorboard", "mlflow", "csv", "none"] | LoggerFactory]  # of the option --logger


def given_options(owner: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a class without those that have their default."""
    parser = ArgumentParser()
    parser.add_class_arguments(owner)
    defaults = parser.get_defaults()
    return {name: value for name, value in options.items() if value not in (*UNSET, defaults.get(name))}


def build(choices: list[Any], run: Run, step: int) -> list[Logger]:
    """Build the chosen loggers, and CSV beside them; ``step`` is the first one that will be logged, perhaps again."""
    if choices == ["none"]:
        return []
    kept = run.record.setdefault("logged_as", {})  # the loggers' own runs, which are continued
    # the chosen ones first: the first is the module's `self.logger`, as in Lightning's documentation
    built = [_build(choice, run) for choice in choices if choice != "none"]
    found = [logger for logger in built if type(logger) is not CSVLogger]  # which is metrics.csv
    prepare(found, run, step)
    for number, logger in enumerate(found):
        if isinstance(logger, WandbLogger):
            logger._wandb_init.pop("anonymous", None)  # Lightning always passes it, and W&B warns about it
            if str(number) in kept and os.environ.get("WANDB_MODE") in OFFLINE:
                _log_again(logger, run, step)
        if isinstance(logger, tuple(CLASSES.values())):
            kept[str(number)] = logger.version  # MLflow chooses it now
    return [*found, MetricsCSV(run.folder, step)]


def prepare(loggers: Sequence[Logger], run: Run, step: int) -> None:
    """Have loggers of a plain script continue their own runs, before Lightning has any of them begin a new one."""
    for number, logger in enumerate(loggers):
        kept = run.record.get("logged_as", {}).get(str(number))
        if kept is not None:
            _continue(logger, kept, step)
        elif isinstance(logger, WandbLogger):
            _continue(logger, logger._id or secrets.token_hex(4), step)


def continue_runs(loggers: Sequence[Logger], run: Run, step: int, rows: Mapping[Path, str]) -> None:
    """Record the run of each logger, or have it continue that; ``rows`` are of files that Lightning may delete."""
    for file, text in rows.items():
        write_whole(file, text)
    for number, logger in enumerate(loggers):
        begun = logger.run_id if isinstance(logger, MLFlowLogger) else logger.version
        kept = run.record.setdefault("logged_as", {}).setdefault(str(number), begun)
        if isinstance(logger, CSVLogger | TensorBoardLogger):
            new = Path(logger.log_dir)
            if kept != begun and isinstance(logger, TensorBoardLogger):
                logger.experiment.close()
            _continue(logger, kept, step)
            if new != Path(logger.log_dir):
                shutil.rmtree(new, ignore_errors=True)
        elif kept != begun:
            text = f"{type(logger).__name__} has begun the run {begun}, and the training was logged as {kept}."
            raise UserError(f"{text} Train by resume.fit(trainer, …), which has the logger continue its run.")
        if isinstance(logger, WandbLogger) and logger.experiment.offline:
            _log_again(logger, run, step)
    folders = [logger.log_dir for logger in loggers if isinstance(logger, CSVLogger)]
    run.update(csv_files=[str(Path(folder, "metrics.csv")) for folder in folders])


def _continue(logger: Any, identity: Any, step: int) -> None:
    if isinstance(logger, WandbLogger):
        logger._id = logger._wandb_init["id"] = identity
    elif isinstance(logger, MLFlowLogger):
        logger._run_id = identity
    elif isinstance(logger, CSVLogger | TensorBoardLogger):
        logger._version = identity
        logger._experiment = None
        if isinstance(logger, CSVLogger) and getattr(rank_zero_only, "rank", 0) == 0:
            Path(logger.log_dir).mkdir(parents=True, exist_ok=True)
            logger._experiment = _AppendingWriter(logger.log_dir, step)


def log_options(loggers: Iterable[Logger], options: Mapping[str, Any]) -> None:
    """Log every option of a new run, by its dotted name, as a parameter."""
    params = {name: "null" if value is None else value for name, value in options.items()}
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(params, {"hp_metric": -1})  # it writes no parameters without a metric
        elif not isinstance(logger, MetricsCSV):
            logger.log_hyperparams(params)


def log_picture(logger: Logger, name: str, picture: Any, trainer: Trainer) -> bool:
    """Log a PIL image as ``split/name``, and return whether this logger can: W&B's, TensorBoard's or MLflow's."""
    step = trainer.global_step
    if isinstance(logger, WandbLogger):
        logger.log_image(name, [picture], step)
    elif isinstance(logger, TensorBoardLogger):
        import numpy as np

        logger.experiment.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")
    elif isinstance(logger, MLFlowLogger):
        logger.experiment.log_image(logger.run_id, picture, artifact_file=f"{name}_{step:06d}.png")
    else:
        return False
    return True


def _build(choice: Any, run: Run) -> Logger:
    """Build a logger by its name or class; its folder is the run's, and its name too unless the user gives one."""
    if isinstance(choice, str):
        require(choice, choice)  # each logger has the name of its package; csv is Python's own
    owner = CLASSES[choice] if isinstance(choice, str) else choice.args[-1]
    given = {} if isinstance(choice, str) else given_options(owner, choice.keywords)
    project = package() or "lightning"
    ours: dict[str, Any] = {"name": run.name, "run_name": run.name, "experiment_name": project}
    if issubclass(owner, TensorBoardLogger):
        ours |= {"name": "", "version": "tensorboard", "default_hp_metric": False}
    elif issubclass(owner, MLFlowLogger):
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        ours["tracking_uri"] = os.environ.get("MLFLOW_TRACKING_URI")
        if not given.get("tracking_uri", ours["tracking_uri"]):
            # current MLflow refuses a plain folder as its store; a database needs no server
            root = run.folder.parent
            database = quote((root / "mlflow.db").as_posix(), safe="/:")
            # with the driver's name, or else MLflow makes a folder of the path as it is quoted
            ours |= {"tracking_uri": f"sqlite+pysqlite:///{database}", "artifact_location": (root / "mlflow").as_uri()}
    elif issubclass(owner, WandbLogger):
        ours["project"] = os.environ.get("WANDB_PROJECT") or project
        _set_wandb_mode(given, run)
    ours["save_dir"] = str(run.folder)
    arguments = inspect.signature(owner).parameters
    return owner(**{name: value for name, value in ours.items() if name in arguments} | given)


def _set_wandb_mode(given: Mapping[str, Any], run: Run) -> None:
    """Set W&B offline for a reason, which is printed."""
    chosen = given.get("offline") or given.get("mode") in OFFLINE
    reason = "logger.offline is true" if chosen else _reason_to_stay_offline()
    if reason is not None:
        os.environ["WANDB_MODE"] = "offline"
        os.environ.setdefault("WANDB_SILENT", "true")
        folder = os.path.relpath(run.folder / "wandb")
        rank_zero_only(print)(f"W&B is offline ({reason}). To upload the run later: wandb sync {folder}/offline-run-*")


def _log_again(logger: WandbLogger, run: Run, step: int) -> None:
    """Log the rows before a step again, marked ``repeated``: an offline file of a killed run lacks its last 32 KiB."""
    with suppress(TypeError, ValueError):  # of a row that a kill has cut short
        for row in metric_rows(run):
            values = {name: float(value) for name, value in row.items() if value and name != "step"}
            if int(row["step"]) < step:
                logger.log_metrics(values | {"repeated": 1.0}, step=int(row["step"]))


def _reason_to_stay_offline() -> str | None:
    """Return why W&B would fail, prompt or wait if it went online, or None."""
    import requests  # W&B depends on it

    mode = os.environ.get("WANDB_MODE")
    if mode:
        return f"WANDB_MODE is {mode}" if mode in OFFLINE else None
    address = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    key = any(os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"))
    if not key and not requests.utils.get_netrc_auth(address):
        return "no API key; wandb login sets one"
    try:
        requests.head(address, timeout=3)  # seconds
    except requests.RequestException:
        return f"{urlsplit(address).hostname} can't be reached"
    return None


class MetricsCSV(CSVLogger):
    """Lightning's CSV logger, writing ``metrics.csv`` into the run's folder.

    A resumed run keeps its rows. Those of ``step`` and later ones are dropped, because they will be written again.
    """

    def __init__(self, folder: Path, step: int) -> None:
        super().__init__(save_dir=str(folder), name="", version="", flush_logs_every_n_steps=10)
        self._step = step
        self._last_flush = 0.0  # seconds of the monotonic clock

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._experiment is None:
            self._experiment = _AppendingWriter(self.log_dir, self._step)
        return self._experiment

    def save(self) -> None:
        """Write the waiting rows, at most once a second: Lightning calls this after each row."""
        if time.monotonic() - self._last_flush > 1:
            self.flush()

    def flush(self) -> None:
        super().save()
        self._last_flush = time.monotonic()

    def finalize(self, status: str) -> None:
        if self._experiment is not None:
            self.flush()


class _AppendingWriter(ExperimentWriter):
    """Keep the existing rows before a step, without one that a kill has cut short."""

    def __init__(self, log_dir: str, step: int) -> None:
        super().__init__(log_dir)
        self._file = Path(self.metrics_file_path)
        if not self._file.is_file():
            return
        with self._file.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.reader(stream))
        header = rows[0] if rows else []
        whole = [dict(zip(header, row, strict=True)) for row in rows if len(row) == len(header)]
        self.metrics_keys = header
        self._write([row for row in whole if row["step"].isdigit() and int(row["step"]) < step])

    def _check_log_dir_exists(self) -> None:
        """Keep the existing file: Lightning's own writer deletes the rows of a resumed run."""

    def _rewrite_with_new_header(self, fieldnames: Sequence[str]) -> None:
        with self._file.open(newline="", encoding="utf-8") as stream:
            self._write(list(csv.DictReader(stream)))

    def _write(self, rows: Sequence[Mapping[str, str]]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=self.metrics_keys)
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self._file, text.getvalue())

    def log_hparams(self, params: dict[str, Any]) -> None:
        """Write nothing: the run's ``config.yaml`` holds every option."""
