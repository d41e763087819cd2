"""What a user is told when something is wrong: one clear message, no traceback."""

from __future__ import annotations

import re
import traceback
from importlib.util import find_spec


class UserError(ValueError):
    """A mistake that the person at the keyboard can mend; `main` prints its text alone and exits with 1."""


class Mistake(SystemExit):
    """A mistake on the command line, which was printed: it ends the process with 2. ``text`` says it again."""

    def __init__(self, text: str) -> None:
        super().__init__(2)
        self.text = text


class DivergedError(UserError):
    """The training has come to values that are not finite."""


def message(error: Exception) -> str | None:
    """What to tell the user of an error that a traceback would only hide; None if its traceback is needed."""
    # jsonargparse raises an error of its own in the place of what a linked value raises
    if not isinstance(error, UserError) and isinstance(error.__cause__, UserError):
        error = error.__cause__
    text = str(error).strip()
    if isinstance(error, UserError):  # raised in a process that loads batches, it comes with the traceback of that one
        files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
        sought = any(file.endswith("batch_size_scaling.py") for file in files)
        end = " BatchSizeFinder came to this size: end it sooner by its max_trials, or give --data.batch_size auto."
        return re.split(r"^[\w.]+\.UserError: ", text, flags=re.MULTILINE)[-1] + end * sought
    if isinstance(error, OSError) and error.filename:
        file = re.sub(r"\.([^/\\]+)\.[0-9a-f]{8}\.tmp$", r"\1", str(error.filename))  # of `runs.write_whole`
        return f"{file} can't be used: {error.strerror}."
    if text.startswith("DataLoader worker (pid"):
        return (
            f"a process that loads batches has died: {text.rstrip('. ')}. Most often memory ran out: give the loaders"
            " fewer such processes (num_workers), or none. To go on: fit --resume"
        )
    if "num_samples=0" in text:  # torch's words, when a loader shuffles
        return "a data set has no items, so its loader can't shuffle them."
    if "parameters that were not used in producing the loss" in text:
        return (
            "a step does not use all parameters of the model, and several processes then wait for one another. Add"
            " --trainer.strategy ddp_find_unused_parameters_true"
        )
    if type(error).__module__.startswith("mlflow"):
        return (
            f"MLflow can't be used: {reason(error)}. Start its server, name another one with"
            " --logger_options.tracking_uri, or choose --logger csv. A run that has begun goes on with fit --resume."
        )
    return _refusal(error, text)


def _refusal(error: Exception, text: str) -> str | None:
    """What Lightning, a loader or an optimizer refuses itself: an option's value, or what it lacks."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    raised_in = frames[-1].f_code.co_filename if frames else ""
    of_torch = r"torch[\\/](optim|utils[\\/]data[\\/](dataloader|sampler))"
    if re.search(rf"[\\/](pytorch_lightning|lightning_fabric|{of_torch})([\\/]|\.py$)", raised_in):
        for frame in frames:
            if "self" in frame.f_locals and re.search(r"pytorch_lightning[\\/]callbacks", frame.f_code.co_filename):
                return f"{type(frame.f_locals['self']).__name__}: {text}"
        options = re.search(r"connectors|plugins|accelerators", raised_in)
        if isinstance(error, (ValueError, ImportError, *((TypeError, RuntimeError) if options else ()))):
            return text
    return text if type(error).__name__ == "MisconfigurationException" else None


def reason(error: Exception) -> str:
    """Why a file can't be read, in one line."""
    text = (getattr(error, "strerror", None) or str(error)).strip()
    if code := re.search(r"GLOBAL ([\w.]+)", text):
        return f"it holds {code.group(1)}, and code in a file is never executed"
    if not text or text.startswith("Weights only load failed"):
        return f"it is empty or damaged ({type(error).__name__})"
    return text.splitlines()[0][:200]


def require(extra: str, *packages: str) -> None:
    """Refuse to go on without packages.

    Args:
        extra: The extra in pyproject.toml that has them.
        packages: Their import names.

    Raises:
        UserError: One is not installed.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise UserError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed. Install with:"
            f" pip install -e '.[{extra}]' (uv: uv sync --extra {extra})."
        )
