"""The numbers of DESIGN.md. They are never raised to follow the code."""

from __future__ import annotations

import pytest
import sizes
from sizes import Size

MAX_LINES = 6900  # without the packages of single tasks
MAX_LINES_OF_TASKS = 2700
MAX_DENSE = 60


def test_the_library_has_few_lines() -> None:
    core, tasks = sizes.parts()
    assert core.lines <= MAX_LINES
    assert tasks.lines <= MAX_LINES_OF_TASKS


def test_a_line_says_one_thing() -> None:
    dense = {name: found.dense for name, found in sizes.by_package().items()}
    assert sum(dense.values()) <= MAX_DENSE, dense


@pytest.mark.parametrize(
    ("code", "dense"),
    [
        ("a, b = 1, 2", 1),
        ("a, b, c = 1, 2, 3", 2),
        ("a, b = f()", 1),
        ("[a, b] = f()", 1),
        ("a = b = 1", 0),
        ("if a := f():\n    pass", 1),
        ("for a, b in c: pass", 0),
        ("with f() as (a, b): pass", 0),
        ("[a for a, b in c]", 0),
        ("def f():\n    self.a, self.b = c", 1),
    ],
)
def test_targets_and_walruses_are_counted(code: str, dense: int) -> None:
    found = sizes.size(code)
    assert (found.lines, found.dense) == (len(code.splitlines()), dense)
    assert sizes.total([found, Size(1, 0, 0)]).lines == found.lines + 1
