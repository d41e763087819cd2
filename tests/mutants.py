"""Make small mistakes in the code, one at a time, and see that a test notices each: ``make mutants``.

A mistake that no test notices is a fact that no test states. `mutations.py` has the mistakes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = "{{cookiecutter.project_slug}}"
# A test of the project runs in a bake of the changed template; every other one in a copy of the template.
IN_A_BAKE = "project/"


@dataclass(frozen=True)
class Mutant:
    """A mistake.

    Attributes:
        file: The file; a path that begins with ``src/`` or ``.tasks/`` is one of the project.
        old: Text that stands in it once.
        new: What the mistake makes of it.
        test: The test that must fail, as pytest is given it; one that begins with ``project/`` is the project's own.
        survives: Why no test fails.
    """

    file: str
    old: str
    new: str
    test: str
    survives: str = ""

    def path(self, root: Path) -> Path:
        """The file in a copy of the template."""
        if not self.file.startswith(("src/", ".tasks/", "configs/")):
            return root / self.file
        return root / PROJECT / self.file.replace("PACKAGE", "{{cookiecutter.__package}}")

    def make(self, root: Path) -> None:
        """Make the mistake in a copy of the template.

        Raises:
            ValueError: The text to change does not stand there once.
        """
        file = self.path(root)
        text = file.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file} has {text.count(self.old)} times: {self.old}")
        file.write_text(text.replace(self.old, self.new), encoding="utf-8")


def is_noticed(mutant: Mutant | None, test: str) -> tuple[bool, str]:
    """Run a test on a copy of the template with a mistake, or with none.

    Returns:
        Whether it failed, and the end of its output.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        root = Path(folder) / "template"
        files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, files.split("\0")):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
        if mutant:
            mutant.make(root)
        where, environment = root, os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
        if test.startswith(IN_A_BAKE):
            bake = [sys.executable, "-m", "cookiecutter", "--no-input", "-o", folder, str(root), "logger=csv"]
            subprocess.run(bake, check=True, capture_output=True)
            where, environment["PYTHONPATH"] = Path(folder) / "my-lightning-project", "src"
        pytest = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"]
        words = test.removeprefix(IN_A_BAKE).split(" -k ")
        command = [*pytest, words[0], *(["-k", words[1]] if len(words) > 1 else [])]
        done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, timeout=900)
        if done.returncode not in (0, 1):
            raise RuntimeError(f"{test}: no test was run.\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.returncode == 1, done.stdout[-3000:]


def main() -> None:
    """Print a table of the mistakes and end with 1 if one was not noticed that has no reason."""
    from mutations import MUTANTS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="mistakes in files whose path has this text")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if options.only in mutant.file]
    tests = sorted({mutant.test for mutant in chosen})
    missed = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        # a test that fails without a mistake would notice anything
        unusable = set()
        for test, (failed, output) in zip(tests, pool.map(lambda test: is_noticed(None, test), tests), strict=True):
            if failed:
                unusable.add(test)
                print(f"{test} fails without a mistake.\n{output}", flush=True)
        missed += len(unusable)
        chosen = [mutant for mutant in chosen if mutant.test not in unusable]
        for mutant, (noticed, _) in zip(chosen, pool.map(lambda one: is_noticed(one, one.test), chosen), strict=True):
            missed += not noticed and not mutant.survives
            change = f"{' '.join(mutant.old.split())[:60]} -> {' '.join(mutant.new.split())[:60]}"
            print(f"{'noticed' if noticed else 'MISSED '}  {mutant.file}: {change}  {mutant.survives}", flush=True)
    print(f"{len(chosen)} mistakes, {missed} missed or without a test that passes")
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
