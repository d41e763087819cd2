"""Loggers: built by name, offline where nothing can be reached, and continued when a run is resumed."""

import csv
import io
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from lightning_fabric.utilities.rank_zero import rank_zero_only
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.loggers.logger import rank_zero_experiment

from ..errors import UserError, require
from ..files import write_whole
from ..runs import Run

LoggerName = Literal["wandb", "tensorboard", "mlflow", "csv", "none"]


@dataclass
class LoggerOptions:
    """Where the chosen logger puts a run.

    Args:
        project: W&B project, or MLflow experiment.
        entity: W&B user or team; null is your default one.
        tracking_uri: MLflow server or database; null takes MLFLOW_TRACKING_URI, or else a database beside the runs.
    """

    project: str = "lightning"
    entity: str | None = None
    tracking_uri: str | None = None


def build(name: LoggerName, options: LoggerOptions, run: Run, step: int) -> list[Logger]:
    """Build the chosen logger, and CSV beside it; ``step`` is the first one that will be logged, perhaps again."""
    if name == "none":
        return []
    require(name, name)  # each logger has the name of its package; csv is Python's own
    run.record.setdefault("logged_as", {})  # the logger's own run, which is continued
    found: list[Logger] = [MetricsCSV(run.folder, step)]
    # the chosen one first: it is the module's `self.logger`, as in Lightning's documentation
    if name == "tensorboard":
        folder = str(run.folder)
        found.insert(0, TensorBoardLogger(folder, name="", version="tensorboard", default_hp_metric=False))
    elif name == "mlflow":
        found.insert(0, _mlflow(options, run))
    elif name == "wandb":
        found.insert(0, _wandb(options, run, step))
    return found


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
    for number, logger in enumerate(loggers):
        begun = logger.run_id if isinstance(logger, MLFlowLogger) else logger.version
        kept = run.record.setdefault("logged_as", {}).setdefault(str(number), begun)
        if isinstance(logger, CSVLogger | TensorBoardLogger):
            new = Path(logger.log_dir)
            if kept != begun and isinstance(logger, TensorBoardLogger):
                logger.experiment.close()
            for file, text in rows.items():
                write_whole(file, text)
            _continue(logger, kept, step)
            if new != Path(logger.log_dir):
                shutil.rmtree(new, ignore_errors=True)
        elif kept != begun:
            raise UserError(
                f"{type(logger).__name__} has begun the run {begun}, and the training was logged as {kept}. Train by"
                " resume.fit(trainer, …), which has the logger continue its run."
            )
    csv_files = [str(Path(logger.log_dir) / "metrics.csv") for logger in loggers if isinstance(logger, CSVLogger)]
    run.update(csv_files=csv_files)


def rows_of(run: Run) -> dict[Path, str]:
    """Return the contents of the files that CSV loggers have written for a run of a plain script."""
    files = [Path(file) for file in run.record.get("csv_files", [])]
    return {file: file.read_text(encoding="utf-8") for file in files if file.is_file()}


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


def close(loggers: Iterable[Logger]) -> None:
    """End the loggers' open runs, for a later training in this process."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()


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


def _mlflow(options: LoggerOptions, run: Run) -> Logger:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    root = run.folder.parent
    uri = options.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    # current MLflow refuses a plain folder as its store; a database needs no server
    database = quote((root / "mlflow.db").as_posix(), safe="/:")
    logger = MLFlowLogger(
        experiment_name=options.project,
        run_name=run.name,
        # with the driver's name, or else MLflow makes a folder of the path as it is quoted
        tracking_uri=uri or f"sqlite+pysqlite:///{database}",
        artifact_location=None if uri else (root / "mlflow").as_uri(),
        run_id=run.record["logged_as"].get("mlflow"),
    )
    run.record["logged_as"]["mlflow"] = logger.run_id  # MLflow chooses it; a resumed run continues it
    return logger


def _wandb(options: LoggerOptions, run: Run, step: int) -> Logger:
    import wandb

    is_resumed = "wandb" in run.record["logged_as"]
    identity = run.record["logged_as"].setdefault("wandb", secrets.token_hex(4))
    reason = _reason_to_stay_offline()
    if reason is not None:
        os.environ["WANDB_MODE"] = "offline"
        folder = os.path.relpath(run.folder / "wandb")
        rank_zero_only(print)(f"W&B is offline ({reason}). To upload the run later: wandb sync {folder}/offline-run-*")
    logger = WandbLogger(
        name=run.name,
        project=options.project,
        entity=options.entity,
        id=identity,
        resume="allow",
        save_dir=str(run.folder),
        settings=wandb.Settings(silent=reason is not None),
    )
    logger._wandb_init.pop("anonymous", None)  # Lightning always passes it, and W&B warns about it
    if is_resumed and reason is not None:
        _log_again(logger, run.folder / "metrics.csv", step)
    return logger


def _log_again(logger: WandbLogger, file: Path, step: int) -> None:
    """Log the rows before a step again, marked ``repeated``: an offline file of a killed run lacks its last 32 KiB."""
    with suppress(OSError, ValueError, csv.Error), file.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            values = {name: float(value) for name, value in row.items() if value and name != "step"}
            if int(row["step"]) < step:
                logger.log_metrics(values | {"repeated": 1.0}, step=int(row["step"]))


def _reason_to_stay_offline() -> str | None:
    """Return why W&B would fail, prompt or wait if it went online, or None."""
    import requests  # W&B depends on it

    mode = os.environ.get("WANDB_MODE")
    if mode:
        return f"WANDB_MODE is {mode}" if mode in ("offline", "dryrun") else None
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
        """Return the writer of metrics.csv."""
        if self._experiment is None:
            self._experiment = _AppendingWriter(self.log_dir, self._step)
        return self._experiment

    def save(self) -> None:
        """Write the waiting rows, at most once a second: Lightning calls this after each row."""
        if time.monotonic() - self._last_flush > 1:
            self.flush()

    def flush(self) -> None:
        """Write the waiting rows."""
        super().save()
        self._last_flush = time.monotonic()

    def finalize(self, status: str) -> None:
        """Write the waiting rows."""
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
        """Replace the file, whole or not at all."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=self.metrics_keys)
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self._file, text.getvalue())

    def log_hparams(self, params: dict[str, Any]) -> None:
        """Write nothing: the run's ``config.yaml`` holds every option."""
