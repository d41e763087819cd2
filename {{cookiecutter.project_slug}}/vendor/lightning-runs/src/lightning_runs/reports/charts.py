"""Charts, tables and pictures for HTML pages, without JavaScript.

Colours come from ``page.css.jinja``, for a light and a dark page. Lines also differ by dash and marker.
"""

import base64
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from PIL.Image import Image

CLASSES = 24  # largest confusion matrix; of more classes, this many of the most frequent confusions are listed
POINTS = 400  # drawn points of a line; a chart is not wide enough to show more
Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One line of a chart."""

    name: str  # in the legend
    xs: Sequence[float]  # from left to right
    ys: Sequence[float]  # the chart leaves out values that are not finite, and says how many
    style: int  # number of its colour, dash and marker
    joined: bool = True  # otherwise each point has its marker


class Axes:
    """Linear axes that hold all points of a chart, in pixels."""

    left = 58
    right = 466
    top = 34
    bottom = 226

    def __init__(self, points: Sequence[Point]) -> None:
        self.x = _bounds([x for x, _ in points])
        self.y = _bounds([y for _, y in points])

    def place(self, x: float, y: float) -> Point:
        """Return where a point is drawn."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return self.left + across * (self.right - self.left), self.bottom - up * (self.bottom - self.top)

    def ticks(self) -> tuple[list[Point], list[Point]]:
        """Return round numbers with their places, from left to right and from the bottom to the top."""
        across = [(value, self.place(value, self.y[0])[0]) for value in _round_numbers(*self.x)]
        return across, [(value, self.place(self.x[0], value)[1]) for value in _round_numbers(*self.y)]


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    low = min(values)
    high = max(values)
    if high - low > max(1e-9 * abs(high), 1e-100):
        return low, high + (high - low) * 0.02
    room = abs(high) * 0.1 if abs(high) > 1e-90 else 1.0
    return low - room, high + room


def _round_numbers(low: float, high: float) -> list[float]:
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def line_chart(title: str, lines: Sequence[Line], x_label: str) -> str:
    """Draw lines over common axes, with a legend below; return one sentence if there is no point to draw."""
    # the bound keeps differences of heights finite
    drawn = [[(x, y) for x, y in zip(line.xs, line.ys, strict=True) if abs(y) < 1e100] for line in lines]
    every = [point for points in drawn for point in points]
    axes = Axes(every) if every else None
    curves = []
    for line, points in zip(lines, drawn, strict=True):
        thinned = [*points[: -1 : len(points) // POINTS + 1], *points[-1:]]
        last = number(points[-1][1]) if points else None
        curves.append((line.name, line.style, [axes.place(*point) for point in thinned if axes], last, line.joined))
    left_out = sum(len(line.ys) for line in lines) - len(every)
    page = template(Path(__file__).with_name("chart.svg.jinja"))
    return page.render(title=title, x_label=x_label, axes=axes, curves=curves, left_out=left_out, number=number)


def template(file: Path, autoescape: bool = True) -> Any:
    """Open a Jinja template of a page, which may include those beside this file."""
    # imported here because a training needs it only at its end
    from jinja2 import ChainableUndefined, Environment, FileSystemLoader

    loader = FileSystemLoader([file.parent, Path(__file__).parent])
    white_space: Any = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    environment = Environment(loader=loader, autoescape=autoescape, undefined=ChainableUndefined, **white_space)
    return environment.get_template(file.name)


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], kind: str = "") -> str:
    """Write a table as HTML, with the names of its columns, or none, and its rows, each with its name first.

    Numbers are rounded, None is a dash, and `Markup` is kept as HTML. ``kind`` are classes of the style sheet:
    ``numbers`` puts cells to the right, ``facts`` breaks long words, and ``long`` lets a long table scroll.
    """
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    top = f"<thead><tr>{names}</tr></thead>" if head else ""
    body = []
    for first, *rest in rows:
        cells = "".join(f"<td>{escape(_cell(value))}</td>" for value in rest)
        body.append(f'<tr><th scope="row">{escape(_cell(first))}</th>{cells}</tr>')
    return f'<div class="scroll {kind}"><table>{top}<tbody>{"".join(body)}</tbody></table></div>'


def confusion_matrix(labels: Any, predicted: Any, names: Sequence[str]) -> str:
    """Draw how often each class was taken for each; of many classes, list the most frequent confusions.

    ``labels`` are the true and ``predicted`` the predicted classes, tensors ``(N,)`` int64.
    """
    size = len(names)
    counts = (labels * size + predicted).bincount(minlength=size**2).view(size, size)
    if size > CLASSES:
        wrong = counts.clone().fill_diagonal_(0).flatten().sort(descending=True, stable=True)
        frequent = zip(wrong.indices[:CLASSES].tolist(), wrong.values[:CLASSES].tolist(), strict=True)
        pairs = [(names[i // size], names[i % size], count) for i, count in frequent if count]
        return table(["class", "taken for", "times"], pairs, "numbers")
    # in percent; the root keeps small counts visible beside large ones
    depths = 60 * (counts / counts.sum(dim=1, keepdim=True).clamp_min(1)).sqrt()
    cell = Markup('<b class="{}" style="--depth:{}%" title="{} {}: {}">{}</b>')
    rows: list[list[str]] = [[name] for name in names]
    for i, row in enumerate(counts.tolist()):
        for j, count in enumerate(row):
            kind = "hit" if i == j else "miss"
            verb = "recognised" if i == j else f"taken for {names[j]}"
            depth = round(depths[i, j].item())
            rows[i].append(cell.format(kind, depth, names[i], verb, count, count) if count else "")
    return f"{table(['true, predicted', *names], rows, 'matrix')}<p><small>Orange: taken for another class.</small></p>"


def _cell(value: Any) -> Any:
    if value is None:
        return "-"
    return number(value) if isinstance(value, float) else value


def number(value: float) -> str:
    """Write a number with three or four significant digits."""
    if value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e5):
        return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.4g}"


def enlarged(picture: "Image", size: int) -> "Image":
    """Return a picture whose longer side has about ``size`` pixels; the pixels of a small one are repeated."""
    from PIL.Image import Resampling

    picture = picture.copy()
    picture.thumbnail((size, size))
    scale = max(1, size // max(picture.size))
    return picture.resize((picture.width * scale, picture.height * scale), Resampling.NEAREST)


def picture_html(picture: "Image") -> Markup:
    """Return the HTML of a picture, which is part of the page."""
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    content = base64.b64encode(stream.getvalue()).decode()
    return Markup('<img alt="picture" src="data:image/png;base64,{}">').format(content)


def grid(figures: Iterable[tuple[Markup, Markup]]) -> str:
    """Return the HTML of pictures side by side, each above its caption."""
    cards = [Markup("<figure>{}<figcaption>{}</figcaption></figure>").format(*figure) for figure in figures]
    return f'<div class="grid">{"".join(cards)}</div>'
