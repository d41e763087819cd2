"""The README's tables, made from the hook's."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "hooks"))

from pre_gen_project import REFUSED, WARNED  # noqa: E402


def _values(answers: dict[str, tuple[str, ...]]) -> str:
    return " with ".join(f"`{field}` {' or '.join(values)}" for field, values in answers.items())


def refused() -> str:
    """Render what the pre hook refuses and warns of as Markdown."""
    lines = ["| answers | why not | instead |", "|---|---|---|"]
    for answers, reason, fix in REFUSED:
        instead = " or ".join(f"`{field}` {value}" for field, value in fix.items())
        lines.append(f"| {_values(answers)} | {reason} | {instead} |")
    lines += ["", "Accepted with a warning:", "", "| answer | what is to be known | instead |", "|---|---|---|"]
    for answers, reason, fix in WARNED:
        instead = " or ".join(f"`{field}` {value}" for field, value in fix.items())
        lines.append(f"| {_values(answers)} | {reason} | {instead} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(refused())
