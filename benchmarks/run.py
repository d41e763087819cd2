"""Measure the baked project against hand-written loops and other frameworks: ``make benchmark``; see README.md here.

``python benchmarks/run.py --only startup``, ``--contestants project,optimal``, ``--quick`` measure a part of it.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import images
import report

HERE = Path(__file__).parent
ROOT = HERE.parent
LIBRARY = ROOT / "{{cookiecutter.project_slug}}" / "vendor" / "lightning-runs" / "src"
PACKAGE = "my_lightning_project"
# Those that need nothing but what the project needs, and run in its environment; the others' packages would slow
# Lightning's import (scikit-learn, rich). The first three need several epochs for a time that can be measured.
QUICK = ("project", "optimal", "lightning_bare")
OURS = (*QUICK, "lightning_docs", "naive")
COST = ("project", "lightning_checkpoints")  # what `cost` compares
TABLES = ("project", "optimal", "lightning_bare", "skorch", "fastai")  # what `tables` compares
OTHER_FRONTS = ("project", "optimal", "lightning_bare", "skorch")  # what `texts` and `masks` compare
STARTS = {"table": "table", "text": "text", "mask": "masks"}  # of these contestants' projects
UNITS = {"csv_file": "rows", "glosses": "texts"}  # of which a data set consists, in the place of images
OTHERS = ("ignite", "skorch", "fastai", "accelerate", "catalyst", "composer")


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Args:
        rounds: Rounds of the speed, in each of which every contestant has its turn.
        pairs: Paired runs of start-up and bake.
        seeds: Trainings for the accuracy of each contestant.
        speed: Model, batch size, images in the data set, epochs of the quick contestants and of the others.
        threads: Numbers of threads.
        accuracy_epochs: Epochs on digits.
        scaling: Images in the smallest data set, and the factors by which it grows.
        tables: Rows of the table, and for each batch size the epochs of the quick contestants and of the others.
        texts: Model, batch size, epochs of the quick contestants and of the others; at most 10, for the project would
            stop early.
        masks: The same of masks.
    """

    rounds: int = 3
    pairs: int = 10
    seeds: int = 5
    speed: tuple[tuple[str, int, int, int, int], ...] = (
        ("DenseNet", 64, 60_000, 6, 1),
        ("DenseNet", 512, 60_000, 16, 1),
        ("ConvNet", 64, 6_000, 2, 1),
        ("ConvNet", 512, 6_000, 2, 1),
    )
    threads: tuple[int, ...] = (1, 2)
    accuracy_epochs: int = 10
    scaling: tuple[int, tuple[int, ...]] = (15_000, (1, 2, 4, 8, 16))
    tables: tuple[int, tuple[tuple[int, int, int], ...]] = (50_000, ((64, 4, 1), (512, 16, 4)))
    texts: tuple[tuple[str, int, int, int], ...] = (("EmbeddingAverage", 32, 10, 5), ("TransformerEncoder", 32, 3, 1))
    masks: tuple[tuple[str, int, int, int], ...] = (("UNet", 16, 6, 3), ("UNet", 64, 6, 3))


SMOKE = Plan(1, 1, 1, (("DenseNet", 64, 2_000, 2, 1),), (1,), 1, (500, (1, 2)), (2_000, ((64, 2, 2),)))
SMOKE = replace(SMOKE, texts=(("EmbeddingAverage", 32, 2, 2),), masks=(("UNet", 16, 2, 2),))


@dataclass(frozen=True)
class Bench:
    """What the parts need.

    Args:
        plan: How much is measured.
        contestants: Who takes part.
        work: Scratch folder.
        python: The interpreter with what the project needs and no more.
        others_python: The one with the other frameworks.
    """

    plan: Plan
    contestants: tuple[str, ...]
    work: Path
    python: str
    others_python: str

    @property
    def project(self) -> Path:
        """The baked project."""
        return self.work / "my-lightning-project"

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of a process."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "PL_", "WANDB_"))}
        path = os.pathsep.join([str(self.project / "src"), str(LIBRARY)])  # the source: an installed wheel may be older
        return kept | {"PYTHONPATH": path, "TERM": "xterm", "COLUMNS": "120"} | more

    @contextmanager
    def workers(self, threads: int) -> "Iterator[dict[str, Worker]]":
        """A process for each contestant, which has imported what it needs."""
        workers = {name: Worker(self, name, threads) for name in self.contestants}
        try:
            for worker in workers.values():
                _ = worker.hello  # nothing is measured while another one still imports
            yield workers
        finally:
            for worker in workers.values():
                worker.close()


