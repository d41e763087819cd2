"""Measure a baked project against loops written by hand and other frameworks: ``make benchmark``.

Contestants take turns, each in a process of its own, on the same data, network, batch size and optimizer. Results go to
``results.json`` and ``results.svg`` beside this file, and as a table into README.md here and above.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from common import Task, write_mnist

HERE = Path(__file__).parent
ROOT = HERE.parent
PACKAGE = "my_lightning_project"
BEGIN, END = "<!-- benchmark: begin -->\n", "<!-- benchmark: end -->"
MAIN = ("optimal", "project")
LIGHTNING = ("lightning_bare", "lightning_docs", "naive")
OTHERS = ("accelerate", "catalyst", "composer", "fastai", "ignite", "skorch")
NAMES = {
    "optimal": "optimal loop written by hand",
    "project": "**a project of this template**",
    "lightning_bare": "Lightning, all switched off",
    "lightning_docs": "Lightning's own example",
    "naive": "loop of many tutorials",
    "accelerate": "Accelerate",
    "catalyst": "Catalyst",
    "composer": "Composer",
    "fastai": "fastai",
    "ignite": "Ignite",
    "skorch": "skorch",
}
PARTS = ("speed", "startup", "bake", "scaling", "accuracy")
FIRST_STEP = f"""
import os, sys
from pytorch_lightning.callbacks import Callback
class Stop(Callback):
    def on_train_batch_end(self, *args, **kwargs):
        os._exit(0)
