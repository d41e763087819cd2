"""The floors of the library: every import goes downwards. ``python tests/library/test_floors.py`` prints the plan."""

import ast
from collections.abc import Iterator
from importlib.util import resolve_name

import pytest
from sizes import ROOT

# From the ground up. A module may import its own package and the lower lines.
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
IMPORTERS = ("import_module", "__import__", "run_module", "run_path")
FILES = sorted(ROOT.rglob("*.py"))
LIBRARY = {file.relative_to(ROOT).with_suffix("").parts: file.read_text(encoding="utf-8") for file in FILES}


def imports(code: str, module: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Yield the line and the package of what a module imports of the library; ``?`` for a name that is computed.

    Imports inside functions count, those under ``if TYPE_CHECKING`` do not. A module is such as ``("runs", "find")``.
    """
    nodes = [ast.parse(code)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        nodes += ast.iter_child_nodes(node)  # pyright: ignore
        paths = []
        if isinstance(node, ast.Import):
            paths = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            name = "." * node.level + (node.module or "")
            base = resolve_name(name, ".".join(["lightning_runs", *module[:-1]]))
            paths = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in IMPORTERS:
            yield node.lineno, "?"
        for top, *rest in (path.split(".") for path in paths):
            if top == "lightning_runs":
                yield node.lineno, rest[0] if rest and rest[0] in FLOOR else "__init__"


def offences(code: str, module: tuple[str, ...]) -> list[str]:
    """Describe each import of a module that does not go downwards, with its file and line."""
    package = module[0]
    if package not in FLOOR:
        return [f"{package} has no floor: name it in DESIGN.md first"]
    found = []
    for line, target in imports(code, module):
        place = f"{'/'.join(module)}.py:{line}"
        if target == "?" and package not in MAY_IMPORT_BY_NAME:
            found.append(f"{place}: imports a module by a computed name")
        elif target not in ("?", package) and FLOOR[target] >= FLOOR[package]:
            found.append(f"{place}: {package} imports {target}, which is not below it")
    return sorted(found)


def plan() -> str:
    """Return the floors from the top down, each package with the packages that it imports."""
    lines = []
    for package in reversed(FLOOR):
        modules = {module: code for module, code in LIBRARY.items() if module[0] == package}
        used = {target for module, code in modules.items() for _, target in imports(code, module)}
        others = sorted(used - {package, "?"}, key=FLOOR.__getitem__)
        lines.append(f"{FLOOR[package]}  {package:<10} {', '.join(others)}".rstrip())
    return "\n".join(lines)


def test_every_import_goes_downwards() -> None:
    assert [text for module, code in LIBRARY.items() for text in offences(code, module)] == []


@pytest.mark.parametrize(
    "code",
    [
        "def f():\n    from ..reports import report",
        "from ..data import splits",  # of the same floor
        "import lightning_runs.resume.callback",
        "from .. import Project",
        "from importlib import import_module\nimport_module(name)",
    ],
)
def test_an_import_upwards_is_named(code: str) -> None:
    (found,) = offences(code, ("runs", "find"))
    assert found.startswith(f"runs/find.py:{len(code.splitlines())}: ")


if __name__ == "__main__":
    print(plan(), *[text for module, code in LIBRARY.items() for text in offences(code, module)], sep="\n")
