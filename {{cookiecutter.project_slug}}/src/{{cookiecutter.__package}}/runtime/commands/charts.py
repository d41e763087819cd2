"""Charts and tables for HTML pages, without JavaScript.

Colours come from the page's style sheet (``report.html.jinja``), so that a chart suits a light and a dark page: a line
of style N has the class ``sN``, a filled shape the class ``mN``, N from 0 to 5. Lines also differ by dash and marker,
for readers who can't tell the colours apart. A task draws its sections of the report with these functions too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from statistics import median
from typing import Any

__all__ = ["Line", "escape", "line_chart", "marker", "number", "shortened", "svg", "table", "text", "ticks"]

DASHES = ("none", "7 4")
POINTS = 400  # of a line that are drawn; a chart is not wide enough to show more

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Args:
        name: Its name in the legend.
        xs: Positions of its points from left to right.
        ys: Heights of its points; values that are not finite are left out, and the chart says how many.
        style: Number of its colour, dash and marker.
    """

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    style: int


class Axes:
    """Axes that hold all points of a chart.

    Heights are logarithmic if all are positive and most lie below a tenth of the highest, where a linear axis would
    press them together.
    """

    left, right, top, bottom = 58, 466, 34, 226

    def __init__(self, points: Sequence[Point]) -> None:
        xs, ys = zip(*points, strict=True)
        low, high = min(ys), max(ys)
        self.logarithmic = low > 1e-100 and median(ys) < high / 10
        self.x = _widened(min(xs), max(xs))
        self.y = _widened(math.log10(low), math.log10(high)) if self.logarithmic else _widened(low, high)

    def place(self, x: float, y: float) -> Point:
        """Return where a point is drawn."""
        height = math.log10(y) if self.logarithmic else y
        across, up = (x - self.x[0]) / (self.x[1] - self.x[0]), (height - self.y[0]) / (self.y[1] - self.y[0])
        return self.left + across * (self.right - self.left), self.bottom - up * (self.bottom - self.top)

    def drawn(self, x_label: str) -> list[str]:
        """Draw the axes with their numbers."""
        parts = [f'<path class="axis" d="M{self.left} {self.top}V{self.bottom}H{self.right}"/>']
        parts.append(text((self.left + self.right) / 2, self.bottom + 35, x_label, "middle"))
        heights = _log_ticks(*self.y) if self.logarithmic else ticks(*self.y)
        for value in heights:
            _, y = self.place(self.x[0], value)
            parts.append(f'<path class="grid" d="M{self.left} {y:.1f}H{self.right}"/>')
            parts.append(text(self.left - 6, y + 4, number(value), "end"))
        for value in ticks(*self.x):
            x, _ = self.place(value, heights[0])
            parts.append(f'<path class="grid" d="M{x:.1f} {self.bottom}v4"/>')
            parts.append(text(x, self.bottom + 18, number(value), "middle"))
        return parts