import types
sys.modules["stop"] = types.SimpleNamespace(Stop=Stop)
Stop.__module__ = "stop"
from {PACKAGE}.train import main
main(sys.argv[1:])
"""


class Session:
    """One session of measurements.

    Args:
        python: Interpreter with what a project needs.
        others: Interpreter with the other frameworks beside it.
        folder: For data and projects.
        rounds: How often each is measured.
    """

    def __init__(self, python: str, others: str, folder: Path, rounds: int) -> None:
        """Bake the project that is measured."""
        self.python, self.others, self.folder, self.rounds = python, others, folder, rounds
        self.project = self.bake(ROOT, folder, "logger=csv")

    def bake(self, template: Path, folder: Path, *answers: str) -> Path:
        """Bake a template and return the project's folder."""
        command = [sys.executable, "-m", "cookiecutter", "--no-input", "--output-dir", str(folder), str(template)]
        subprocess.run([*command, *answers], check=True, capture_output=True)
        return folder / "my-lightning-project"

    def environment(self, threads: int) -> dict[str, str]:
        """The environment of a measured process."""
        paths = f"{self.project / 'src'}{os.pathsep}{HERE}"
        return os.environ | {
            "PYTHONPATH": paths,
            "PROJECT": str(self.project),
            "OMP_NUM_THREADS": str(threads),
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONWARNINGS": "ignore",
        }

    def train(self, contestant: str, task: Task) -> dict[str, Any]:
        """Have a contestant carry out a task; its result, or ``error`` with the last line of its output."""
        python = self.others if contestant in OTHERS else self.python
        file = HERE / "contestants" / f"{contestant}.py"
        done = subprocess.run(
            [python, str(file), task.to_json()],
            env=self.environment(task.threads),
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            return {"error": (done.stderr.strip().splitlines() or ["no output"])[-1][:200]}
        return json.loads(done.stdout.splitlines()[-1])

    def data(self, images: int) -> str:
        """A folder with so many training images in MNIST's format."""
        root = self.folder / f"images-{images}"
        if not root.exists():
            write_mnist(root, images)
        return str(root)

    # ---- What is measured

    def speed(self, contestants: Iterable[str]) -> list[dict[str, Any]]:
        """Training throughput: the rows of the table."""
        cases = []
        for network, images in (("DenseNet", 60_000), ("ConvNet", 6_000)):
            for threads in (1, 2):
                for batch_size in (64, 512):
                    names = [n for n in contestants if network == "DenseNet" or n in MAIN]
                    if threads == 1:  # the other frameworks as users run them, with all cores
                        names = [name for name in names if name not in OTHERS]
                    task = Task(PACKAGE, network, "mnist", self.data(images), batch_size, threads=threads)
                    task.epochs = 6 if network == "DenseNet" and batch_size == 512 else 3
                    cases.append((task, names))
        results: dict[tuple[int, str], list[dict[str, Any]]] = {}
        for turn in range(self.rounds):
            for number, (task, names) in enumerate(cases):
                order = names[turn % len(names) :] + names[: turn % len(names)]
                for name in order:
                    if turn >= 3 and name not in MAIN:  # slower by multiples: a few rounds tell
                        continue
                    results.setdefault((number, name), []).append(found := self.train(name, task))
                    shown = found.get("error") or f"{found['samples_per_second']:,.0f} samples/s"
                    print(
                        f"round {turn + 1}  {task.network} {task.batch_size} {task.threads}  {name}: {shown}",
                        flush=True,
                    )
        rows = []
        for (number, name), found in results.items():
            task = cases[number][0]
            case = {"network": task.network, "batch_size": task.batch_size, "threads": task.threads, "contestant": name}
            if errors := [one["error"] for one in found if "error" in one]:
                rows.append(case | {"error": errors[0]})
                continue
            best = [one["samples_per_second"] for one in results.get((number, "optimal"), [])]
            speeds = [one["samples_per_second"] for one in found]
            ratios = [own / other for own, other in zip(speeds, best, strict=False)]
            rows.append(case | _summary(speeds, "samples_per_second") | _summary(ratios, "ratio"))
            rows[-1] |= {key: found[0][key] for key in ("samples", "parameters")}
            rows[-1]["peak_mb"] = max(one["peak_mb"] for one in found)
        return rows

    def startup(self) -> dict[str, Any]:
        """Seconds of cold processes, in turn: imports alone, ``--help``, the first training step."""
        begin = ["-m", PACKAGE]
        commands = {
            "import": ["-c", "import torch, pytorch_lightning"],
            "help": [*begin, "--help"],
            "fit_help": [*begin, "fit", "--help"],
            "first_step": ["-c", FIRST_STEP, "fit", "--logger=csv", "--trainer.callbacks+=stop.Stop"],
        }
        return self._paired({name: [self.python, *command] for name, command in commands.items()}, "import", 10)

    def bakes(self) -> dict[str, Any]:
        """Seconds of a bake and of one of an empty template, in turn."""
        empty = self.folder / "empty"
        (empty / "{{cookiecutter.project_slug}}").mkdir(parents=True)
        (empty / "{{cookiecutter.project_slug}}" / "README.md").write_text("# {{cookiecutter.project_slug}}\n")
        (empty / "cookiecutter.json").write_text('{"project_slug": "my-lightning-project"}')
        bake = [sys.executable, "-m", "cookiecutter", "--no-input", "-f", "-o", str(self.folder / "bakes")]
        return self._paired({"empty": [*bake, str(empty)], "template": [*bake, str(ROOT)]}, "empty", 10)

    def _paired(self, commands: dict[str, list[str]], base: str, rounds: int) -> dict[str, Any]:
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(min(rounds, 2 * self.rounds)):
            names = list(commands)
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                start = time.perf_counter()
                subprocess.run(
                    commands[name], env=self.environment(2), cwd=self.project, check=True, capture_output=True
                )
                seconds[name].append(time.perf_counter() - start)
            print(f"round {turn + 1}  " + "  ".join(f"{n} {s[-1]:.2f} s" for n, s in seconds.items()), flush=True)
        result = {}
        for name, values in seconds.items():
            ratios = [value / other for value, other in zip(values, seconds[base], strict=True)]
            result[name] = _summary(values, "seconds") | _summary(ratios, "ratio")
        return result

    def scaling(self) -> list[dict[str, Any]]:
        """Time per image and memory of the project with up to 16 times the data."""
        rows = []
        for turn in range(min(3, self.rounds)):
            for factor in (1, 2, 4, 8, 16):
                task = Task(PACKAGE, "DenseNet", "mnist", self.data(15_000 * factor), 512, epochs=2)
                found = self.train("project", task)
                rows.append({"images": 15_000 * factor, "turn": turn, **found})
                print(f"{15_000 * factor} images: {found}", flush=True)
        table = []
        for images in sorted({row["images"] for row in rows}):
            same = [row for row in rows if row["images"] == images]
            speeds = _summary([row["samples_per_second"] for row in same], "samples_per_second")
            table.append({"images": images, "peak_mb": max(row["peak_mb"] for row in same)} | speeds)
        return table

    def accuracy(self, contestants: Iterable[str]) -> dict[str, Any]:
        """Test accuracy on digits over five seeds."""
        result = {}
        for name in contestants:
            task = Task(PACKAGE, "ConvNet", "digits", batch_size=64, epochs=10, threads=2)
            found = []
            for task.seed in range(5):
                task.epochs = 9 if name in ("project", "lightning_bare", "lightning_docs") else 10  # they add one
                found.append(self.train(name, task))
            errors = [one["error"] for one in found if "error" in one]
            values = [one["accuracy"] for one in found if "accuracy" in one]
            result[name] = {"error": errors[0]} if errors else {"values": values, "mean": statistics.mean(values)}
            print(f"{name}: {result[name]}", flush=True)
        return result


def _summary(values: list[float], name: str) -> dict[str, Any]:
    if not values:
        return {}
    return {name: statistics.median(values), f"{name}_range": [min(values), max(values)], "rounds": len(values)}


def machine(python: str) -> dict[str, str]:
    """What was measured on."""
    code = "import torch, torchvision, pytorch_lightning; " + "".join(
        f"print({name}.__version__);" for name in ("torch", "torchvision", "pytorch_lightning")
    )
    torch, torchvision, lightning = subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    cpu = platform.processor() or platform.machine()
    with open("/proc/cpuinfo", encoding="utf-8") if os.path.exists("/proc/cpuinfo") else open(os.devnull) as lines:
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": f"{cpu}, {os.cpu_count()} cores",
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch,
        "torchvision": torchvision,
        "pytorch-lightning": lightning,
        "cookiecutter": metadata.version("cookiecutter"),
    }


