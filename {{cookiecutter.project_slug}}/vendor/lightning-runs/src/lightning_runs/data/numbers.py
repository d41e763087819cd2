"""Numbers in columns of texts, in the notation of any country.

The standard library alone: `predict` with an ONNX file works without torch.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

_MINUS = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\uff0d", "-"))  # hyphens, a dash and minus signs
_UNIT = re.compile(
    r"[A-Z]{0,3}[$\u00a2-\u00a5\u0e3f\u20a0-\u20cf\uff04\uffe0-\uffe6]|[%\u2030]"
    r"|(?<![A-Za-z])(?:USD|EUR|GBP|CHF|JPY|CNY|INR|AUD|CAD|SEK|NOK|DKK|PLN|CZK|BRL|MXN|ZAR|KRW|kr|Fr\.|Rs\.)(?![A-Za-z])"
)
_NUMBER = {  # by the decimal mark
    mark: re.compile(
        rf"([-+(]?)\s*([1-9]\d{{0,2}}(?:(?P<gap>[{other}\s'\u2019])\d{{3}})(?:(?P=gap)\d{{3}})*|\d*)"
        rf"(?:[{mark}](\d*))?([eE][-+]?\d+)?(\)?)"
    )
    for mark, other in (".,", ",.")
}
_LIKE_A_NUMBER = re.compile(r"[-+(]?\s*\d[\d.,'\u2019\s]*\)?\s*(?:[kKmMbB]n?|[Mm]io\.?)?")  # such as 1.2M
_THREE_DECIMALS = re.compile(r"[-+]?[1-9]\d{0,2}\.\d{3}")  # or thousands


def number_notations(
    columns: Sequence[Sequence[str]], delimiter: str, decimal: str
) -> tuple[list[dict[str, str]], str]:
    """Return for each column how Python writes its cells that are numbers, and the decimal mark that the columns show.

    A column that has one reading alone shows the mark for those that have two, such as 1,234. ``delimiter`` separates
    the columns, and ``decimal`` is the mark where they show none.
    """
    choices = [_readings(Counter(filter(None, cells))) for cells in columns]
    shown = {mark for readings in choices for mark in readings if len(readings) == 1}
    mark = shown.pop() if len(shown) == 1 else ""
    notations = []
    for readings in choices:
        if len(readings) == 1:
            chosen = next(iter(readings))
        elif mark:
            chosen = mark
        elif any("," in cell for numbers in readings.values() for cell in numbers):
            chosen = "," if delimiter == ";" else decimal or ("." if delimiter == "," else "")
        else:
            chosen = "." if delimiter == "," else decimal or "."
        notations.append(readings.get(chosen, {}))
    return notations, mark


def _readings(cells: Counter[str]) -> dict[str, dict[str, str]]:
    """Return by decimal mark how the cells of a column are written as numbers; nothing where it has words."""
    is_plain = not any(map(is_word, cells))
    pointed = [cell for cell in cells if "." in cell]
    if is_plain and not (pointed and all(map(_THREE_DECIMALS.fullmatch, pointed))):
        return {".": {}} if pointed else {}
    readings = {mark: _notation(cells, mark) for mark in _NUMBER}
    others = [abs(float(cell)) for cell in cells.keys() - pointed] if is_plain else []
    if others and min(others) >= 100 and max(others) < 1000:  # such as 950 beside 1.200
        del readings["."]
    counts = {mark: sum(cells[cell] for cell in numbers) for mark, numbers in readings.items()}
    words = [cells[cell] for cell in cells if is_word(cell) and all(cell not in read for read in readings.values())]
    most = max(1, 0.8 * (cells.total() - max(words, default=0)), *counts.values())  # one word marks missing values
    return {mark: numbers for mark, numbers in readings.items() if counts[mark] == most}


def _split_unit(text: str) -> tuple[str, str]:
    """Return a cell without its currency or per cent sign, with a plain minus; and that sign."""
    found = _UNIT.search(text)
    unit = found[0] if found else ""
    return text.replace(unit, "", 1).translate(_MINUS).strip(), unit


def _notation(cells: Iterable[str], mark: str) -> dict[str, str]:
    """Return the cells that are numbers with a decimal mark, as Python writes them; none where their units differ."""
    numbers = {}
    units = set()
    for cell in cells:
        text, unit = _split_unit(cell)
        found = _NUMBER[mark].fullmatch(text)
        if found is None or (found[1] == "(") != (found[6] == ")") or not (found[2] or found[4]):
            continue
        units.add(unit)
        sign = "-" if found[1] in ("-", "(") else ""
        fraction = f".{found[4]}" if found[4] else ""
        numbers[cell] = sign + re.sub(r"\D", "", found[2]) + fraction + (found[5] or "")
    return numbers if len(units - {""}) < 2 and units != {"", "%"} else {}


def is_word(text: str) -> bool:
    """Return whether a cell is neither missing nor a number as Python writes it."""
    try:
        float(text or "nan")
    except ValueError:
        return True
    return False


def num_odd(words: Iterable[str]) -> int:
    """Count words without the most frequent one, which marks missing values, such as unknown."""
    return sum(sorted(Counter(words).values())[:-1])


def looks_like_a_number(cell: str) -> bool:
    """Return whether a cell is a number with a sign or a separator, though perhaps in no known notation."""
    text, unit = _split_unit(cell)
    is_marked = unit or text not in cell or "," in text or "'" in text
    return bool(is_marked and _LIKE_A_NUMBER.fullmatch(text))
