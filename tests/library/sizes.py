"""How large the library is: ``python tests/library/sizes.py`` prints the numbers that DESIGN.md bounds, by package."""

from __future__ import annotations

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
        extra_targets: Targets of tuple assignments beyond the first of each: ``a, b = f()`` has one.
        walruses: Its assignment expressions.
    """

    lines: int
    extra_targets: int
    walruses: int

    @property
    def dense(self) -> int:
        """What DESIGN.md bounds together."""
        return self.extra_targets + self.walruses


def size(code: str) -> Size:
    """Return the size of a module. Targets of for, with and comprehensions do not count."""
    tree = ast.parse(code)
    targets = [target for node in ast.walk(tree) if isinstance(node, ast.Assign) for target in node.targets]
    return Size(
        len(code.splitlines()),
        sum(len(target.elts) - 1 for target in targets if isinstance(target, ast.Tuple | ast.List)),
        sum(isinstance(node, ast.NamedExpr) for node in ast.walk(tree)),
    )


def total(sizes: list[Size]) -> Size:
    """Add sizes."""
    return Size(*map(sum, zip(Size(0, 0, 0), *sizes, strict=True)))


def by_package() -> dict[str, Size]:
    """Return the size of each package of the library, and of each module beside them."""
    found: dict[str, list[Size]] = {}
    for file in sorted(ROOT.rglob("*.py")):
        package = file.relative_to(ROOT).with_suffix("").parts[0]
        found.setdefault(package, []).append(size(file.read_text(encoding="utf-8")))
    return {package: total(sizes) for package, sizes in found.items()}


def parts() -> tuple[Size, Size]:
    """Return the size of the library without the packages of single tasks, and the size of these."""
    packages = by_package()
    core = [found for name, found in packages.items() if name not in TASKS]
    return total(core), total([packages[name] for name in TASKS if name in packages])


if __name__ == "__main__":
    core, tasks = parts()
    rows = {**by_package(), "without the four": core, "+".join(TASKS): tasks, "all": total([core, tasks])}
    print(f"{'':<26}{'lines':>8}{'targets':>9}{'walruses':>10}")
    for name, found in rows.items():
        print(f"{name:<26}{found.lines:>8,}{found.extra_targets:>9}{found.walruses:>10}")
