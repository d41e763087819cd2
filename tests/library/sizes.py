"""How large the library is, which `test_rules.py` bounds."""

import ast
from collections import Counter
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


def core_and_tasks() -> tuple[Counter[str], Counter[str]]:
    """Return the size of the library without the packages of single tasks, and the size of these."""
    core: Counter[str] = Counter()
    tasks: Counter[str] = Counter()
    for file in ROOT.rglob("*.py"):
        part = tasks if file.relative_to(ROOT).parts[0] in TASKS else core
        part.update(size(file.read_text(encoding="utf-8")))
    return core, tasks
