"""A sweep in its database: its trials are taken one after the other, trained, and told to Optuna."""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import Trial, TrialState

from .. import signals
from ..checkpoints import flat
from ..errors import DivergedError, UserError, message, reason
from ..runs import Run
from . import _sweep_page, _sweep_trial
from ._sweep_claims import Claims
from ._sweep_space import Space, arguments

MAX_FAILURES = 3  # in a row: then the mistake is in all of them
# Options that change nothing in the result, and may differ between machines.
_FREE = (
    "data.num_workers",
    "data.skip_corrupt",
    "data.cache_images",
    "data.root",
    "save_every_n_steps",
    "trainer.default_root_dir",
)


class Sweep:
    """A sweep in its database, and this process's work on it.

    Args:
        name: Its name; trial 7 is the run ``NAME-007``.
        root: The folder with all runs.
        space: What is searched.
        url: The database.
        fit: Options of `fit` for every trial.
        program: What the command line begins with.
    """

    def __init__(self, name: str, root: Path, space: Space, url: str, fit: list[str], program: str) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self.name, self.root, self.space, self.fit, self.program = name, root, space, fit, program
        self._parts = {part: space.build(part) for part in ("sampler", "pruner")}
        # SQLite: seconds to wait while another process writes
        wait = {"connect_args": {"timeout": 20}} if url.startswith("sqlite") and "timeout=" not in url else {}
        for attempt in range(10):
            try:
                self._storage = optuna.storages.RDBStorage(url, engine_kwargs=wait)
                self._study = self._load()
                self._study_id = self._storage.get_study_id_from_name(name)
                self._claims = Claims(self._storage.engine, name)
                break
            except Exception as error:
                # of two processes that begin a sweep together, both make Optuna's tables, and one of them fails
                made = "already exists" in str(error) or type(error).__name__ == "IntegrityError"
                if attempt == 9 or not made:
                    raise
                time.sleep(0.2)

    def _load(self) -> Any:
        """Load Optuna's study, anew for each trial: the sampler of one that is kept would not see what others did."""
        return optuna.create_study(
            storage=self._storage,
            study_name=self.name,
            direction=self.space.direction,
            load_if_exists=True,
            **self._parts,
        )

    def begin(self, base: dict[str, Any]) -> None:
        """Refuse to go on with another sweep than was begun.

        Args:
            base: All options that the trials have in common.

        Raises:
            UserError: The search space or an option differs.
        """
        options = {name: value for name, value in flat(base).items() if name not in _FREE}
        space = {"metric": self.space.metric, "direction": self.space.direction, **self.space.options}
        for key, now in (("options", options), ("space", space)):
            now = json.loads(json.dumps(now, default=str))
            before = self._study.user_attrs.get(key)
            if before is None:
                self._study.set_user_attr(key, now)
            elif changed := sorted(name for name in before | now if before.get(name) != now.get(name)):
                was, now_is = (json.dumps(of.get(changed[0])) for of in (before, now))
                raise UserError(
                    f"the sweep {self.name} was begun with {changed[0]} {was}, and now it is {now_is}. Begin another"
                    " one under a name of its own: sweep NAME"
                )

    def work(self, trials: int) -> None:
        """Train trials until so many are complete or pruned, here or elsewhere.

        Raises:
            UserError: Several in a row have failed.
        """
        failures, waiting = 0, False
        while True:
            known = self._study.get_trials(deepcopy=False)
            # one that failed is made up for by another one
            wanted = trials + sum(trial.state == TrialState.FAIL for trial in known)
            unfinished = [n for n in range(wanted) if n >= len(known) or not known[n].state.is_finished()]
            if not unfinished:
                return
            number = self._claims.take(unfinished)
            if number is None:
                if not waiting:
                    others = ", ".join(f"trial {n} ({self._claims.owner(n)})" for n in unfinished)
                    print(f"waiting for {others}", flush=True)
                waiting = True
                time.sleep(1)
                continue
            waiting = False
            try:
                failed = None if self._finished(number) else self._train(number)
            finally:
                self._claims.release()
            failures = failures + 1 if failed else 0
            if failures == MAX_FAILURES:
                raise UserError(f"{failures} trials in a row have failed, the last one because: {failed}")

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    def _finished(self, number: int) -> bool:
        # If two processes add a trial at once there is one too many, which is claimed later, if so many are wanted.
        while len(self._study.get_trials(deepcopy=False)) <= number:
            self._study.enqueue_trial({})
        return self._storage.get_trial(self._id(number)).state.is_finished()

    def _train(self, number: int) -> str | None:
        """Train a trial, or go on with it; return why it failed, if it did."""
        study = self._load()
        run = f"{self.name}-{number:03d}"
        folder = self.root.absolute() / run
        fresh = self._storage.set_trial_state_values(self._id(number), TrialState.RUNNING)
        if fresh and folder.exists():
            self._storage.set_trial_state_values(self._id(number), TrialState.WAITING)
            raise UserError(
                f"{folder} is there already, and is no trial of this sweep. Choose another name: sweep NAME"
            )
        trial = Trial(study, self._id(number))
        values = self.space.suggest(trial)
        shown = "  ".join(f"{name.split('.')[-1]} {_short(value)}" for name, value in values.items())
        print(f"trial {number} {'begins' if fresh else 'goes on'}: {shown}", flush=True)

        def check() -> None:
            if self._claims.lost:
                raise LostError(f"another process has gone on with trial {number}, for this one seemed to be dead.")

        before = self._storage.get_trial(self._id(number)).intermediate_values
        reports = _sweep_trial.Reports(trial, self.space.metric, set(before), check)
        given = arguments(values)
        try:
            _sweep_trial.train(["fit", *self.fit, *given, f"--run={run}", "--resume"], reports)
            failed = None
        except (signals.Stopped, LostError):
            raise
        except DivergedError as error:  # as bad as can be: Optuna is to learn from it
            reports.pruned, failed = True, None
            print(f"trial {number}: {error}", file=sys.stderr)
        except Exception as error:
            if is_of_database(error):
                raise
            failed = message(error) or f"{type(error).__name__}: {reason(error)}"
            print(f"trial {number} failed: {failed}", file=sys.stderr)
        check()
        if failed:
            trial.set_user_attr("failed", failed)
            study.tell(trial, state=TrialState.FAIL)
            return failed
        reported = self._storage.get_trial(self._id(number)).intermediate_values
        if reports.pruned:
            study.tell(trial, state=TrialState.PRUNED)
            print(f"trial {number} was pruned after {len(reported)} epochs", flush=True)
            return None
        if not reported:
            names = ", ".join(reports.logged) or "nothing"
            raise UserError(f"metric is {self.space.metric!r} in {self.space.file}; the training logs {names}.")
        value = (max if self.space.direction == "maximize" else min)(reported.values())
        trial.set_user_attr("config", Run(folder).config_file.read_text(encoding="utf-8"))
        study.tell(trial, value)
        print(f"trial {number}: {self.space.metric} {value:.4f} ({run})", flush=True)
        return None

    def conclude(self) -> None:
        """Write the best trial's configuration and a page of plots, and say where they are.

        Raises:
            UserError: No trial is complete.
        """
        study = self._load()
        count = {
            state: len(study.get_trials(deepcopy=False, states=(getattr(TrialState, state.upper()),)))
            for state in ("complete", "pruned")
        }
        if not count["complete"]:
            raise UserError(f"none of the {count['pruned']} trials has come to its end; all of them were pruned.")
        best = study.best_trial
        told = (
            f"trial {best.number}, {self.space.metric} {best.value:.4f}, of {count['complete']} complete and"
            f" {count['pruned']} pruned"
        )
        config = self.root / self.name / "best.yaml"
        repeat = f"{self.program} fit -c {config.as_posix()}"
        header = f"# The best of the sweep {self.name}: {told}\n# To train it again: {repeat}\n"
        _write(config, header + best.user_attrs["config"].split("\n", 1)[1])
        page = self.root / self.name / "sweep.html"
        _write(page, _sweep_page.html(study, self.name, self.space.metric))
        print(f"\nBest: {told}")
        for name, value in best.params.items():
            print(f"    {name}: {_short(value)}")
        print(f"Its configuration: {config}\nPlots: {page}\nNext: {repeat}", flush=True)


class LostError(UserError):
    """Another process works on this one's trial."""


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _write(file: Path, text: str) -> None:
    """Write a file, whole or not at all, whoever else writes it."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, file)


def is_of_database(error: BaseException) -> bool:
    """Whether the database, and no training, raised an error."""
    return type(error).__name__ == "StorageInternalError" or type(error).__module__.startswith("sqlalchemy.")
