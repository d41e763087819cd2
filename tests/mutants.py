"""Make small mistakes in the library, one at a time, and see that a test notices each: ``make mutants``.

A mistake that no test notices is a fact that no test states. `mutations.py` has the mistakes.
"""

import argparse
import contextlib
import io
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIBRARY = "{{cookiecutter.project_slug}}/vendor/lightning-runs/src/lightning_runs"


@dataclass(frozen=True)
class Mutant:
    """A mistake.

    Attributes:
        file: The file, below the library's package; one of the hooks begins with ``hooks/``.
        old: Text that stands in it once.
        new: What the mistake makes of it.
        test: The test that must fail, as pytest is given it.
    """

    file: str
    old: str
    new: str
    test: str

    def path(self, root: Path) -> Path:
        """Return the file in a copy of the template."""
        return root / (self.file if self.file.startswith("hooks/") else f"{LIBRARY}/{self.file}")


def run_test(test: str, mutant: Mutant | None = None) -> str:
    """Run a test in a copy of the template, with a mistake or without; return its output if it failed, else nothing.

    Called in a process of its own, which has imported torch and Lightning and nothing of the template.

    Raises:
        RuntimeError: The text to change does not stand there once, or no test was run.
    """
    multiprocessing.set_start_method("fork", force=True)  # of workers that load data, not the fork server's
    name, _, words = test.partition(" -k ")
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "template"
        files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for file in filter(None, files.split("\0")):
            if (ROOT / file).is_file():
                (copy / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / file, copy / file)
        if mutant:
            path = mutant.path(copy)
            text = path.read_text(encoding="utf-8")
            if text.count(mutant.old) != 1:
                raise RuntimeError(f"{mutant.file} has {text.count(mutant.old)} times: {mutant.old}")
            path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        os.chdir(copy)
        sys.path[:] = [entry for entry in sys.path if not entry.startswith(str(ROOT))]
        for module in ("project", "mutants", "mutations"):
            sys.modules.pop(module, None)
        sys.dont_write_bytecode = True
        import pytest

        arguments = ["-x", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", f"--basetemp={folder}/tmp", name]
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = pytest.main([*arguments, *(["-k", words] if words else [])])
        os.chdir("/")
    if code not in (0, 1):
        raise RuntimeError(f"{test}: no test was run.\n{said.getvalue()[-3000:]}")
    return said.getvalue()[-3000:] if code else ""


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
    os.environ["OMP_NUM_THREADS"] = "1"  # as the tests have it, before the fork server imports torch
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torchvision", "pytorch_lightning.cli", "torchmetrics"])
    with ProcessPoolExecutor(options.jobs, context, max_tasks_per_child=1) as pool:
        # a test that fails without a mistake would notice anything
        unchanged = by_file(mutant.test for mutant in chosen.values())
        for test, output in zip(unchanged, pool.map(run_test, unchanged), strict=True):
            if output:
                raise SystemExit(f"{test} fails without a mistake.\n{output}")
        outputs = pool.map(run_test, [mutant.test for mutant in chosen.values()], chosen.values())
        for (row, mutant), output in zip(chosen.items(), outputs, strict=True):
            missed += not output
            change = " -> ".join(" ".join(text.split())[:60] for text in (mutant.old, mutant.new))
            by = re.findall(r"^(?:FAILED|ERROR) \S+?::(\w+)", output, re.MULTILINE)
            print(f"{row:3} {'noticed' if output else 'MISSED '}  {mutant.file}: {change} ", *by, flush=True)
    print(f"{len(chosen)} mistakes, {missed} missed")
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
