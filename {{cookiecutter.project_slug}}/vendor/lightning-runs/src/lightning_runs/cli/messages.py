"""Messages for errors: one line instead of a traceback, and short texts for the long ones of the parser."""

import difflib
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path

from ..errors import UserError
from ..names import package

# What Lightning, a loader or an optimizer refuses by an error of its own is about an option's value or a missing part.
REFUSING = re.compile(
    r"[\\/](pytorch_lightning|lightning_fabric|torch[\\/](optim|utils[\\/]data[\\/](dataloader|sampler)))([\\/]|\.py$)"
)

LIBRARY = Path(__file__).parents[1]
ALL_FRAMES = "--traceback"  # the option of every command that prints the whole traceback of an error


def print_error(error: Exception) -> None:
    """Print a mistake in a line, and an error in the user's code with its traceback."""
    own = error_in_own_code(error)
    text = message(error)
    if own is not None or text is None:
        print(folded_traceback(own or error), end="", file=sys.stderr)
    if text is not None and (own is None or text not in str(own)):  # the traceback ends with the error's own text
        print(f"error: {text}", file=sys.stderr)


def is_mistake(error: Exception) -> bool:
    """Return whether a line says all about an error: it is about an option, an answer or a file."""
    return message(error) is not None and error_in_own_code(error) is None


def error_in_own_code(error: BaseException | None) -> BaseException | None:
    """Return the error, or its cause, that passed through the user's code; None where the library itself refuses."""
    while error is not None:
        if not isinstance(error, UserError) and any(map(_is_own, _files(error))):
            return error
        error = error.__cause__
    return None


def _is_own(file: str) -> bool:
    """Return whether a file belongs to the project, or else neither to this library nor to Python or a package."""
    path = Path(file)
    if path.is_relative_to(LIBRARY):
        return False
    if any(path.is_relative_to(folder) for folder in getattr(sys.modules.get(package()), "__path__", ())):
        return True  # the project may be installed
    is_foreign = path.is_relative_to(sysconfig.get_path("stdlib"))
    # a path that is not absolute is one of compiled code
    return path.is_absolute() and not is_foreign and not {"site-packages", "dist-packages"} & set(path.parts)


def folded_traceback(error: BaseException) -> str:
    """Return a traceback with the frames of the user's code and of this library, and the last one."""
    found = traceback.TracebackException.from_exception(error)
    count = len(found.stack)
    own = [frame for frame in found.stack[:-1] if _is_own(frame.filename)]
    if not own and not _is_own(found.stack[-1].filename):
        own = [frame for frame in found.stack[:-1] if Path(frame.filename).is_relative_to(LIBRARY)]
    found.stack[:] = own + found.stack[-1:]
    found.__cause__ = found.__context__ = None
    hidden = count - len(found.stack)
    note = f"({hidden} frames of installed packages are left out; {ALL_FRAMES} shows them)\n" if hidden else ""
    return "".join(found.format()) + note


def message(error: Exception) -> str | None:
    """Return a one-line message for a user's mistake, or None if the traceback says more."""
    if not isinstance(error, UserError) and isinstance(error.__cause__, UserError):
        error = error.__cause__  # jsonargparse raises an error of its own instead of that of a linked value
    text = str(error).strip()
    if isinstance(error, UserError):
        # raised in a process that loads batches, it comes with the traceback of that process
        return re.split(r"^[\w.]+\.UserError: ", text, flags=re.MULTILINE)[-1]
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename} can't be used: {error.strerror}."
    if re.search("out of memory|not enough memory|can't allocate memory", text):
        return "memory ran out. Lower --data.batch_size; --trainer.accumulate_grad_batches keeps the items of a step."
    return _refusal(error, text)


def _refusal(error: Exception, text: str) -> str | None:
    """Return the text of what Lightning, a loader or an optimizer itself refuses, or None."""
    files = _files(error)
    if files and REFUSING.search(files[-1]):
        of_options = re.search(r"connectors|plugins|accelerators", files[-1])
        if isinstance(error, ValueError | ImportError) or (of_options and isinstance(error, TypeError | RuntimeError)):
            return text
    return text if type(error).__name__ == "MisconfigurationException" else None