def table(results: dict[str, Any]) -> str:
    """The Markdown table of throughputs; what could not run stands below it."""
    rows = results.get("speed", [])
    cases = [("DenseNet", 1, 64), ("DenseNet", 1, 512), ("DenseNet", 2, 64), ("DenseNet", 2, 512)]
    cases += [("ConvNet", 1, 64), ("ConvNet", 1, 512), ("ConvNet", 2, 64), ("ConvNet", 2, 512)]
    found = {(r["contestant"], r["network"], r["threads"], r["batch_size"]): r for r in rows}
    head = "".join(f" {n}, {b}, {t} thread{'s' if t > 1 else ''} |" for n, t, b in cases)
    text = f"| |{head} peak memory |\n|---|{'---:|' * len(cases)}---:|\n"
    failed = ""
    for name in NAMES:
        mine = [r for r in rows if r["contestant"] == name]
        if not mine:
            continue
        if error := next((r["error"] for r in mine if "error" in r), None):
            failed += f"\n{NAMES[name]} could not run: `{error}`.\n"
            continue
        cells = []
        for network, threads, batch_size in cases:
            row = found.get((name, network, threads, batch_size))
            if row is None:
                cells.append("")
            elif name == "optimal":
                cells.append(f"{row['samples_per_second']:,.0f}/s")
            else:
                low, high = row["ratio_range"]
                cells.append(f"{row['ratio']:.2f} ({low:.2f} to {high:.2f})")
        memory = max(r["peak_mb"] for r in mine)
        text += f"| {NAMES[name]} | {' | '.join(cells)} | {memory:,.0f} MB |\n"
    if on := results.get("machine"):
        text += (
            f"\nMeasured {on['date']} on {on['cpu']}, {on['system']}, Python {on['python']}, torch {on['torch']},"
            f" pytorch-lightning {on['pytorch-lightning']}.\n"
        )
    return text + failed


