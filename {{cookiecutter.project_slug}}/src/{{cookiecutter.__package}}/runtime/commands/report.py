"""``report RUN [RUN …]``: one HTML file that shows a run, or several side by side; it needs no network and no script.

What is shown of the test images is computed here, from the best checkpoint, so that it is there for any run that has
one: also for a run that was interrupted, and for one whose project has changed its mind about what to log.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from .. import runs
from ..cli import shown
from ..data import DataModule
from ..errors import UserError, message
from ..module import ImageClassifier
from ..parser import Parser, quiet
from ..runs import Run
from . import _charts as charts

PROGRAM = f"python -m {__name__.split('.')[0]}"
Z = 1.959964  # standard deviations to either side of the mean that hold 95 % of a normal distribution
BINS = 12  # of the calibration curve
MISTAKES = 24  # pictures
SAMPLES = 60  # classes of which a picture is shown


@dataclass
class Tested:
    """What a run's best checkpoint says of the test images.

    Args:
        labels: True classes, ``(N,)`` int64.
        probabilities: ``(N, C)`` float, each row of sum 1.
        losses: Cross-entropy of each image, in nats, ``(N,)``.
        index: Positions of the images in the test set, ``(N,)``.
        checkpoint: The file.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    losses: np.ndarray
    index: np.ndarray
    checkpoint: Path

    @property
    def predicted(self) -> np.ndarray:
        """Most probable classes, ``(N,)``."""
        return self.probabilities.argmax(axis=1)


@dataclass
class Shown:
    """A run with all that its report shows; what is missing has its reason in ``missing``."""

    run: Run
    config: dict[str, Any]
    rows: list[dict[str, str]]
    data: DataModule | None = None
    tested: Tested | None = None
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The classes."""
        return [str(name) for name in self.data.class_names] if self.data else []


def main(args: list[str]) -> int:
    """Write the report that the command line asks for, print where it is, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} report", description="Write an HTML file that shows runs.", allow_abbrev=False
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="name of a run, or its folder")
    where = "the file (default: report.html in the run's folder; of several runs compare.html beside their folders)"
    parser.add_argument("--output", type=Path, help=where)
    options = parser.parse_args(args)
    root = runs.default_root()
    found = {run.folder: run for run in (_find(root, name) for name in options.runs)}
    print(f"Report: {write(list(found.values()), options.output)}")
    return 0


def _find(root: Path, name: str) -> Run:
    for folder in (root / name, Path(name)):
        if (folder / "config.yaml").is_file():
            return Run(folder.absolute())
    raise runs.unknown(root, name)


def write(chosen: Sequence[Run], output: Path | None = None) -> str:
    """Write the report of one run, or of several side by side.

    Args:
        chosen: The runs.
        output: The file; None is a file in the run's folder, or beside the folders of several.

    Returns:
        Path of the file, as the user would type it.

    Raises:
        UserError: A run has neither metrics nor a checkpoint, or the file can't be written.
    """
    with quiet():
        gathered = [gather(run) for run in chosen]
    several = len(chosen) > 1
    file = output or (chosen[0].folder.parent / "compare.html" if several else chosen[0].folder / "report.html")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        runs.write_whole(file, page(gathered))
    except OSError as error:
        raise UserError(f"the report can't be written to {file}: {error.strerror or error}.") from error
    return shown(file)