def line_chart(title: str, lines: Sequence[Line], x_label: str) -> str:
    """Draw lines over common axes, with a legend below; one sentence if there is no point to draw."""
    # the bound keeps differences of heights finite
    drawn = [[(x, y) for x, y in zip(line.xs, line.ys, strict=True) if abs(y) < 1e100] for line in lines]
    every = [point for points in drawn for point in points]
    left_out = sum(len(line.ys) for line in lines) - len(every)
    if not every:
        reason = "no value that was logged is finite" if left_out else "no value was logged"
        names = ", ".join(line.name for line in lines)
        return f'<p class="missing">{escape(title)} ({escape(names)}): {reason}.</p>'
    if left_out:
        x_label += f" ({left_out} value{'s' if left_out > 1 else ''} not finite, left out)"
    axes = Axes(every)
    parts = [text(axes.left, 18, shortened(title, 40), "start", "title"), *axes.drawn(x_label)]
    for i, (line, points) in enumerate(zip(lines, drawn, strict=True)):
        thinned = [*points[: -1 : len(points) // POINTS + 1], *points[-1:]]
        parts += _curve(line.style, [axes.place(*point) for point in thinned])
        x, y = axes.left + i % 2 * (480 - axes.left) // 2, axes.bottom + 54 + i // 2 * 20
        parts += [*_curve(line.style, [(x, y), (x + 28, y)]), text(x + 36, y + 4, shortened(line.name, 23), "start")]
    ends = [f"{line.name} ends at {number(points[-1][1])}" for line, points in zip(lines, drawn, strict=True) if points]
    height = axes.bottom + 48 + (len(lines) + 1) // 2 * 20
    return svg(480, height, f"{title} over {x_label}: {', '.join(ends)}.", parts)


def _curve(style: int, places: Sequence[Point]) -> list[str]:
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    line = f'<path class="line s{style % 6}" stroke-dasharray="{DASHES[style % len(DASHES)]}" d="M{path}"/>'
    marks = [marker(x, y, style) for x, y in places[:: len(places) // 25 + 1]]
    return [line, *marks] if len(places) > 1 else marks


def _widened(low: float, high: float) -> tuple[float, float]:
    """Return bounds of which the second is larger than the first."""
    if high - low > max(1e-9 * abs(high), 1e-100):
        return low, high + (high - low) * 0.02
    room = abs(high) * 0.1 if abs(high) > 1e-90 else 1.0
    return low - room, high + room


def ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers between two values."""
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Return round numbers whose logarithms lie between two values that are more than 1 apart."""
    factors = (1, 2, 5) if high - low < 2 else (1,)
    powers = range(math.floor(low), math.ceil(high) + 1, max(1, round((high - low) / 6)))
    found = [factor * 10.0**power for power in powers for factor in factors]
    return [value for value in found if low <= math.log10(value) <= high]


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], kind: str = "") -> str:
    """Write a table as HTML.

    Args:
        head: Names of the columns; empty for a table without a head.
        rows: Cells of each row; the first one is the row's name. Numbers are rounded, None is a dash.
        kind: Classes of the style sheet: ``numbers`` puts cells to the right, ``facts`` breaks long words, and ``long``
            lets a long table scroll.
    """
    top = "".join(f'<th scope="col">{escape(str(name))}</th>' for name in head)
    body = []
    for first, *rest in rows:
        cells = "".join(f"<td>{escape(_cell(value))}</td>" for value in rest)
        body.append(f'<tr><th scope="row">{escape(_cell(first))}</th>{cells}</tr>')
    top = f"<thead><tr>{top}</tr></thead>" if top else ""
    return f'<div class="scroll {kind}"><table>{top}<tbody>{"".join(body)}</tbody></table></div>'


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    return number(value) if isinstance(value, float) else str(value)


def number(value: float) -> str:
    """Write a number with three or four significant digits."""
    if value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e5):
        return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.4g}"


def shortened(text: str, length: int) -> str:
    """Cut a text that would run into its neighbour."""
    return text if len(text) <= length else text[: length - 1] + "…"


def marker(x: float, y: float, style: int) -> str:
    """Draw the mark of a point."""
    shapes = (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2"',
        f'<rect x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6"',
        f'<path d="M{x:.1f} {y - 4:.1f}l4 7h-8z"',
    )
    return f'{shapes[style % len(shapes)]} class="m{style % 6}"/>'


def text(x: float, y: float, content: str, anchor: str, kind: str = "") -> str:
    """Write a text whose ``anchor`` (start, middle or end) is at a point; ``kind`` is a class such as ``title``."""
    chosen = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{chosen}>{escape(content)}</text>'


def svg(width: float, height: float, label: str, parts: Sequence[str]) -> str:
    """Put the parts of a chart together; ``label`` tells what it shows to readers who can't see it."""
    return (
        f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {width} {height}"'
        f' style="max-width:{max(480, width):.0f}px;min-width:{min(width * 0.62, 600):.0f}px">{"".join(parts)}</svg>'
    )