def plot(results: dict[str, Any], file: Path) -> None:
    """Draw the ratios to the optimal loop, of the dense network with two threads."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    rows = [r for r in results["speed"] if r["network"] == "DenseNet" and r["threads"] == 2 and "ratio" in r]
    names = [name for name in NAMES if name != "optimal" and any(r["contestant"] == name for r in rows)][::-1]
    figure, axes = plt.subplots(figsize=(7, 0.5 + 0.5 * len(names)), layout="constrained", facecolor="white")
    for offset, (batch_size, colour, hatch) in enumerate(((512, "#0072B2", ""), (64, "#E69F00", "//"))):
        for y, name in enumerate(names):
            row = next((r for r in rows if r["contestant"] == name and r["batch_size"] == batch_size), None)
            if row:
                low, high = row["ratio_range"]
                error = [[row["ratio"] - low], [high - row["ratio"]]]
                style = {"color": colour, "hatch": hatch, "edgecolor": "white"}
                label = f"batch {batch_size}" if name == names[-1] else None
                axes.barh(y + 0.4 * offset - 0.2, row["ratio"], 0.38, xerr=error, label=label, **style)
                axes.text(high + 0.02, y + 0.4 * offset - 0.2, f"{row['ratio']:.2f}", va="center", fontsize=8)
    axes.axvline(1, color="#444444", linewidth=1, linestyle="--")
    axes.set_yticks(range(len(names)), [NAMES[name].strip("*") for name in names])
    axes.set_xlabel("throughput, as a fraction of an optimal loop written by hand")
    axes.set_title("Small dense network, two threads", fontsize=10)
    axes.legend(loc="lower right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, metadata={"Date": None})


def insert(file: Path, text: str) -> None:
    """Put a text between the marks in a file."""
    before, _, rest = file.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    file.write_text(before + BEGIN + text + END + after, encoding="utf-8", newline="\n")


def main() -> None:
    """Measure what was asked for, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS, action="append", help="this part alone; can be repeated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--contestants", default=",".join(NAMES), help="of speed and accuracy, separated by commas")
    parser.add_argument("--python", default=sys.executable, help="interpreter with what a project needs")
    parser.add_argument("--others", default=sys.executable, help="interpreter with the other frameworks beside it")
    parser.add_argument("--output", type=Path, default=HERE, help="folder for the results")
    parser.add_argument("--quick", action="store_true", help="one round on a few images: does it run?")
    options = parser.parse_args()
    contestants = options.contestants.split(",")
    file = options.output / "results.json"
    results = json.loads(file.read_text()) if file.is_file() else {}
    with tempfile.TemporaryDirectory() as folder:
        session = Session(options.python, options.others, Path(folder), options.rounds)
        if options.quick:
            task = Task(PACKAGE, root=session.data(2000), epochs=2)
            results["quick"] = {name: session.train(name, task) for name in contestants}
        else:
            results["machine"] = machine(options.python)
            for part in options.only or PARTS:
                if part == "speed":
                    results["speed"] = session.speed(contestants)
                elif part == "startup":
                    results["startup"] = session.startup()
                elif part == "bake":
                    results["bake"] = session.bakes()
                elif part == "scaling":
                    results["scaling"] = session.scaling()
                else:
                    results["accuracy"] = session.accuracy(contestants)
                file.write_text(json.dumps(results, indent=1) + "\n")
    file.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))
    if "speed" in results:
        plot(results, options.output / "results.svg")
        if options.output == HERE:
            for readme in (HERE / "README.md", ROOT / "README.md"):
                insert(readme, table(results))


if __name__ == "__main__":
    main()
