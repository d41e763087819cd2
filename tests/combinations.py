"""Few combinations of answers that hold every pair of values which ``hooks/pre_gen_project.py`` accepts."""

import importlib.util
import itertools
import random
from collections.abc import Mapping, Sequence
from functools import cache
from types import ModuleType

from project import ROOT

Answers = dict[str, str]
Values = Mapping[str, Sequence[str]]


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
# what decides over validity; any other field goes with anything
DECIDING = [field for field in VALUES if any(field in fields for fields, _, _ in PRE.REFUSED)]


def is_valid(answers: Mapping[str, str]) -> bool:
    """Whether the hook accepts answers or, where some are missing, whether others go with these."""
    return _is_valid(tuple((field, answers[field]) for field in DECIDING if field in answers))


@cache
def _is_valid(deciding: tuple[tuple[str, str], ...]) -> bool:
    answers = dict(deciding)
    for field in DECIDING:
        if field not in answers:
            return any(is_valid({**answers, field: value}) for value in VALUES[field])
    return not PRE.pair_messages(answers, PRE.REFUSED, "")


def tuples(values: Values, strength: int) -> set[tuple[tuple[str, str], ...]]:
    """Return every valid choice of values for each choice of ``strength`` fields."""
    return {
        tuple(zip(fields, chosen, strict=True))
        for fields in itertools.combinations(values, strength)
        for chosen in itertools.product(*(values[field] for field in fields))
        if is_valid(dict(zip(fields, chosen, strict=True)))
    }


def covering(values: Values, strength: int) -> list[Answers]:
    """Return a covering array: combinations that hold every valid choice of values for ``strength`` fields.

    Greedy: each row begins with values that no row holds together yet, and of some random completions takes the
    one that adds most.

    Args:
        values: The values of each field.
        strength: How many fields are taken together: 2 for all pairs.
    """
    choose = random.Random(0)
    missing = dict.fromkeys(sorted(tuples(values, strength)))  # a set that keeps its order
    rows = []
    while missing:
        start = dict(next(iter(missing)))
        candidates = [_completed(start, values, choose) for _ in range(20)]
        best = max(candidates, key=lambda row: sum(t in missing for t in itertools.combinations(row.items(), strength)))
        for held in itertools.combinations(best.items(), strength):
            missing.pop(held, None)
        rows.append(best)
    return rows


def _completed(start: Answers, values: Values, choose: random.Random) -> Answers:
    row = dict(start)
    for field in choose.sample(list(values), len(values)):
        if field not in row:
            row[field] = choose.choice([value for value in values[field] if is_valid({**row, field: value})])
    return {field: row[field] for field in values}
