"""The tables and the plot of what run.py has measured."""

import math
import re
import statistics
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- benchmark: begin -->", "<!-- benchmark: end -->"
NAMES = {
    "optimal": "hand-written, optimal",
    "project": "**this template's project**",
    "lightning_bare": "Lightning, everything off",
    "lightning_docs": "Lightning, as documented",
    "ignite": "PyTorch Ignite",
    "accelerate": "Accelerate",
    "catalyst": "Catalyst",
    "composer": "Composer",
    "naive": "hand-written, naive",
}
Key = tuple[str, int, int]  # model, batch size, threads


def ratios(measured: list[dict[str, Any]], base: str = "optimal") -> dict[str, dict[Key, list[float]]]:
    """Images per second as a fraction of the base's in the same round, for each contestant and setting."""

    def setting(entry: dict[str, Any]) -> Key:
        return entry["model"], entry["batch_size"], entry["threads"]

    bases = {(setting(e), e["round"]): e["samples_per_second"] for e in measured if e["contestant"] == base}
    found: dict[str, dict[Key, list[float]]] = {}
    for entry in measured:
        if rate := bases.get((setting(entry), entry["round"])):
            of_setting = found.setdefault(entry["contestant"], {}).setdefault(setting(entry), [])
            of_setting.append(entry["samples_per_second"] / rate)
    return found


def spread(values: list[float], digits: int = 2) -> str:
    """The median, and the smallest and largest value."""
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low}-{high})"


def slope(sizes: list[float], values: list[float]) -> float:
    """Slope of a straight line through the logarithms: 1 if a value grows in proportion to the size."""
    return statistics.linear_regression([math.log(x) for x in sizes], [math.log(y) for y in values]).slope


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def _by_speed(found: dict[str, dict[Key, list[float]]]) -> list[str]:
    """Contestants, the fastest first, by the geometric mean of their ratios."""
    return sorted(found, key=lambda name: -statistics.geometric_mean([x for v in found[name].values() for x in v]))


def speed_table(part: dict[str, Any], threads: int | None = None) -> str:
    """Fraction of the optimal loop, with the spread of one number of threads, or the medians of all of them."""
    found = ratios(part["measured"])
    columns = sorted({key for of in found.values() for key in of}, key=lambda key: (key[0] != "DenseNet", *key[1:]))
    counts = sorted({key[2] for key in columns})
    heads = dict.fromkeys(key[:2] for key in columns)
    rows = []
    for name in _by_speed(found):
        cells = []
        for model, batch_size in heads:
            per_count = [found[name].get((model, batch_size, n), []) for n in ([threads] if threads else counts)]
            if threads:
                cells.append(spread(per_count[0]) if per_count[0] else "-")
            else:
                cells.append(" / ".join(f"{statistics.median(v):.2f}" if v else "-" for v in per_count))
        rows.append([NAMES.get(name, name), *cells])
    return _table(["", *(f"{model}, batch {batch_size}" for model, batch_size in heads)], rows)


def _details(part: dict[str, Any]) -> str:
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for entry in part["measured"]:
        key = (entry["model"], entry["batch_size"], entry["threads"], entry["contestant"])
        groups.setdefault(key, []).append(entry)
    rows = []
    for (model, batch_size, threads, name), of in sorted(groups.items()):
        rate = statistics.median(entry["samples_per_second"] for entry in of)
        memory = statistics.median(entry["peak_memory"] for entry in of) / 2**20
        cells = [model, str(batch_size), str(threads), NAMES.get(name, name)]
        rows.append([*cells, f"{rate:,.0f}", f"{memory:,.0f}", f"{of[0]['timed_samples']:,}"])
    head = ["network", "batch", "threads", "", "images/s (median)", "peak memory, MiB", "images timed"]
    return _table(head, rows)


def paired_table(part: dict[str, Any], base: str, bases: dict[str, str] | None = None) -> str:
    """Seconds, and the ratios to what was run in the same round: the base, or what ``bases`` says."""
    seconds = part["seconds"]
    rows = [
        [
            f"`{name}`" if "--help" in name or "import" in name else name,
            f"{spread(taken)} s",
            spread([a / b for a, b in zip(taken, seconds[(bases or {}).get(name, base)], strict=True)])
            if name != base
            else "1",
        ]
        for name, taken in seconds.items()
    ]
    return _table(["", "median (min-max)", f"of {base}, paired"], rows)


def startup_table(part: dict[str, Any]) -> str:
    """Each beside the imports alone; the first step, which does not wait for Python's end, beside those without it."""
    base, up_to_end = "import torch, pytorch_lightning", "the imports up to their end"
    bases = {"first training step": up_to_end} if up_to_end in part["seconds"] else {}
    return paired_table(part, base, bases)