def gather(run: Run) -> Shown:
    """Read and compute what the report of a run shows.

    Raises:
        UserError: It has neither metrics nor a checkpoint, or its configuration can't be read.
    """
    try:
        config = yaml.safe_load(run.config_file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{run.config_file} can't be read: {error}".splitlines()[0]) from error
    rows = read_rows(run.folder / "metrics.csv")
    if not rows and not any(run.checkpoints.glob("*.ckpt")):
        raise UserError(
            f"the run {run.name} has neither metrics nor a checkpoint, so there is nothing to report. Go on with it:"
            f" {PROGRAM} fit --resume {run.name}"
        )
    gathered = Shown(run, config, rows)
    if not rows:
        gathered.missing["curves"] = "There is no metrics.csv: nothing was logged yet, or the logger is none."
    for name, step in (("data", _read_data), ("tested", _test)):
        try:
            setattr(gathered, name, step(gathered))
        except Exception as error:  # whatever has changed since: the rest of the report is still of use
            gathered.missing[name] = message(error) or f"{type(error).__name__}: {error}"
    return gathered


def read_rows(file: Path) -> list[dict[str, str]]:
    """Read a ``metrics.csv``; nothing where there is none."""
    with suppress(OSError, csv.Error, UnicodeDecodeError), file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
    return []


def _read_data(gathered: Shown) -> DataModule:
    parser = Parser()
    parser.add_class_arguments(DataModule, "data")
    options = parser.parse_object({"data": gathered.config["data"]})
    instantiate = getattr(parser, "instantiate", None) or parser.instantiate_classes  # its name until jsonargparse 4.49
    data = instantiate(options).data
    data.setup("test")
    return data


def _test(gathered: Shown) -> Tested:
    """Classify the test images, or as many of them as the run itself tests on."""
    data, run = gathered.data, gathered.run
    if data is None:
        raise UserError("The test images are not there.")
    checkpoint = run.best_checkpoint()
    device = torch.device(
        "cpu" if run.record.get("device", "cpu") == "cpu" or not torch.cuda.is_available() else "cuda"
    )
    model = ImageClassifier.load_from_checkpoint(checkpoint, map_location=device, weights_only=True).eval()
    bits, _, kind = str(gathered.config["trainer"].get("precision", "32-true")).partition("-")
    dtype = {"bf16": torch.bfloat16, "16": torch.float16, "64": torch.float64}.get(bits, torch.float32)
    if kind == "true":
        model = model.to(dtype)
    loader = data.predict_dataloader()
    most = math.inf if (limit := gathered.config["trainer"].get("limit_test_batches")) is None else limit
    if isinstance(most, float) and most <= 1:
        most = int(len(loader) * most)
    logits, index = [], []
    mixed = torch.autocast(device.type, dtype, enabled=kind == "mixed")
    with torch.inference_mode(), mixed:
        for number, batch in enumerate(loader):
            if number >= most * run.record.get("processes", 1):
                break
            images, positions = data.on_after_batch_transfer((batch[0].to(device), batch[1]), 0)
            logits.append(model(images.to(dtype) if kind == "true" else images).double().cpu())
            index.append(positions.cpu())
    if not logits:
        raise UserError("The run tests on no images (trainer.limit_test_batches).")
    scores, positions = torch.cat(logits), torch.cat(index)
    labels = data.splits["test"][0].labels[positions]
    losses = torch.nn.functional.cross_entropy(scores, labels, reduction="none")
    return Tested(labels.numpy(), scores.softmax(1).numpy(), losses.numpy(), positions.numpy(), checkpoint)


# ---- Numbers


def wilson(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share by Wilson's score, which stays within 0 and 1 (https://doi.org/10.2307/2276774).

    Args:
        hits: How often it was so.
        count: Of how many times; at least 1.
    """
    share, square = hits / count, Z * Z / count
    middle = (share + square / 2) / (1 + square)
    half = Z / (1 + square) * math.sqrt(share * (1 - share) / count + square / (4 * count))
    # all or none of them: the bound itself is exact, and rounding must not move it
    return 0.0 if hits == 0 else max(0.0, middle - half), 1.0 if hits == count else min(1.0, middle + half)


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of a mean, by the normal distribution.

    Args:
        values: ``(N,)``; of a single value the interval is without bounds.
    """
    if len(values) < 2:
        return -math.inf, math.inf
    half = Z * float(values.std(ddof=1)) / math.sqrt(len(values))
    return float(values.mean()) - half, float(values.mean()) + half


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count how often each class was taken for each, ``(C, C)``: true class by predicted class."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def per_class(counts: np.ndarray) -> np.ndarray:
    """Precision, recall, F1 and support of each class, ``(C, 4)``; 0 where a class was never predicted or never there.

    Args:
        counts: True class by predicted class, ``(C, C)``.
    """
    hits, support, times = np.diag(counts).astype(float), counts.sum(axis=1), counts.sum(axis=0)
    precision, recall = hits / np.maximum(times, 1), hits / np.maximum(support, 1)
    f1 = 2 * hits / np.maximum(support + times, 1)
    return np.stack([precision, recall, f1, support], axis=1)


def calibration(probability: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Compare how sure the model is with how often it is right, in bins of equal width.

    Args:
        probability: Of the predicted class, ``(N,)``, 0 to 1.
        right: Whether that was the true one, ``(N,)`` bool.

    Returns:
        Mean probability, share that is right and count of each bin, and the expected calibration error, 0 to 1.
    """
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    sure, hit = (np.bincount(bins, of, BINS) / np.maximum(counts, 1) for of in (probability, right.astype(float)))
    return sure, hit, counts, float(np.sum(counts * np.abs(sure - hit)) / max(1, counts.sum()))


def series(rows: Sequence[dict[str, str]], name: str) -> tuple[list[float], list[float]]:
    """Steps and values of a metric."""
    found = [(float(row["step"]), float(row[name])) for row in rows if row.get(name) and row.get("step")]
    return [step for step, _ in found], [value for _, value in found]


def flat(options: Any, prefix: str = "") -> dict[str, Any]:
    """Options by their dotted names; those in a list by its classes' names, or their numbers."""
    if isinstance(options, list) and any(isinstance(item, dict) for item in options):
        options = {str(item.get("class_path", i)).rpartition(".")[2]: item for i, item in enumerate(options)}
    if not isinstance(options, dict) or not options:
        return {prefix: options}
    return {k: v for name, value in options.items() for k, v in flat(value, f"{prefix}.{name}".lstrip(".")).items()}


def differences(configs: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Options that are not the same in all configurations, with each one's value."""
    options = [flat(config) for config in configs]
    names = dict.fromkeys(name for some in options for name in some)
    values = {name: [some.get(name, "(not there)") for some in options] for name in names}
    return {name: found for name, found in values.items() if any(value != found[0] for value in found)}


# ---- The page

Section = tuple[str, str, Callable[[Shown], str]]


def page(gathered: Sequence[Shown]) -> str:
    """The HTML of the report."""
    several = len(gathered) > 1
    title = "Comparison of " + ", ".join(one.run.name for one in gathered) if several else gathered[0].run.name
    parts = [f"<h1>{escape(title)}</h1>", _overview(gathered)]
    if several:
        parts.append(_section("differences", "What differs", _differences(gathered)))
    parts.append(_section("curves", "Learning curves", _curves(gathered)))
    for key, heading, draw in SECTIONS:
        if several:
            inner = "".join(
                f'<div class="one"><h3>{escape(one.run.name)}</h3>{_drawn(draw, one)}</div>' for one in gathered
            )
            parts.append(_section(key, heading, f'<div class="side">{inner}</div>'))
        else:
            # two that belong together stand side by side where there is room
            before, after = PAIRS.get(key, ("", ""))
            parts.append(before + _section(key, heading, _drawn(draw, gathered[0])) + after)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{_style()}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def _section(key: str, heading: str, inner: str) -> str:
    return f'<section id="{key}">\n<h2>{escape(heading)}</h2>\n{inner}\n</section>'


def _drawn(draw: Callable[[Shown], str], one: Shown) -> str:
    try:
        return draw(one)
    except Exception as error:  # a project of its own kind: one section less, and the others
        return _missing(f"This could not be drawn: {type(error).__name__}: {error}")


def _missing(text: str) -> str:
    return f'<p class="missing">{escape(text)}</p>'


def _table(head: Sequence[str], body: Sequence[Sequence[Any]], kind: str = "") -> str:
    """A table; its first column heads the rows, and numbers stand to the right."""
    cells = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = []
    for first, *rest in body:
        others = "".join(
            f"<td{' class=number' if isinstance(value, int | float) else ''}>{escape(_said(value))}</td>"
            for value in rest
        )
        lines.append(f'<tr><th scope="row">{escape(_said(first))}</th>{others}</tr>')
    top = f"<thead><tr>{cells}</tr></thead>" if head else ""
    return f'<div class="scroll {kind}"><table>{top}<tbody>{"".join(lines)}</tbody></table></div>'


def _said(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    return charts.number(value) if isinstance(value, float) else str(value)


def _overview(gathered: Sequence[Shown]) -> str:
    """Status, test metrics with their intervals, and what is wrong, at a glance."""
    parts = []
    for one in gathered:
        status, record = one.run.status, one.run.record
        name = f"<b>{escape(one.run.name)}</b> " if len(gathered) > 1 else ""
        started = f" begun {record['started']}" if "started" in record else ""
        tiles = ""
        if one.tested:
            hits = int((one.tested.predicted == one.tested.labels).sum())
            count = len(one.tested.labels)
            low, high = wilson(hits, count)
            tiles += (
                f'<div class="tile"><b>{hits / count:.2%}</b> test accuracy<br>'
                f"<small>{low:.2%} to {high:.2%} (Wilson), {hits} of {count} images</small></div>"
            )
            low, high = mean_interval(one.tested.losses)
            tiles += (
                f'<div class="tile"><b>{one.tested.losses.mean():.4f}</b> test loss<br>'
                f"<small>{low:.4f} to {high:.4f} (normal, of the mean), in nats</small></div>"
            )
        parts.append(
            f'<p>{name}<span class="status {escape(status)}">{escape(status)}</span>{escape(started)}</p>'
            f'<div class="tiles">{tiles}</div>'
        )
        if error := record.get("error"):
            parts.append(_missing(str(error)))
        if (record.get("git") or {}).get("dirty"):
            parts.append(
                '<p class="warning">The working tree had changes that were not committed: the commit alone does not'
                " repeat this run.</p>"
            )
        if not one.tested:
            parts.append(_missing(f"No test result: {one.missing.get('tested', 'not tested')}"))
            continue
        where = shown(one.tested.checkpoint)
        parts.append(f"<p><small>Measured on {escape(where)}.</small></p>")
        if told := _disagreement(one):
            parts.append(f'<p class="warning">{escape(told)}</p>')
    return "\n".join(parts) + "<p><small>Intervals are of 95 %, for the choice of test images alone.</small></p>"


def _disagreement(one: Shown) -> str | None:
    """Say so if the run's own test came to another result, as after a change of the code or the images."""
    assert one.tested
    own: dict[str, Any] = {}
    with suppress(OSError, json.JSONDecodeError):
        own = json.loads((one.run.folder / "test.json").read_text(encoding="utf-8"))
    same_file = Path(str(own.get("checkpoint")).replace("\\", "/")).name == one.tested.checkpoint.name
    accuracy = float((one.tested.predicted == one.tested.labels).mean())
    if same_file and isinstance(there := own.get("test/accuracy"), float) and abs(there - accuracy) > 1e-3:
        return (
            f"test.json has an accuracy of {there:.4f} for this checkpoint, and here it is {accuracy:.4f}: the code,"
            " the images or the device have changed since."
        )
    return None


def _curves(gathered: Sequence[Shown]) -> str:
    several = len(gathered) > 1
    found = []
    for metric, logarithmic in (("loss", True), ("accuracy", False)):
        lines = []
        for i, one in enumerate(gathered):
            splits = (("val", 0),) if several else (("train", 0), ("val", 1))
            for split, style in splits:
                name = one.run.name if several else {"train": "train", "val": "validation"}[split]
                lines.append(charts.Line(name, *series(one.rows, f"{split}/{metric}"), i if several else style))
        title = f"{'Validation ' if several else ''}{metric}".capitalize() + (" in nats" if metric == "loss" else "")
        found.append(charts.line_chart(title, lines, "optimizer step", logarithmic))
    lines = []
    for i, one in enumerate(gathered):
        rates = dict.fromkeys(name for row in one.rows[:1] for name in row if name.startswith("lr-"))
        for j, name in enumerate(rates):
            lines.append(
                charts.Line(one.run.name if several else name[3:], *series(one.rows, name), i if several else j)
            )
    found.append(charts.line_chart("Learning rate", lines, "optimizer step"))
    told = "".join(_missing(f"{one.run.name}: {one.missing['curves']}") for one in gathered if "curves" in one.missing)
    note = "" if several else "<p><small>Training values are of single batches, with augmentation.</small></p>"
    figures = "".join(f"<figure>{chart}</figure>" for chart in found)
    return f'{told}<div class="charts">{figures}</div>{note}'


def _differences(gathered: Sequence[Shown]) -> str:
    found = differences([one.config for one in gathered])
    if not found:
        return "<p>The configurations are the same.</p>"
    body = [(name, *map(str, values)) for name, values in found.items()]
    return _table(["option", *(one.run.name for one in gathered)], body)


def _matrix(one: Shown) -> str:
    if not one.tested:
        return _missing("No test result, no confusion matrix.")
    counts = confusion(one.tested.labels, one.tested.predicted, len(one.names))
    return (
        f'<figure class="scroll">{charts.confusion_matrix(counts, one.names)}</figure>'
        "<p><small>Blue: recognised; orange: taken for another class. The depth is the root of the share of the"
        " row.</small></p>"
    )


def _classes(one: Shown) -> str:
    if not one.tested:
        return _missing("No test result, no measures of classes.")
    measures = per_class(confusion(one.tested.labels, one.tested.predicted, len(one.names)))
    body = [
        (name, *(f"{value:.3f}" for value in row[:3]), int(row[3]))
        for name, row in zip(one.names, measures, strict=True)
    ]
    there = measures[measures[:, 3] > 0]
    body.append(("mean", *(f"{value:.3f}" for value in there[:, :3].mean(axis=0)), int(measures[:, 3].sum())))
    return _table(
        ["class", "precision", "recall", "F1", "images"], body, "numbers" + (" long" if len(body) > 30 else "")
    )


def _calibration(one: Shown) -> str:
    if not one.tested:
        return _missing("No test result, no calibration.")
    right = one.tested.predicted == one.tested.labels
    sure, hit, counts, error = calibration(one.tested.probabilities.max(axis=1), right)
    return (
        f"<figure>{charts.calibration_curve(sure, hit, counts, error)}</figure><p>Expected calibration error (ECE,"
        f" {BINS} bins): <b>{error:.4f}</b>. Points below the dashed line: surer than right.</p>"
    )


def _mistakes(one: Shown) -> str:
    if not one.tested or not one.data:
        return _missing("No test result, no mistakes to show.")
    probability = one.tested.probabilities.max(axis=1)
    wrong = np.flatnonzero(one.tested.predicted != one.tested.labels)
    wrong = wrong[np.argsort(-probability[wrong], kind="stable")]
    if not len(wrong):
        return "<p>There are none: every test image was recognised.</p>"
    first = wrong[:MISTAKES]
    pictures = _pictures(one.data, "test", one.tested.index[first])
    cards = []
    for at, picture in zip(first, pictures, strict=True):
        true, taken = one.names[one.tested.labels[at]], one.names[one.tested.predicted[at]]
        cards.append(
            _card(
                picture,
                f"Test image {one.tested.index[at]}: {true}, taken for {taken}",
                f"is <b>{escape(true)}</b>, taken for <b>{escape(taken)}</b><br>{probability[at]:.1%}",
            )
        )
    return f'<p>{len(first)} of {len(wrong)}, the surest first.</p><div class="grid">{"".join(cards)}</div>'


def _card(picture: str, alternative: str, caption: str) -> str:
    return f'<figure><img alt="{escape(alternative)}" src="{picture}"><figcaption>{caption}</figcaption></figure>'


def _pictures(data: DataModule, split: Any, index: Sequence[int] | np.ndarray) -> Iterator[str]:
    images, _ = data.splits[split][0][torch.as_tensor(np.asarray(index))]  # (B, C, H, W) uint8
    for image in images:
        yield charts.png(image.permute(1, 2, 0).numpy(), smallest=64)


def _data(one: Shown) -> str:
    if not one.data:
        return _missing(f"The data can't be shown: {one.missing.get('data')}")
    splits: tuple[Any, ...] = ("train", "val", "test")
    labels = {split: one.data.splits[split][0].labels[one.data.splits[split][1]] for split in splits}
    counts = {split: torch.bincount(labels[split], minlength=len(one.names)).tolist() for split in splits}
    body = [(name, *(counts[split][i] for split in splits)) for i, name in enumerate(one.names)]
    body.append(("all", *(sum(counts[split]) for split in splits)))
    chosen = [
        (name, int(one.data.splits["train"][1][of[0]]))
        for i, name in enumerate(one.names[:SAMPLES])
        if len(of := torch.nonzero(labels["train"] == i).flatten())
    ]
    pictures = _pictures(one.data, "train", [index for _, index in chosen])
    cards = "".join(
        _card(picture, f"A training image of the class {name}", f"<b>{escape(name)}</b>")
        for (name, _), picture in zip(chosen, pictures, strict=True)
    )
    channels, height, width = one.data.input_shape
    return (
        f"<p><b>{escape(str(one.config['data'].get('dataset')))}</b>: {len(one.names)} classes, images {height} pixels"
        f" high and {width} wide, in {channels} channel{'s' if channels > 1 else ''}.</p>"
        + _table(["class", "train", "validation", "test"], body, "numbers" + (" long" if len(body) > 30 else ""))
        + f'<div class="grid small">{cards}</div>'
    )


def _time(one: Shown) -> str:
    record = one.run.record
    seconds, images, training = (record.get(name) for name in ("seconds", "train_images", "train_seconds"))
    processes = record.get("processes", 1)
    body = [
        ("device", f"{record.get('device', 'unknown')}, {processes} process{'es' if processes != 1 else ''}"),
        ("precision", one.config.get("trainer", {}).get("precision")),
        ("machine", record.get("machine")),
        ("begun", record.get("started")),
        *(
            [("resumed", record["resumed"])]
            if record.get("resumed", record.get("started")) != record.get("started")
            else []
        ),
        ("ended", record.get("ended")),
        ("time in all", duration(seconds) if seconds is not None else None),
        ("epochs", record.get("epochs")),
        ("training alone", duration(training) if training else None),
        ("throughput", f"{images / training:,.0f} images per second" if images and training else None),
    ]
    return _table([], body)


def duration(seconds: float) -> str:
    """Seconds in words, such as ``1 h 02 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    return f"{minutes} min {int(seconds % 60):02} s" if not hours else f"{hours} h {minutes % 60:02} min"


def _origin(one: Shown) -> str:
    record = one.run.record
    git = record.get("git") or {}
    commit = git.get("commit")
    state = {True: " with changes that were not committed", False: "", None: ""}[git.get("dirty")]
    body = [
        ("git commit", f"{commit}{state}" if commit else "none: not in a git repository, or nothing committed"),
        ("Python", record.get("python")),
        *(record.get("versions") or {}).items(),
    ]
    warning = f'<p class="warning">Git: {escape(state.strip())}.</p>' if state else ""
    return warning + _table([], body)


def _repeat(one: Shown) -> str:
    command = f"{PROGRAM} fit -c {shlex.quote(shown(one.run.config_file))}"
    begun = str(one.run.record.get("command", ""))
    was = f"<p>It was begun with:</p><pre>{escape(begun)}</pre>" if begun else ""
    return f"<pre>{escape(command)}</pre>{was}"


def _config(one: Shown) -> str:
    text = yaml.safe_dump(one.config, sort_keys=False, allow_unicode=True)
    return f"<pre>{escape(text)}</pre>"


SECTIONS: tuple[Section, ...] = (
    ("matrix", "Confusion matrix", _matrix),
    ("classes", "Each class", _classes),
    ("calibration", "Calibration", _calibration),
    ("mistakes", "Surest mistakes", _mistakes),
    ("data", "Data", _data),
    ("time", "Hardware, time and throughput", _time),
    ("origin", "Code and versions", _origin),
    ("repeat", "Repeat this run", _repeat),
    ("config", "Configuration", _config),
)


PAIRS = {
    **dict.fromkeys(("matrix", "calibration"), ('<div class="pair">', "")),
    **dict.fromkeys(("classes", "mistakes"), ("", "</div>")),
}


def _style() -> str:
    def colours(values: Sequence[str], page: str, card: str, ink: str, pale: str, rule: str, warn: str) -> str:
        named = {"page": page, "card": card, "ink": ink, "pale": pale, "rule": rule, "warn": warn}
        return "".join(f"--{k}:{v};" for k, v in {**named, **{f"s{i}": v for i, v in enumerate(values)}}.items())

    light = colours(charts.LIGHT, "#ffffff", "#f5f6f8", "#1b1f24", "#57606a", "#d5dae0", "#8a3b00")
    dark = colours(charts.DARK, "#14171b", "#1e2329", "#e8eaed", "#a5adb8", "#3a424c", "#ffb15c")
    lines = "".join(".sN{stroke:var(--sN)}.mN{fill:var(--sN)}".replace("N", str(i)) for i in range(6))
    return ":root{" + light + "}@media screen and (prefers-color-scheme:dark){:root{" + dark + "}}" + lines + STYLE


STYLE = """
*{box-sizing:border-box}
html{background:var(--page);color:var(--ink);font:16px/1.5 system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
body{margin:0}main{max-width:1180px;margin:0 auto;padding:16px}
h1{font-size:1.6rem;line-height:1.2;margin:.4em 0;overflow-wrap:anywhere}h2{font-size:1.2rem;margin:0 0 .6em}
h3{font-size:1rem;margin:0 0 .5em;overflow-wrap:anywhere}
section{border-top:1px solid var(--rule);margin-top:28px;padding-top:18px}
small{color:var(--pale)}figure{margin:0}
.tiles{display:flex;flex-wrap:wrap;gap:12px}
.tile{background:var(--card);border-radius:8px;padding:10px 16px;flex:1 1 240px;max-width:420px}
.tile b{font-size:1.5rem}
.status{border:1px solid;border-radius:99px;padding:2px 10px;font-weight:600}
.status.failed,.status.interrupted,.warning,.missing{color:var(--warn)}
.warning,.missing{border-left:4px solid;padding:4px 12px;overflow-wrap:anywhere}
.charts{display:grid;gap:20px;grid-template-columns:repeat(auto-fit,minmax(min(100%,340px),1fr))}
.side{display:grid;gap:24px;grid-template-columns:repeat(auto-fit,minmax(min(100%,340px),1fr))}.one{min-width:0}
.pair{display:grid;column-gap:40px;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr))}
.pair section{min-width:0}
svg{display:block;width:100%;height:auto}svg text{fill:var(--ink);font-size:14.5px}
svg .title{font-weight:600;font-size:15.5px}
.grid path,svg .grid{stroke:var(--rule);fill:none}.axis{stroke:var(--pale);fill:none}
.line{fill:none;stroke-width:2}.ideal{stroke:var(--pale)}.bar{fill:var(--pale)}
.cell.hit{fill:var(--s0)}.cell.miss{fill:var(--s1)}.frame{fill:none;stroke:var(--rule)}
svg .on{fill:var(--page);font-weight:600}
.matrix{width:100%;max-width:720px;image-rendering:pixelated;border:1px solid var(--rule)}
.scroll{overflow-x:auto;max-width:100%}.scroll.long{max-height:70vh;overflow-y:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:4px 10px 4px 0;border-bottom:1px solid var(--rule);vertical-align:top}
tbody th{font-weight:400;color:var(--pale);overflow-wrap:anywhere;min-width:4.5em}
td{overflow-wrap:anywhere;min-width:4em}
.numbers td{white-space:nowrap;min-width:3em}
.numbers td,.numbers th{padding-right:7px}
.numbers td,.numbers thead th:not(:first-child){text-align:right}
.grid{display:grid;gap:14px;grid-template-columns:repeat(auto-fill,minmax(98px,1fr))}
.grid.small{grid-template-columns:repeat(auto-fill,minmax(72px,1fr));margin-top:16px}
.grid img{display:block;width:100%;max-width:160px;image-rendering:pixelated;border-radius:4px}
figcaption{font-size:.85rem;line-height:1.3;overflow-wrap:anywhere;margin-top:4px}
pre{background:var(--card);border-radius:8px;padding:12px;white-space:pre-wrap;overflow-wrap:anywhere;font-size:.82rem}
@media print{main{max-width:none;padding:0}section{break-inside:auto}figure,.tile,tr{break-inside:avoid}
h2{break-after:avoid}.scroll.long{max-height:none}.charts,.pair{grid-template-columns:1fr 1fr}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""