class Worker:
    """A contestant's process (worker.py).

    Args:
        bench: What it needs.
        name: The contestant.
        threads: Threads of torch's operations.
    """

    def __init__(self, bench: Bench, name: str, threads: int) -> None:
        self.bench, self.name, self.threads = bench, name, threads
        self.folder = bench.work / "contestants" / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            [
                bench.python if name.partition("_")[2] in QUICK or name in (*OURS, *COST) else bench.others_python,
                *(str(HERE / "worker.py"), name),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(self.folder / "import.txt").open("w"),
            env=bench.environment(OMP_NUM_THREADS=str(threads)),
            text=True,
        )

    @cached_property
    def hello(self) -> dict[str, Any]:
        """The version of its framework, or why it can't be imported."""
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": f"its process ended; see {self.folder}/import.txt"}

    def run(self, model: str, dataset: str, root: Path, batch_size: int, epochs: int, seed: int) -> dict[str, Any]:
        """Train once, and say what was measured, or the error."""
        if "error" in self.hello:
            return self.hello
        task = {
            "contestant": self.name,
            "model": model,
            "dataset": dataset,
            "root": str(root),
            "batch_size": batch_size,
            "epochs": epochs,
            "threads": self.threads,
            "seed": seed,
            "project": str(self.bench.project),
            "folder": str(self.folder),
        }
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        shutil.rmtree(self.folder / "runs", ignore_errors=True)
        unit = UNITS.get(dataset, "images")
        said = f"{answer['samples_per_second']:,.0f} {unit}/s" if "error" not in answer else answer["error"]
        print(
            f"  {time.strftime('%H:%M:%S')}  {model} {batch_size}, {self.threads} thread(s), {self.name}: {said}",
            flush=True,
        )
        return answer | {"contestant": self.name, "model": model, "batch_size": batch_size, "threads": self.threads}

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def rotated(items: tuple[Any, ...] | list[Any], by: int) -> list[Any]:
    """The items from another beginning on, so that nothing is always measured after the same."""
    by %= len(items)
    return [*items[by:], *items[:by]]


def speed(bench: Bench) -> dict[str, Any]:
    """Images per second in training, interleaved: in each round and setting every contestant has its turn."""
    measured: list[dict[str, Any]] = []
    versions, failed = {}, {}
    for threads in bench.plan.threads:
        with bench.workers(threads) as workers:
            for name, worker in workers.items():
                failed |= {name: worker.hello["error"]} if "error" in worker.hello else {}
                versions |= {name: worker.hello["version"]} if "version" in worker.hello else {}
            able = [name for name in workers if name not in failed]
            for turn in range(bench.plan.rounds):
                for setting, (model, batch_size, count, many, few) in enumerate(bench.plan.speed):
                    root = images.mnist(bench.work, count)
                    for name in rotated([name for name in able if name not in failed], turn + setting):
                        epochs = many if name in QUICK else few
                        answer = workers[name].run(model, "mnist", root, batch_size, epochs, seed=turn)
                        if "error" in answer:
                            failed[name] = answer["error"]
                        else:
                            measured.append(answer | {"round": turn, "epochs": epochs})
    return {"measured": measured, "versions": versions, "failed": failed}


def tables(bench: Bench) -> dict[str, Any]:
    """Rows per second of the tables' network in training, interleaved, on the rows that the project trains on."""
    count, settings = bench.plan.tables
    file = bench.work / f"table-{count}.csv"
    _timed([bench.others_python, str(HERE / "tables.py"), "write", str(file), str(count)], HERE, bench.environment())
    tasks = [("TableNet", *setting) for setting in settings]
    return _of_front(bench, "table", TABLES, "csv_file", file, ["read", str(file)], tasks)


def texts(bench: Bench) -> dict[str, Any]:
    """Texts per second of both networks in training, interleaved, on the tokens that the project trains on."""
    file = bench.work / "texts.pt"
    return _of_front(bench, "text", OTHER_FRONTS, "glosses", file, [str(file)], bench.plan.texts)


def masks(bench: Bench) -> dict[str, Any]:
    """Images per second of the U-Net in training, interleaved, on the scenes that the project trains on."""
    file = bench.work / "masks.pt"
    return _of_front(bench, "mask", OTHER_FRONTS, "digit_scenes", file, [str(file)], bench.plan.masks)