def _accuracy(part: dict[str, Any]) -> str:
    rows = []
    reference = part["accuracy"].get("optimal", [])
    for name, values in part["accuracy"].items():
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        apart = ""
        if len(values) > 1 and len(reference) > 1 and name != "optimal":
            error = math.sqrt(
                statistics.variance(values) / len(values) + statistics.variance(reference) / len(reference)
            )
            difference = statistics.mean(values) - statistics.mean(reference)
            apart = f"{100 * difference:+.2f} ± {100 * error:.2f}"
        cells = [NAMES.get(name, name), f"{100 * statistics.mean(values):.2f} ± {100 * deviation:.2f}", apart]
        rows.append(cells)
    return _table(["", "test accuracy, % (mean ± sd)", "against the optimal loop (± standard error)"], rows)


def _scaling(part: dict[str, Any]) -> str:
    by_size: dict[int, list[dict[str, Any]]] = {}
    for entry in part["measured"]:
        by_size.setdefault(entry["images"], []).append(entry)
    sizes = sorted(by_size)
    median = {
        key: [statistics.median(entry[key] for entry in by_size[size]) for size in sizes]
        for key in ("seconds", "process_seconds", "peak_memory")
    }
    rows = [
        [f"{size:,}", f"{seconds:.2f}", f"{whole:.2f}", f"{memory / 2**20:,.0f}"]
        for size, seconds, whole, memory in zip(sizes, *median.values(), strict=True)
    ]
    memory = statistics.linear_regression(sizes, median["peak_memory"])
    correlation = statistics.correlation(sizes, median["peak_memory"]) if len(sizes) > 1 else 1.0
    return (
        _table(["images", "training, s", "whole process, s", "peak memory, MiB"], rows)
        + f"\n\nTraining time grows with the images to the power of {slope(list(sizes), median['seconds']):.2f}."
        f" Memory: {memory.intercept / 2**20:,.0f} MiB and {memory.slope:,.0f} bytes for each image of"
        f" 784 pixels (correlation {correlation:.4f})."
    )


def _machine(part: dict[str, Any]) -> str:
    facts = part["machine"]
    versions = ", ".join(f"{name} {facts[name]}" for name in ("Python", "torch", "torchvision", "pytorch-lightning"))
    return f"{facts['date']}, {facts['cpu']}, {facts['system']}; {versions}; {part['took_seconds']} s."


def tables(results: dict[str, Any]) -> str:
    """All tables, as Markdown."""
    blocks: list[str] = []
    if part := results.get("speed"):
        if ratios(part["measured"]):
            for threads in sorted({entry["threads"] for entry in part["measured"]}):
                count = f"{threads} thread{'s' if threads > 1 else ''}"
                blocks += [f"### Speed, {count}: fraction of the optimal loop", speed_table(part, threads)]
        for (model, batch_size, threads), values in ratios(part["measured"], "naive").get("project", {}).items():
            times = spread(values, 1)
            blocks += [
                f"- {model}, batch {batch_size}, {threads} thread(s): the project is {times} times the naive loop."
            ]
        blocks += ["### Images per second and memory", _details(part)]
        missing = [f"- {NAMES.get(name, name)} did not run: {why}" for name, why in part["failed"].items()]
        versions = ", ".join(dict.fromkeys(part["versions"].values()))
        blocks += ["\n".join(missing)] * bool(missing) + [f"{_machine(part)} {versions}."]
    if part := results.get("accuracy"):
        seeds = len(next(iter(part["accuracy"].values()), []))
        title = f"### The same accuracy: digits, ConvNet, {part['epochs']} epochs, {seeds} seeds"
        blocks += [title, _accuracy(part), _machine(part)]
    for front, unit in (("tables", "rows"), ("texts", "texts"), ("masks", "images")):
        if part := results.get(front):
            for threads in sorted({entry["threads"] for entry in part["measured"]}):
                count = f"{threads} thread{'s' if threads > 1 else ''}"
                blocks += [
                    f"### {front.capitalize()}, {count}: {unit} per second, as a fraction of the optimal loop",
                    speed_table(part, threads),
                ]
            missing = [f"- {NAMES.get(name, name)} did not run: {why}" for name, why in part["failed"].items()]
            blocks += [*missing, _machine(part)]
    if part := results.get("startup"):
        blocks += ["### Start-up", startup_table(part), _machine(part)]
    if part := results.get("bake"):
        blocks += ["### A bake", paired_table(part, "empty template"), _machine(part)]
    if part := results.get("cost"):
        rows = [
            [f"{model}, batch {batch_size}", spread(values, 3)]
            for (model, batch_size, _), values in ratios(part["measured"], "lightning_checkpoints")["project"].items()
        ]
        head = ["", "steps per second, as a fraction of those with Lightning's checkpoints"]
        title = "### What the exact resume costs: a save every 200 steps, one thread"
        blocks += [title, _table(head, rows), _machine(part)]
    if part := results.get("scaling"):
        blocks += ["### More images", _scaling(part), _machine(part)]
    return "\n\n".join(blocks)


