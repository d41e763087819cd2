"""How large the library is: ``python tests/library/sizes.py`` prints the numbers that DESIGN.md bounds, by package."""

import ast
from pathlib import Path
from typing import NamedTuple

SLUG = "{{cookiecutter.project_slug}}"
ROOT = Path(__file__).parents[2] / SLUG / "vendor" / "lightning-runs" / "src" / "lightning_runs"
TASKS = ("images", "tables", "texts", "masks")


class Size(NamedTuple):
    """The size of code.

    Args:
        lines: Its lines of Python, blank ones and comments among them.
        targets: Targets of tuple assignments beyond the first of each: ``a, b = f()`` has one.
        walruses: Its assignment expressions.
    """

    lines: int
    targets: int
    walruses: int


def size(code: str) -> Size:
    """Return the size of a module. Targets of for, with and comprehensions do not count."""
    nodes = list(ast.walk(ast.parse(code)))
    targets = [target for node in nodes if isinstance(node, ast.Assign) for target in node.targets]
    extra = sum(len(target.elts) - 1 for target in targets if isinstance(target, ast.Tuple | ast.List))
    return Size(len(code.splitlines()), extra, sum(isinstance(node, ast.NamedExpr) for node in nodes))


def total(sizes: list[Size]) -> Size:
    """Add sizes."""
    return Size(*map(sum, zip(Size(0, 0, 0), *sizes, strict=True)))


def by_package() -> dict[str, Size]:
    """Return the size of each package of the library, and of each module beside them."""
    found: dict[str, Size] = {}
    for file in sorted(ROOT.rglob("*.py")):
        package = file.relative_to(ROOT).with_suffix("").parts[0]
        found[package] = total([found.get(package, Size(0, 0, 0)), size(file.read_text(encoding="utf-8"))])
    return found


def core_and_tasks() -> tuple[Size, Size]:
    """Return the size of the library without the packages of single tasks, and the size of these."""
    packages = by_package()
    core = total([found for name, found in packages.items() if name not in TASKS])
    return core, total([found for name, found in packages.items() if name in TASKS])


if __name__ == "__main__":
    core, tasks = core_and_tasks()
    for name, found in {
        **by_package(),
        "without the four": core,
        "the four": tasks,
        "all": total([core, tasks]),
    }.items():
        print(f"{name:<18}{found.lines:>6,} lines{found.targets:>5} extra targets{found.walruses:>5} walruses")
