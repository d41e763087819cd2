"""The message that is printed for an error, in one line where a traceback would hide it."""

from __future__ import annotations

import difflib
import re
import traceback
from collections.abc import Iterable, Mapping

from ..errors import UserError, reason


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
        file = re.sub(r"\.([^/\\]+)\.[0-9a-f]{8}\.tmp$", r"\1", str(error.filename))  # of `files.write_whole`
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


def parser_message(message: str, options: Iterable[str], files: Mapping[str, object] | None = None) -> str:
    """Condense an error of the command-line parser to at most four lines.

    Args:
        message: The parser's text, which may run over dozens of lines (one for every type that was tried).
        options: The options that exist, such as ``--trainer.max_epochs``, from which a misspelt one is guessed.
        files: The configuration file that an option is from, by its name.
    """
    if linked := re.search(r'Linked "([\w.]+)" must be given', message):
        name = linked.group(1)
        follows = "--seed_everything" if name == "data.seed" else f"the data module's {name.rpartition('.')[2]}"
        return f"--{name} can't be set: it follows {follows}."
    if unknown := re.search(r"(?:[Uu]nrecognized arguments: |does not accept option '|^Option ')([^\s']+)", message):
        given = unknown.group(1).split("=")[0]
        names = {option.lstrip("-"): option for option in options}
        near = difflib.get_close_matches(given.lstrip("-").removesuffix("+"), list(names), n=2, cutoff=0.6)
        guess = f" Did you mean {' or '.join(names[name] for name in near)}?" if near else ""
        file = next((file for name, file in (files or {}).items() if f"{name}.".startswith(f"{given}.")), None)
        return f"there is no option {given}{f' ({file} has it)' if file else ''}.{guess}"
    if missing := re.search(r"module '([\w.]+)' has no attribute '(\w+)'", message):
        return f"there is no {missing.group(2)} in {missing.group(1)}; give the class as package.module.Class."
    option = re.match(r'Parser key "([\w.]+)":', message)
    expected = re.findall(r"Expected an? (.+?)(?=\. Got value: |\n|$)", message)
    given = re.search(r"(?:\. Got value: |\n *Given value: )(.*)", message, re.DOTALL)
    if option and expected and given:
        words = [_type_in_words(text) for text in expected if "either not accessible" not in text]
        return f"--{option.group(1)} is {given.group(1)!r}; it must be {' or '.join(dict.fromkeys(words))}."
    # What is wrong stands in the first and the innermost lines; between them is the list of types that were tried.
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    causes = [line for line in lines[1:] if not line.startswith(("Previous ", "- Raised", "Given value"))]
    kept = lines[:1] + causes[-2:]
    return "\n".join(line if len(line) <= 300 else line[:297] + "..." for line in kept)


def _type_in_words(expected: str) -> str:
    if expected.startswith("dot import path"):
        return "a class, given as package.module.Class"
    if choices := re.fullmatch(r"(?:typing\.)?Literal\[(.*)\]", expected):
        return f"one of {choices.group(1)}"
    return re.sub(r"^<class '([\w.]+)'>$", r"a value of type \1", expected.replace("<class 'NoneType'>", "null"))
