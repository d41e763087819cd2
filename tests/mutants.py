"""Make small mistakes in the library, one at a time, and see that a test notices each: ``make mutants``.

A mistake that no test notices is a fact that no test states. `mutations.py` has the mistakes.
"""

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIBRARY = "{{cookiecutter.project_slug}}/vendor/lightning-runs/src/lightning_runs"


@dataclass(frozen=True)
class Mutant:
    """A mistake: a file of the library or the template, a text in it, another instead, and the test that must fail."""

    file: str
    old: str
    new: str
    test: str

    def path(self, root: Path) -> Path:
        """Return the file in a copy of the template."""
        return root / (self.file if self.file.startswith(("hooks/", "{{")) else f"{LIBRARY}/{self.file}")


def passes(test: str, mutant: Mutant | None = None) -> bool:
    """Run a test in a copy of the template, with a mistake or without, and return whether it passes.

    Raises:
        RuntimeError: No test was run.
    """
    file, _, words = test.partition(" -k ")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "template"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv*", "demo", "build", "__pycache__"))
        if mutant is not None:
            text = mutant.path(copy).read_text(encoding="utf-8")
            mutant.path(copy).write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        arguments = ["-x", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", f"--basetemp={folder}/tmp", file]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        pytest = [sys.executable, "-m", "pytest", *arguments, "-k", words]
        done = subprocess.run(pytest, cwd=copy, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{test}: no test was run.\n{done.stdout[-3000:]}")
    return done.returncode == 0


passes_unchanged = functools.cache(passes)  # several mistakes have the same test


def is_noticed(mutant: Mutant) -> bool:
    """Return whether a test fails with a mistake, but not without: one that always fails would notice anything."""
    return passes_unchanged(mutant.test) and not passes(mutant.test, mutant)


def main() -> None:
    """Print a table of the mistakes and end with 1 if one was not noticed."""
    from mutations import MUTANTS

    words = sys.argv[1:] or [""]  # of the paths of files: the mistakes in these alone
    chosen = [mutant for mutant in MUTANTS if any(word in mutant.file for word in words)]
    missed = 0
    with ThreadPoolExecutor(2) as pool:
        for mutant, noticed in zip(chosen, pool.map(is_noticed, chosen), strict=True):
            missed += not noticed
            print(f"{'noticed' if noticed else 'MISSED '}  {mutant.file}: {mutant.old} -> {mutant.new}", flush=True)
    print(f"{len(chosen)} mistakes, {missed} missed")
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