def _of_front(
    bench: Bench,
    kind: str,
    contestants: Sequence[str],
    dataset: str,
    file: Path,
    written_by: Sequence[str],
    settings: Sequence[tuple[str, int, int, int]],
) -> dict[str, Any]:
    """Measure contestants named ``KIND_NAME`` on the project of a data set; ``KINDs.py`` writes what they share."""
    names = tuple(f"{kind}_{name}" for name in contestants if name in bench.contestants)
    bench = replace(bench, contestants=names, work=bench.work / f"{kind}s")
    bench.work.mkdir(exist_ok=True)
    _timed(_bake_command(ROOT, bench.work, f"start={STARTS[kind]}"), bench.work, bench.environment())
    _timed([bench.python, str(HERE / f"{kind}s.py"), *written_by], HERE, bench.environment())
    measured: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    for threads in bench.plan.threads:
        with bench.workers(threads) as workers:
            for turn in range(bench.plan.rounds):
                for setting, (model, batch_size, many, few) in enumerate(settings):
                    for name in rotated([name for name in workers if name not in failed], turn + setting):
                        short = name.removeprefix(f"{kind}_")
                        epochs = many if short in QUICK else few
                        answer = workers[name].run(model, dataset, file, batch_size, epochs, seed=turn)
                        if "error" in answer:
                            failed[name] = answer["error"]
                        else:
                            measured.append(answer | {"contestant": short, "round": turn, "epochs": epochs})
    return {"measured": measured, "failed": failed}


def accuracy(bench: Bench) -> dict[str, Any]:
    """Accuracy on the test images of digits, of the weights at the end, with the default network."""
    found: dict[str, list[float]] = {}
    failed: dict[str, str] = {}
    root = images.digits(bench.work, bench.project)
    with bench.workers(1) as workers:
        for seed in range(bench.plan.seeds):
            for name, worker in ((name, worker) for name, worker in workers.items() if name not in failed):
                answer = worker.run("ConvNet", "digits", root, 64, bench.plan.accuracy_epochs, seed)
                if "error" in answer:
                    failed[name] = answer["error"]
                else:
                    found.setdefault(name, []).append(answer["accuracy"])
    return {"epochs": bench.plan.accuracy_epochs, "accuracy": found, "failed": failed}


def scaling(bench: Bench) -> dict[str, Any]:
    """Time and peak memory of the project's training with ever more images; two rounds of them."""
    base, factors = bench.plan.scaling
    bench = Bench(bench.plan, ("project",), bench.work, bench.python, bench.others_python)
    measured = []
    with bench.workers(1) as workers:
        for _ in range(min(2, bench.plan.rounds)):
            for factor in factors:
                root = images.mnist(bench.work, base * factor)
                answer = workers["project"].run("DenseNet", "mnist", root, 64, 2, seed=0)
                if "error" in answer:
                    raise SystemExit(answer["error"])
                measured.append(answer | {"images": base * factor})
    return {"measured": measured}


