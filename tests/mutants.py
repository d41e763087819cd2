"""Make small mistakes in the code, one at a time, and see that a test notices each: ``make mutants``.

A mistake that no test notices is a fact that no test states. `mutations.py` has the mistakes.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from project import PACKAGE, TEMPLATE
from warm import WarmProcess

ROOT = Path(__file__).parents[1]
# A test of the project runs in a bake; every other one in a copy of the template.
IN_A_BAKE = "project/"


@dataclass(frozen=True)
class Mutant:
    """A mistake.

    Attributes:
        file: The file; a path that begins with ``src/`` or ``.tasks/`` is one of the project.
        old: Text that stands in it once.
        new: What the mistake makes of it.
        test: The test that must fail, as pytest is given it; one that begins with ``project/`` is the project's own.
    """

    file: str
    old: str
    new: str
    test: str

    @contextmanager
    def made_in(self, file: Path) -> Iterator[None]:
        """Make the mistake in its file, and undo it.

        Raises:
            ValueError: The text to change does not stand there once.
        """
        right = file.read_text(encoding="utf-8")
        if right.count(self.old) != 1:
            raise ValueError(f"{self.file} has {right.count(self.old)} times: {self.old}")
        file.write_text(right.replace(self.old, self.new), encoding="utf-8")
        yield
        file.write_text(right, encoding="utf-8")


class Copy:
    """A copy of the template and a project baked of it, in which tests run, one after the other.

    Args:
        folder: An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.template, self.project = folder / "template", folder / "my-lightning-project"
        files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, files.split("\0")):
            (self.template / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, self.template / name)
        bake = [sys.executable, "-m", "cookiecutter", "--no-input", "-o", str(folder), str(self.template), "logger=csv"]
        subprocess.run(bake, check=True, capture_output=True)
        self._warm = WarmProcess(folder, own=True)

    def file(self, name: str, test: str) -> Path:
        """Where a file of the table stands, for a test of the project or one of the template."""
        if test.startswith(IN_A_BAKE):
            return self.project / re.sub(r"^\.tasks/\w+/", "", name).replace("PACKAGE", PACKAGE)
        root = self.template / TEMPLATE.name if name.startswith(("src/", ".tasks/")) else self.template
        return root / name.replace("PACKAGE", "{{cookiecutter.__package}}")

    def output_of_failure(self, test: str, mutant: Mutant | None = None) -> str:
        """Run a test, with a mistake or without; return its output if it failed, and nothing if it passed."""
        name, _, words = test.removeprefix(IN_A_BAKE).partition(" -k ")
        pytest = ["-x", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", name, *(["-k", words] if words else [])]
        with mutant.made_in(self.file(mutant.file, test)) if mutant else nullcontext():
            code, output = self._in_project(pytest) if test.startswith(IN_A_BAKE) else self._in_template(pytest)
        if code not in (0, 1):
            raise RuntimeError(f"{test}: no test was run.\n{output[-3000:]}")
        return output[-3000:] if code else ""

    def _in_project(self, pytest: list[str]) -> tuple[int, str]:
        # a compiled file could be that of another mistake of the same second and length, so none is written
        run = f"sys.dont_write_bytecode = True; sys.path.insert(1, 'src'); sys.exit(pytest.main({pytest}))"
        command = self._warm.start(self.project, [], before=f"import sys, pytest; {run}")
        return command.wait(900), command.output()

    def _in_template(self, pytest: list[str]) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *pytest],
            cwd=self.template,
            env=os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
        )
        return done.returncode, done.stdout


def by_file(tests: Iterable[str]) -> list[str]:
    """Put the tests of each file together, so that it is run once."""
    words = defaultdict(set)
    for test in tests:
        name, _, some = test.partition(" -k ")
        words[name].add(some)
    return [name if "" in some else f"{name} -k {' or '.join(sorted(some))}" for name, some in words.items()]


def main() -> None:
    """Print a table of the mistakes and end with 1 if one was not noticed."""
    from mutations import MUTANTS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="mistakes in files whose path has this text")
    parser.add_argument("--rows", default=f"1-{len(MUTANTS)}", help="mistakes by their numbers in the table, as 45-77")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    first, _, last = options.rows.partition("-")
    rows = range(int(first), int(last or first) + 1)
    chosen = {row: MUTANTS[row - 1] for row in rows if options.only in MUTANTS[row - 1].file}
    missed = 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, ThreadPoolExecutor(options.jobs) as pool:
        copies: SimpleQueue[Copy] = SimpleQueue()
        for job in range(options.jobs):
            copies.put(Copy(Path(folder) / str(job)))

        def output_of_failure(test: str, mutant: Mutant | None = None) -> str:
            copy = copies.get()
            try:
                return copy.output_of_failure(test, mutant)
            finally:
                copies.put(copy)

        # a test that fails without a mistake would notice anything
        unchanged = by_file(mutant.test for mutant in chosen.values())
        for test, output in zip(unchanged, pool.map(output_of_failure, unchanged), strict=True):
            if output:
                raise SystemExit(f"{test} fails without a mistake.\n{output}")
        outputs = pool.map(lambda mutant: output_of_failure(mutant.test, mutant), chosen.values())
        for (row, mutant), output in zip(chosen.items(), outputs, strict=True):
            missed += not output
            change = " -> ".join(" ".join(text.split())[:60] for text in (mutant.old, mutant.new))
            by = re.findall(r"^(?:FAILED|ERROR) \S+?::(\w+)", output, re.MULTILINE)
            print(f"{row:3} {'noticed' if output else 'MISSED '}  {mutant.file}: {change} ", *by, flush=True)
    print(f"{len(chosen)} mistakes, {missed} missed")
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