def _files(error: BaseException) -> list[str]:
    """Return the files of the code that an error has passed through, the innermost last."""
    return [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]


def parser_message(message: str, options: Iterable[str]) -> str:
    """Shorten an error of the command-line parser to at most four lines, with a guess at a misspelt one of options."""
    linked = re.search(r'Linked "([\w.]+)" must be given', message)
    if linked:
        name = linked[1]
        source = "--seed_everything" if name == "data.seed" else f"the data module's {name.rpartition('.')[2]}"
        return f"--{name} can't be set: it follows {source}."
    word = re.search(r"[Uu]nrecognized arguments: ([^-\s]\S*)", message)
    if word:
        return f"there is no option {word[1]}. Name a run by --run {word[1]}, and a file of options by -c FILE."
    unknown = re.search(r"(?:[Uu]nrecognized arguments: |does not accept option '|^Option ')([^\s']+)", message)
    if unknown:
        return _unknown_option(unknown[1].split("=")[0], options)
    required = re.search(r"arguments are required: \w+\.(\S+)", message)
    if required:
        return f"--{required[1]} has no value. Give one, or let the data module have a @property of that name."
    missing = re.search(r"module '([\w.]+)' has no attribute '(\w+)'", message)
    if missing:
        near = guess(missing[2], dir(sys.modules.get(missing[1])))
        return f"there is no class {missing[2]} in {missing[1]}.{near}"
    option = re.match(r'Parser key "([\w.]+)":', message)
    cause = re.search(r"(?:callable class: |class_path '.*':\s+(?=No module))(.+?)(?:\.* Got value|\n)", message)
    if option and cause:
        return f"--{option[1]}: {cause[1]}."
    nested = re.search(r"NestedArg\(key='([\w.]+)'", message)
    if option and nested:
        return f"--{option[1]}.{nested[1]} is an option of a class; give --{option[1]} CLASS before it."
    expected = re.findall(r"Expected an? (.+?)(?=\. Got value: |\n|$)", message)
    value = re.search(r"(?:.*?\n *Given value: |\. Got value: |dot import path string: )(.*)", message, re.DOTALL)
    if option and expected and value:
        types = [_type_in_words(text) for text in expected if "either not accessible" not in text]
        return f"--{option[1]} is {value[1]!r}; it must be {' or '.join(dict.fromkeys(types))}."
    # The first and the innermost lines say what is wrong; between them are the types that were tried.
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    causes = [line for line in lines[1:] if not line.startswith(("Previous ", "- Raised", "Given value"))]
    kept = lines[:1] + causes[-2:]
    return "\n".join(line if len(line) <= 300 else f"{line[:297]}..." for line in kept)


def _unknown_option(name: str, options: Iterable[str]) -> str:
    known = {option.lstrip("-"): option for option in options}
    plain = name.lstrip("-").removesuffix("+")
    last = plain.rpartition(".")[2]
    near = [option for option in known if option.rpartition(".")[2] == plain][:2]
    near = near or difflib.get_close_matches(plain, list(known), n=2, cutoff=0.6)
    near = [option for option in near if guess(last, [option.rpartition(".")[2]])]  # not alike by the group alone
    hint = f" Did you mean {' or '.join(known[option] for option in near)}?" if near else ""
    return f"there is no option {name}.{hint}"


def guess(word: str, words: Iterable[str]) -> str:
    """Return a question with the word that is nearest to a misspelt one, or ""."""
    near = difflib.get_close_matches(word, list(words), n=1)
    return f" Did you mean {near[0]}?" if near else ""


def _type_in_words(expected: str) -> str:
    if expected.startswith("dot import path"):
        return "a class, given as package.module.Class"
    expected = re.sub(r"^(?:typing\.)?Literal\[(.*)\]$", r"one of \1", expected.replace("<class 'NoneType'>", "null"))
    return re.sub(r"^<class '([\w.]+)'>$", r"a value of type \1", expected)