def summary(results: dict[str, Any]) -> str:
    """The sentence for the README: the slowest and the fastest setting, by their medians."""
    medians = {
        name: [statistics.median(values) for values in of.values()]
        for name, of in ratios(results["speed"]["measured"]).items()
    }
    shown = {"project": "a project", "lightning_bare": "Lightning with everything off"}
    parts = [
        f"{text} {min(medians[name]):.2f} to {max(medians[name]):.2f}"
        for name, text in shown.items()
        if name in medians
    ]
    return (
        "Training speed on a CPU, as a multiple of that of an optimal hand-written loop:\n"
        f"{', '.join(parts)}. The project has its callbacks and its CSV logger on."
    )


def insert(file: Path, text: str) -> None:
    """Put a text between the markers of a file, if it has them."""
    before = file.read_text(encoding="utf-8")
    marked = re.compile(f"{BEGIN}.*{END}", re.DOTALL)
    after = marked.sub(lambda _: f"{BEGIN}\n{text}\n{END}", before)
    if after != before:
        file.write_text(after, encoding="utf-8")


def plot(part: dict[str, Any], file: Path) -> None:
    """Draw the ratios on a light ground of its own, in colours and shapes that everyone can tell apart."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    mpl.rcParams |= {"svg.fonttype": "path", "svg.hashsalt": "benchmark", "font.size": 9}
    found = ratios(part["measured"])
    names = _by_speed(found)[::-1]
    keys = {key for of in found.values() for key in of}
    panels = sorted({key[:2] for key in keys}, key=lambda key: (key[0] != "DenseNet", key[1]))
    counts = sorted({key[2] for key in keys})
    styles = dict(zip(counts, (("#0072B2", "o"), ("#D55E00", "^"), ("#009E73", "s")), strict=False))
    everything = [value for of in found.values() for values in of.values() for value in values]
    size = (2 + 2 * len(panels), 1.3 + 0.3 * len(names))
    figure, row = plt.subplots(
        1, len(panels), sharex=True, sharey=True, squeeze=False, figsize=size, layout="constrained"
    )
    figure.set_facecolor("#fbfbfb")
    for axes, (model, batch_size) in zip(row[0], panels, strict=True):
        for shift, (threads, (colour, marker)) in enumerate(styles.items()):
            for y, name in enumerate(names):
                values = found[name].get((model, batch_size, threads))
                if values:
                    height = y + 0.15 - 0.3 * shift
                    axes.plot([min(values), max(values)], [height] * 2, color=colour, linewidth=1)
                    label = f"{threads} thread{'s' if threads > 1 else ''}" if name == names[0] else None
                    axes.plot(
                        statistics.median(values), height, marker, color=colour, markersize=5, label=label, ls="none"
                    )
        axes.set(
            xscale="log",
            xlim=(0.85 * min(everything), 1.2 * max(everything)),
            title=f"{model}, batch {batch_size}",
            facecolor="#fbfbfb",
        )
        axes.axvline(1, color="#999999", linewidth=0.8, zorder=0)
        axes.grid(axis="x", color="#dddddd", zorder=0)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(lambda value, _: "")
        axes.spines[["top", "right"]].set_visible(False)
    row[0][0].set_yticks(range(len(names)), [NAMES.get(name, name).strip("*") for name in names])
    row[0][0].legend(loc="upper left", frameon=False)
    figure.supxlabel("images per second, as a fraction of the optimal hand-written loop; median and range")
    figure.savefig(file, metadata={"Date": None}, facecolor=figure.get_facecolor())
    plt.close(figure)


def write(results: dict[str, Any], folder: Path) -> None:
    """Write results.md and results.svg; where they stand in benchmarks/, bring the READMEs up to date."""
    text = tables(results)
    (folder / "results.md").write_text(text + "\n", encoding="utf-8")
    compared = "speed" in results and bool(ratios(results["speed"]["measured"]))
    if compared:
        try:
            plot(results["speed"], folder / "results.svg")
        except ModuleNotFoundError as error:
            print(f"no plot: {error}")
    if folder == Path(__file__).parent:
        insert(folder / "README.md", text)
        if compared:
            insert(ROOT / "README.md", summary(results))
