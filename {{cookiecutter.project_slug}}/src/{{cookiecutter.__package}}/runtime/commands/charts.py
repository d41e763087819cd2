"""Charts as SVG text, without JavaScript: colours come from the page's style sheet, so that they suit light and dark.

Lines differ by dash and marker as well as by colour, for those who can't tell the colours apart and for grey print.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from PIL import Image

# Okabe and Ito's colours, in an order for a light and one for a dark page; classes `s0` to `s5` of the charts.
LIGHT = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b87f00", "#000000")
DARK = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#ffffff")
DASHES = ("", "7 4", "2 3", "10 3 2 3", "12 5", "4 2")
NUMBERED = 20  # up to so many classes a confusion matrix has room for its numbers


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Args:
        name: Its name in the legend.
        xs: Where its points lie from left to right.
        ys: Their heights; what is not finite, or as good as infinite, is left out.
        style: Number of its colour, dash and marker.
    """

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    style: int


def line_chart(title: str, lines: Sequence[Line], x_label: str, logarithmic: bool = False) -> str:
    """Draw lines over a common axis, with a legend below; `<p>` with a word of excuse if there is no point to draw.

    Args:
        title: What the heights are.
        lines: The lines.
        x_label: What is told from left to right.
        logarithmic: Whether equal distances in height are equal ratios, where all values are positive.
    """
    width, height, left, right, top, bottom = 480, 300, 58, 14, 34, 74
    points = [[(x, y) for x, y in zip(line.xs, line.ys, strict=True) if abs(y) < 1e100] for line in lines]
    every = [point for some in points for point in some]
    if not every:
        return f'<p class="missing">{escape(title)}: no value was logged.</p>'
    logarithmic = logarithmic and min(y for _, y in every) > 1e-100

    def scaled(y: float) -> float:
        return math.log10(y) if logarithmic else y

    x0, x1 = _widened(min(x for x, _ in every), max(x for x, _ in every))
    y0, y1 = _widened(min(scaled(y) for _, y in every), max(scaled(y) for _, y in every))

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = (x - x0) / (x1 - x0), (scaled(y) - y0) / (y1 - y0)
        return left + across * (width - left - right), height - bottom - up * (height - top - bottom)

    rows = -(-len(lines) // 2)
    full = height + max(0, rows - 1) * 20
    parts = [_text(left, 18, title, "start", "title")]
    for value in _log_ticks(y0, y1) if logarithmic else ticks(y0, y1):
        _, y = place(x0, value)
        parts.append(f'<path class="grid" d="M{left} {y:.1f}H{width - right}"/>')
        parts.append(_text(left - 6, y + 4, number(value), "end"))
    for value in ticks(x0, x1, 5):
        x, _ = place(value, every[0][1])
        parts.append(f'<path class="grid" d="M{x:.1f} {height - bottom}v4"/>')
        parts.append(_text(x, height - bottom + 18, number(value), "middle"))
    parts.append(f'<path class="axis" d="M{left} {top}V{height - bottom}H{width - right}"/>')
    parts.append(_text((left + width - right) / 2, height - bottom + 35, x_label, "middle"))
    for line, some in zip(lines, points, strict=True):
        some = _thinned(some)
        placed = [place(x, y) for x, y in some]
        dash = DASHES[line.style % len(DASHES)]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
        if len(placed) > 1:
            parts.append(f'<path class="line s{line.style % 6}" stroke-dasharray="{dash or "none"}" d="M{path}"/>')
        marked = placed if len(placed) <= 25 else placed[:: len(placed) // 12]
        parts += [_marker(x, y, line.style) for x, y in marked]
    for i, line in enumerate(lines):
        x, y = left + i % 2 * (width - left) // 2, height - bottom + 58 + i // 2 * 20
        dash = DASHES[line.style % len(DASHES)] or "none"
        parts.append(f'<path class="line s{line.style % 6}" stroke-dasharray="{dash}" d="M{x} {y - 4}h28"/>')
        parts.append(_marker(x + 14, y - 4, line.style))
        parts.append(_text(x + 34, y, shortened(line.name, 24), "start"))
    ends = (f"{line.name} ends at {number(some[-1][1])}" for line, some in zip(lines, points, strict=True) if some)
    return _svg(width, full, f"{title} over {x_label}: {', '.join(ends)}.", parts)


def confusion_matrix(counts: np.ndarray, names: Sequence[str]) -> str:
    """Draw how often each class was taken for each: rows are the true classes, and colour the share of the row.

    Args:
        counts: ``(C, C)`` whole numbers, true class by predicted class.
        names: The classes.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)  # (C, C), 0 to 1
    strength = np.sqrt(shares)  # a few mistakes are to be seen beside hundreds of hits
    label = (
        f"Confusion matrix of {len(names)} classes: {int(np.trace(counts))} of {int(counts.sum())} images on the"
        " diagonal, where the predicted class is the true one."
    )
    if len(names) > 3 * NUMBERED:  # as a picture, for thousands of cells would be a heavy page
        pixels = np.zeros((*counts.shape, 4), dtype=np.uint8)
        pixels[..., :3], pixels[..., 3] = (0, 114, 178), np.rint(255 * strength)
        return f'<img class="matrix" alt="{escape(label)}" src="{png(pixels)}">'
    size = 40 if len(names) <= 12 else 32
    longest = max(len(shortened(name, 14)) for name in names)
    left, top, side = 34 + 8 * longest, 50 + 8 * longest, size * len(names)
    parts = []
    for row, name in enumerate(names):
        short, middle = shortened(name, 14), (row + 0.5) * size
        parts.append(_text(left - 8, top + middle + 5, short, "end"))
        at = f"{left + middle + 5:.1f} {top - 8}"
        turned = longest > 3
        if turned:
            parts.append(f'<text transform="translate({at}) rotate(-90)">{escape(short)}</text>')
        else:
            parts.append(_text(left + middle, top - 8, short, "middle"))
        for column, other in enumerate(names):
            count = int(counts[row, column])
            x, y, strong = left + column * size, top + row * size, strength[row, column]
            told = f"{name} taken for {other}: {count}" if row != column else f"{name} recognised: {count}"
            kind = "cell hit" if row == column else "cell miss"
            parts.append(
                f'<rect class="{kind}" x="{x}" y="{y}" width="{size}" height="{size}" fill-opacity="{strong:.2f}">'
                f"<title>{escape(told)}</title></rect>"
            )
            if len(names) <= NUMBERED and count:
                kind = "on" if strong > 0.6 else "off"
                parts.append(_text(x + size / 2, y + size / 2 + 5, str(count), "middle", kind))
    parts.append(f'<rect class="frame" x="{left}" y="{top}" width="{side}" height="{side}"/>')
    parts.append(_text(left + side / 2, 18, "predicted", "middle", "title"))
    parts.append(
        f'<text class="title" text-anchor="middle" transform="translate(16 {top + side / 2}) rotate(-90)">true</text>'
    )
    return _svg(left + side + 4, top + side + 4, label, parts)


def calibration_curve(confidence: np.ndarray, accuracy: np.ndarray, counts: np.ndarray, error: float) -> str:
    """Draw how often the model is right where it is so sure.

    Args:
        confidence: Mean probability of the predicted class in each bin, ``(B,)``, 0 to 1.
        accuracy: Share of correct predictions in each bin, ``(B,)``, 0 to 1.
        counts: Images in each bin, ``(B,)``; empty bins are left out.
        error: The expected calibration error, 0 to 1.
    """
    width, height, left, top, bottom, bars = 480, 400, 58, 34, 56, 60
    side_x, side_y = width - left - 14, height - top - bottom - bars
    parts = [_text(left, 18, "Share of correct predictions", "start", "title")]
    for value in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        y, x = top + side_y * (1 - value), left + side_x * value
        parts.append(f'<path class="grid" d="M{left} {y:.1f}h{side_x}"/>')
        parts.append(_text(left - 6, y + 4, number(value), "end"))
        parts.append(_text(x, height - bottom + 18, number(value), "middle"))
    parts.append(f'<path class="line ideal" stroke-dasharray="3 4" d="M{left} {top + side_y}L{left + side_x} {top}"/>')
    parts.append(f'<path class="axis" d="M{left} {top}v{side_y + bars}h{side_x}"/>')
    filled = counts > 0
    placed = [
        (left + c * side_x, top + (1 - a) * side_y) for c, a in zip(confidence[filled], accuracy[filled], strict=True)
    ]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
    parts.append(f'<path class="line s0" d="M{path}"/>' + "".join(_marker(x, y, 0) for x, y in placed))
    step = side_x / len(counts)
    for i, count in enumerate(counts):
        tall = (bars - 8) * count / max(1, counts.max())
        parts.append(
            f'<rect class="bar" x="{left + i * step + 1:.1f}" y="{height - bottom - tall:.1f}" width="{step - 2:.1f}"'
            f' height="{tall:.1f}"><title>{int(count)} images</title></rect>'
        )
    parts.append(_text(left + side_x / 2, height - 18, "probability of the prediction; bars: images", "middle"))
    label = f"Calibration curve: expected calibration error {error:.4f}. On the dashed diagonal it would be 0."
    return _svg(width, height, label, parts)


def png(pixels: np.ndarray, smallest: int = 0, largest: int = 160) -> str:
    """Encode a picture as the address of an image, ``data:…``.

    Args:
        pixels: ``(H, W)``, ``(H, W, 1)``, ``(H, W, 3)`` or ``(H, W, 4)`` uint8.
        smallest: Pixels that the shorter side is brought to at least, by repeating its own.
        largest: Pixels that the longer side is brought to at most.
    """
    picture = Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)
    if max(picture.size) > largest and pixels.shape[-1] != 4:
        picture.thumbnail((largest, largest))
    if scale := smallest // min(picture.size):
        picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def number(value: float) -> str:
    """A number in at most five characters or so."""
    if value == 0:
        return "0"
    if abs(value) < 1e-3 or abs(value) >= 1e5:
        return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.4g}"


def shortened(text: str, length: int) -> str:
    """A text that is cut where it would run into its neighbour."""
    return text if len(text) <= length else text[: length - 1] + "…"


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers between two values, about so many."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Values of which the logarithms lie between two numbers."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        found = [10.0**power * factor for power in powers for factor in factors]
        inside = [value for value in found if low <= math.log10(value) <= high]
        if len(inside) >= 3:
            return inside
    return ticks(10**low, 10**high)


def _widened(low: float, high: float) -> tuple[float, float]:
    """Bounds of which one lies above the other."""
    if high - low > max(1e-9 * abs(high), 1e-100):
        return low, high + (high - low) * 0.02
    room = abs(high) * 0.1 if abs(high) > 1e-90 else 1.0
    return low - room, high + room


def _thinned(points: list[tuple[float, float]], most: int = 400) -> list[tuple[float, float]]:
    """As many of the points as a chart can show, the last one among them."""
    if len(points) <= most:
        return points
    return [points[i * (len(points) - 1) // (most - 1)] for i in range(most)]


def _marker(x: float, y: float, style: int) -> str:
    shapes = (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2"',
        f'<rect x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6"',
        f'<path d="M{x:.1f} {y - 4:.1f}l4 7h-8z"',
        f'<path d="M{x:.1f} {y - 4.5:.1f}l4.5 4.5l-4.5 4.5l-4.5 -4.5z"',
        f'<path d="M{x:.1f} {y + 4:.1f}l4 -7h-8z"',
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2"',
    )
    return f'{shapes[style % len(shapes)]} class="mark m{style % 6}"/>'


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    chosen = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{chosen}>{escape(text)}</text>'


def _svg(width: float, height: float, label: str, parts: Sequence[Any]) -> str:
    return (
        f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {width} {height}"'
        f' style="max-width:{max(480, width):.0f}px;min-width:{min(width * 0.62, 600):.0f}px">{"".join(parts)}</svg>'
    )
