"""The floors of the library: imports go downwards, even those inside functions. `python FILE` prints the plan."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

SLUG = "{{cookiecutter.project_slug}}"
ROOT = Path(__file__).parents[2] / SLUG / "vendor" / "lightning-runs" / "src" / "lightning_runs"
# From the ground up. A module may import its own package and what stands on a lower line.
FLOORS = (
    ("names",),
    ("errors", "files"),
    ("contract",),
    ("data", "runs"),
    ("training",),
    ("resume",),
    ("reports",),
    ("cli", "images", "tables", "texts", "masks"),
    ("commands",),
    ("__init__", "__main__"),
)
FLOOR = {package: number for number, packages in enumerate(FLOORS) for package in packages}
MAY_IMPORT_BY_NAME = ("commands", "__init__")
IMPORTERS = {"import_module", "__import__", "run_module", "run_path"}
Module = tuple[str, ...]  # its path below the library, such as ("runs", "find")


class Import(NamedTuple):
    """An import of the library's own code.

    Args:
        line: Its line in the importing file.
        target: The module that is imported, ``()`` for one that only a call knows.
    """

    line: int
    target: Module


def module_of(file: Path, root: Path = ROOT) -> Module:
    return file.relative_to(root).with_suffix("").parts


def resolved(module: Module, name: Module, modules: set[Module]) -> Module:
    """Return the module that ``from PACKAGE import NAME`` imports, where NAME may be a module or what a module has."""
    for target in ((*module, *name), (*module, *name, "__init__"), module, (*module, "__init__")):
        if target in modules:
            return target
    return (*module, *name)


def imports(tree: ast.AST, module: Module, modules: set[Module]) -> Iterator[Import]:
    """Yield what a module imports of the library, wherever it stands; ``if TYPE_CHECKING:`` does not count."""
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                package, *path = alias.name.split(".")
                if package == "lightning_runs":
                    yield Import(node.lineno, resolved((), tuple(path), modules))
        elif isinstance(node, ast.ImportFrom):
            path = tuple(node.module.split(".")) if node.module else ()
            if node.level:
                base = (*module[: len(module) - node.level], *path)
            elif path[0] == "lightning_runs":
                base = path[1:]
            else:
                continue
            for alias in node.names:
                yield Import(node.lineno, resolved(base, (alias.name,), modules))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in IMPORTERS:
            yield Import(node.lineno, ())


def library(root: Path = ROOT) -> dict[Module, list[Import]]:
    """Return the imports of each module of the library."""
    files = {module_of(file, root): file for file in sorted(root.rglob("*.py"))}
    return {
        module: [*imports(ast.parse(file.read_text(encoding="utf-8")), module, set(files))]
        for module, file in files.items()
    }


def offences(graph: dict[Module, list[Import]]) -> list[str]:
    """Describe each import that does not go downwards, with its file and line."""
    found = []
    for module, targets in graph.items():
        package = module[0]
        for line, target in targets:
            place = f"{'/'.join(module)}.py:{line}"
            if package not in FLOOR:
                found.append(f"{place}: {package} has no floor; name it in DESIGN.md first")
            elif not target:
                if package not in MAY_IMPORT_BY_NAME:
                    found.append(f"{place}: imports a module by a name that is computed")
            elif target[0] != package and FLOOR.get(target[0], len(FLOORS)) >= FLOOR[package]:
                found.append(f"{place}: {package} imports {'.'.join(target)}, which is not below it")
    return found


def cycles(graph: dict[Module, list[Import]]) -> list[str]:
    """Describe each pair of modules that import one another, directly or not, with the place of the import."""
    edges = {module: {target for _, target in targets if target} for module, targets in graph.items()}

    def reached(start: Module) -> set[Module]:
        seen: set[Module] = set()
        left = [start]
        while left:
            for target in edges.get(left.pop(), set()) - seen:
                seen.add(target)
                left.append(target)
        return seen

    return [
        f"{'/'.join(module)}.py:{line}: imports {'.'.join(target)}, which imports it too"
        for module, targets in graph.items()
        for line, target in targets
        if target and target != module and module in reached(target)
    ]


def plan() -> str:
    """Return the floors from the top down, each package with the packages that it imports."""
    used: dict[str, set[str]] = {package: set() for package in FLOOR}
    for module, targets in library().items():
        used.setdefault(module[0], set()).update(target[0] for _, target in targets if target)
    lines = []
    for packages in reversed(FLOORS):
        lines.append("-" * 79)
        for package in packages:
            others = sorted(used[package] - {package}, key=lambda name: (FLOOR.get(name, len(FLOORS)), name))
            lines.append(f"{package:<10} {', '.join(others)}".rstrip())
    return "\n".join([*lines, "-" * 79])


def test_no_import_goes_upwards() -> None:
    assert offences(library()) == []


def test_no_two_modules_import_one_another() -> None:
    assert cycles(library()) == []


UPWARDS = {
    "at the top": "from ..cli import parser",
    "of a name": "from ..commands.fit import main",
    "inside a function": "def f():\n    from ..reports import report",
    "by its whole name": "import lightning_runs.resume.callback",
    "of the public names": "from .. import Project",
    "by a call": "from importlib import import_module\nimport_module(name)",
    "by dunder": "__import__('x')",
}


@pytest.mark.parametrize("code", UPWARDS.values(), ids=UPWARDS)
def test_an_import_upwards_is_named(code: str) -> None:
    modules = set(library())
    found = offences({("runs", "find"): [*imports(ast.parse(code), ("runs", "find"), modules)]})
    assert [text.split(": ")[0] for text in found] == [f"runs/find.py:{len(code.splitlines())}"]


def test_an_import_downwards_or_for_types_alone_is_fine() -> None:
    code = "from ..errors import UserError\nfrom . import ranks\nif TYPE_CHECKING:\n    from ..cli import parser"
    assert offences({("runs", "find"): [*imports(ast.parse(code), ("runs", "find"), set(library()))]}) == []


def test_a_cycle_is_named_with_both_imports() -> None:
    graph = {
        ("a", "x"): [Import(1, ("b", "y"))],
        ("b", "y"): [Import(2, ("a", "z"))],
        ("a", "z"): [Import(3, ("a", "x"))],
    }
    assert [text.split(": ")[0] for text in cycles(graph)] == ["a/x.py:1", "b/y.py:2", "a/z.py:3"]


if __name__ == "__main__":
    print(plan(), *offences(library()), *cycles(library()), sep="\n")
