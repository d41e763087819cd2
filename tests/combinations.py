"""Few combinations of answers that hold every pair of values which ``hooks/pre_gen_project.py`` accepts."""

import importlib.util
import itertools
import random
from collections.abc import Iterator, Mapping
from types import ModuleType

from project import ROOT

Answers = dict[str, str]


def load_hook(name: str) -> ModuleType:
    """Import a hook as it stands, unrendered."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "hooks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PRE = load_hook("pre_gen_project")
# devices may be any number; what is refused depends on whether it is above 1
VALUES: dict[str, tuple[str, ...]] = {**PRE.CHOICES, "devices": ("auto", "1", "2")}
SAFE = {field: values[0] for field, values in VALUES.items()}


def is_accepted(answers: Mapping[str, str]) -> bool:
    """Whether the hook accepts answers; those that are missing are the defaults."""
    return not PRE.pair_messages({**SAFE, **answers}, PRE.REFUSED, "")


def pairs() -> Iterator[Answers]:
    """Give every two values of two fields that go together; FSDP goes with one accelerator alone."""
    for one, other in itertools.combinations(VALUES, 2):
        for values in itertools.product(VALUES[one], VALUES[other]):
            answers = dict(zip((one, other), values, strict=True))
            if answers.get("strategy") == "fsdp":
                answers = {"accelerator": "gpu", **answers}
            if is_accepted(answers):
                yield answers


def covering() -> list[Answers]:
    """Return combinations that hold every pair of values: each takes up as many missing pairs as go with it."""
    missing = list(pairs())
    random.Random(0).shuffle(missing)
    rows = []
    while missing:
        row: Answers = {}
        for pair in missing:
            if all(row.get(field, value) == value for field, value in pair.items()) and is_accepted({**row, **pair}):
                row |= pair
        row = {**SAFE, **row}
        missing = [pair for pair in missing if not pair.items() <= row.items()]
        rows.append(row)
    return rows
