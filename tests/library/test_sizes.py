"""The numbers of DESIGN.md. They are never raised to follow the code."""

import pytest
import sizes


def test_the_core_has_few_lines() -> None:
    core, _ = sizes.core_and_tasks()
    assert core["lines"] <= 7600


def test_building_blocks_have_few_lines_and_lines_say_one_thing() -> None:
    core, tasks = sizes.core_and_tasks()
    assert tasks["lines"] <= 2700
    both = core + tasks
    assert both["extra targets"] + both["walruses"] <= 60


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("a, b = 1, 2\n[c, d, e] = f()\n\n", [3, 3, 0]),
        ("def f():\n    self.a, self.b = c", [2, 1, 0]),
        ("for a, b in c:\n    pass\nwith f() as (a, b): pass\n[a for a, b in c]", [4, 0, 0]),
        ("if a := f():\n    pass", [2, 0, 1]),
    ],
)
def test_lines_targets_and_walruses_are_counted(code, expected) -> None:
    assert [*sizes.size(code).values()] == expected
