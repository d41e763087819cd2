"""How large the library is: ``python tests/library/sizes.py`` prints the numbers that DESIGN.md bounds, by package."""

import ast
from collections import Counter, defaultdict
from pathlib import Path

SLUG = "{{cookiecutter.project_slug}}"
ROOT = Path(__file__).parents[2] / SLUG / "vendor" / "lightning-runs" / "src" / "lightning_runs"
TASKS = ("images", "tables", "texts", "masks")


def size(code: str) -> Counter[str]:
    """Count the lines of a module, its walruses, and the targets of tuple assignments beyond the first of each.

    ``a, b = f()`` has one such target. Targets of for, with and comprehensions do not count.
    """
    nodes = list(ast.walk(ast.parse(code)))
    targets = [target for node in nodes if isinstance(node, ast.Assign) for target in node.targets]
    extra = sum(len(target.elts) - 1 for target in targets if isinstance(target, ast.Tuple | ast.List))
    walruses = sum(isinstance(node, ast.NamedExpr) for node in nodes)
    return Counter({"lines": len(code.splitlines()), "extra targets": extra, "walruses": walruses})


def by_package() -> dict[str, Counter[str]]:
    """Return the size of each package of the library, and of each module beside them."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for file in sorted(ROOT.rglob("*.py")):
        found[file.relative_to(ROOT).with_suffix("").parts[0]] += size(file.read_text(encoding="utf-8"))
    return found


def core_and_tasks() -> tuple[Counter[str], Counter[str]]:
    """Return the size of the library without the packages of single tasks, and the size of these."""
    packages = by_package()
    core = sum((found for name, found in packages.items() if name not in TASKS), Counter())
    return core, sum((packages[name] for name in TASKS), Counter())


if __name__ == "__main__":
    core, tasks = core_and_tasks()
    for name, found in (by_package() | {"without the four": core, "the four": tasks, "all": core + tasks}).items():
        print(f"{name:<18}", *(f"{count:>6,} {of}" for of, count in found.items()))