def cost(bench: Bench) -> dict[str, Any]:
    """Images per second with the exact resume, and with Lightning's own checkpoints at the same interval."""
    bench = Bench(bench.plan, COST, bench.work, bench.python, bench.others_python)
    measured = []
    with bench.workers(1) as workers:
        for turn in range(-(-bench.plan.pairs // 2)):
            for setting, (model, batch_size, count, epochs, _) in enumerate(bench.plan.speed):
                root = images.mnist(bench.work, count)
                for name in rotated(COST, turn + setting):
                    answer = workers[name].run(model, "mnist", root, batch_size, epochs, seed=turn)
                    if "error" in answer:
                        raise SystemExit(answer["error"])
                    measured.append(answer | {"round": turn, "epochs": epochs})
    return {"measured": measured}


def startup(bench: Bench) -> dict[str, Any]:
    """Seconds until the help is there and until the first step is done, beside those of the imports alone."""
    first_step = [str(HERE / "first_step.py"), PACKAGE, "fit", "--logger=csv", "--data.dataset=digits"]
    commands = {
        "import torch, pytorch_lightning": ["-c", "import torch, pytorch_lightning"],
        # Python takes a while to end; a measurement up to the first step does not have that in it
        "the imports up to their end": ["-c", "import os, torch, pytorch_lightning; os._exit(0)"],
        "--help": ["-m", PACKAGE, "--help"],
        "fit --help": ["-m", PACKAGE, "fit", "--help"],
        "first training step": [*first_step, "--trainer.accelerator=cpu"],
    }
    return paired(
        {
            name: lambda words=words: _timed([bench.python, *words], bench.project, bench.environment())
            for name, words in commands.items()
        },
        bench.plan.pairs,
    )


def bake(bench: Bench) -> dict[str, Any]:
    """Seconds that cookiecutter takes for this template, hooks included, and for one with a single file."""
    empty = bench.work / "empty-template"
    (empty / "{{cookiecutter.project_slug}}").mkdir(parents=True, exist_ok=True)
    (empty / "{{cookiecutter.project_slug}}" / "README.md").write_text("{{ cookiecutter.project_slug }}\n")
    (empty / "cookiecutter.json").write_text('{"project_slug": "empty"}')
    return paired(
        {
            name: lambda template=template: _timed(
                _bake_command(template, bench.work / "bakes"), bench.work, bench.environment()
            )
            for name, template in {"empty template": empty, "this template": ROOT}.items()
        },
        bench.plan.pairs,
    )


def _bake_command(template: Path, output: Path, *answers: str) -> list[str]:
    settings = output.parent / "cookiecutter.yaml"
    settings.write_text(f"cookiecutters_dir: {output.parent}/cookiecutters\nreplay_dir: {output.parent}/replay\n")
    options = ["--no-input", "--overwrite-if-exists", "--config-file", str(settings), "--output-dir", str(output)]
    return [sys.executable, "-m", "cookiecutter", *options, str(template), *answers]


def _timed(command: list[str], folder: Path, environment: dict[str, str]) -> float:
    begin = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - begin


def paired(measure: Mapping[str, Callable[[], float]], pairs: int) -> dict[str, Any]:
    """Time each once in every round, in rotating order, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in measure}
    for turn in range(-1, pairs):
        for name in rotated(list(measure), turn):
            taken = measure[name]()
            if turn >= 0:
                seconds[name].append(taken)
    for name, taken in seconds.items():
        print(f"  {name}: {statistics.median(taken):.2f} s")
    return {"seconds": seconds}


PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    part.__name__: part for part in (bake, startup, scaling, cost, accuracy, tables, texts, masks, speed)
}


def machine(python: str) -> dict[str, Any]:
    """What the figures depend on."""
    code = (
        "import json, platform, importlib.metadata as m\n"
        "names = ('torch', 'torchvision', 'pytorch-lightning')\n"
        "print(json.dumps({'Python': platform.python_version(), **{name: m.version(name) for name in names}}))"
    )
    versions = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": f"{cpu}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.machine()}",
        "cookiecutter": metadata.version("cookiecutter"),
        **json.loads(versions),
    }


def main(args: list[str] | None = None) -> None:
    """Measure, and write results.json, results.md and results.svg."""
    parser = argparse.ArgumentParser(description="Measure the baked project against hand-written loops and frameworks.")
    parser.add_argument("--only", help=f"parts, with commas: {','.join(PARTS)}; the results of the others are kept")
    parser.add_argument("--contestants", help=f"some of {','.join((*OURS, *OTHERS))}")
    parser.add_argument("--rounds", type=int, help="rounds of the speed")
    parser.add_argument("--quick", action="store_true", help="a minute of everything, to see whether it runs")
    parser.add_argument("--report", action="store_true", help="measure nothing; write the tables and the plot again")
    parser.add_argument("--output", type=Path, help="folder for the results; benchmarks/, or build/ with --quick")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "benchmark", help="scratch folder")
    parser.add_argument("--python", default=sys.executable, help="interpreter with what the project needs")
    options = parser.parse_args(args)
    parts = options.only.split(",") if options.only else list(PARTS)
    names = tuple(options.contestants.split(",") if options.contestants else (*OURS, *OTHERS))
    if unknown := [name for name in (*parts, *names) if name not in (*PARTS, *OURS, *OTHERS)]:
        parser.error(f"there is no {unknown[0]}")
    work = options.work.absolute()
    output = (options.output or (work / "quick" if options.quick else HERE)).absolute()
    output.mkdir(parents=True, exist_ok=True)
    plan = SMOKE if options.quick else Plan()
    plan = Plan(**{**asdict(plan), "rounds": options.rounds or plan.rounds})
    # not resolved: a virtual environment's interpreter is a link
    bench = Bench(plan, names, work, os.path.abspath(options.python), sys.executable)
    file = output / "results.json"
    results: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if not options.report:
        work.mkdir(parents=True, exist_ok=True)
        _timed(_bake_command(ROOT, work), work, bench.environment())
        for part in parts:
            print(f"{part}:", flush=True)
            begin = time.perf_counter()
            result = PARTS[part](bench)
            took = round(time.perf_counter() - begin)
            results[part] = {"machine": machine(bench.python), "took_seconds": took, **result}
            file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    report.write(results, output)
    print((output / "results.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
