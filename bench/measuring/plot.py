"""An Answer as a picture: bars by case, or lines over a logarithmic axis, as SVG of our own making.

Medians, with thin marks from the lowest to the highest round. Light, with labels on everything, readable in a browser.
"""

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

from .figures import FIGURES, shown
from .rounds import Answer, Row

WIDTH, LABELS, RIGHT, TOP, BAR, GAP = 900, 250, 120, 78, 16, 12
HEIGHT_OF_LINES = 420
COLOURS = ("#2b6cb0", "#dd6b20", "#2f855a", "#6b46c1", "#b7791f", "#c53030")
INK, PALE = "#1a202c", "#cbd5e0"
FONT = "font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'"


class Axis:
    """Turns values into places.

    Args:
        values: What has to find room; those of a logarithmic axis are above 0.
        first: Place of its lower end.
        last: Place of its upper end.
        log: Whether it is logarithmic.
    """

    def __init__(self, values: Sequence[float], first: float, last: float, *, log: bool) -> None:
        self._first, self._last, self._log = first, last, log
        high = max(values, default=1.0)
        if log:
            self.ticks = [10.0**power for power in _powers(min(values, default=1.0), high)]
        else:
            self.ticks = _round_steps(high)
        self._low_end, self._high_end = self._at(self.ticks[0]), self._at(self.ticks[-1])

    def place(self, value: float) -> float:
        """Return where a value lies."""
        if self._log and value <= 0:
            return self._first
        share = (self._at(value) - self._low_end) / ((self._high_end - self._low_end) or 1.0)
        return self._first + share * (self._last - self._first)

    def _at(self, value: float) -> float:
        return math.log10(value) if self._log else value


def draw(answer: Answer) -> str:
    """Return the picture of an answer."""
    rows = [row for row in answer.rows if row.rounds]
    plot = answer.question.plot
    marks, height = _lines(answer, rows) if plot.kind == "lines" else _bars(answer, rows)
    where = answer.where
    under = f"{where['machine']}, Python {where['python']}, {where['server']}, commit {where['commit']}"
    size = f"width='{WIDTH}' height='{height}'"
    head = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' {size} role='img' {FONT}>",
        f"<title>{escape(answer.question.asks)}</title>",
        f"<rect {size} fill='#ffffff'/>",
        _text(16, 24, answer.question.asks, size=14, weight="bold"),
        _text(16, height - 10, under, size=10, fill="#718096"),
    ]
    return "\n".join([*head, *marks, "</svg>"]) + "\n"


def _bars(answer: Answer, rows: Sequence[Row]) -> tuple[list[str], int]:
    names = answer.question.plot.figures
    each = len(names) * BAR + GAP
    bottom = TOP + len(rows) * each
    axis = Axis(_values(rows, names), LABELS, WIDTH - RIGHT, log=answer.question.plot.log_y)
    marks = _legend([FIGURES[name].title + _scale(answer) for name in names])
    for tick in axis.ticks:
        x = axis.place(tick)
        marks.append(_line(x, TOP - 8, x, bottom, PALE))
        marks.append(_text(x, bottom + 14, _short(tick), anchor="middle", size=11))
    for at, row in enumerate(rows):
        top = TOP + at * each
        marks.append(_text(LABELS - 8, top + len(names) * BAR / 2 + 4, row.case.name, anchor="end"))
        for number, name in enumerate(names):
            value = row.median(name)
            if value is None:
                continue
            y, end = top + number * BAR, axis.place(value)
            size = f"width='{max(end - LABELS, 0.5):.1f}' height='{BAR - 2}'"
            marks.append(f"<rect x='{LABELS}' y='{y}' {size} fill='{COLOURS[number]}'/>")
            low, high = (axis.place(found) for found in _ends(row, name))
            marks.append(_line(low, y + BAR / 2 - 1, high, y + BAR / 2 - 1, INK))
            marks.append(_text(max(end, high) + 5, y + BAR - 5, shown(name, value), size=11))
    return marks, bottom + 44


def _lines(answer: Answer, rows: Sequence[Row]) -> tuple[list[str], int]:
    plot = answer.question.plot
    name, left, bottom = plot.figures[0], 90, HEIGHT_OF_LINES - 70
    places = sorted({row.case.x for row in rows})
    across = Axis(places, left + 20, WIDTH - RIGHT, log=True)
    up = Axis(_values(rows, (name,)), bottom, TOP, log=plot.log_y)
    series = list(dict.fromkeys(row.case.series for row in rows))
    marks = _legend(series)
    for tick in up.ticks:
        y = up.place(tick)
        marks.append(_line(left, y, WIDTH - RIGHT + 20, y, PALE))
        marks.append(_text(left - 8, y + 4, _short(tick), anchor="end", size=11))
    for x in places:
        marks.append(_text(across.place(x), bottom + 18, _short(x), anchor="middle", size=11))
    marks.append(_text((left + WIDTH - RIGHT) / 2, bottom + 38, plot.x_title, anchor="middle"))
    marks.append(_text(16, TOP - 14, FIGURES[name].title + _scale(answer), size=11))
    for number, line in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        points = []
        for row in sorted((row for row in rows if row.case.series == line), key=lambda row: row.case.x):
            value = row.median(name)
            if value is None:
                continue
            x, y = across.place(row.case.x), up.place(value)
            points.append(f"{x:.1f},{y:.1f}")
            low, high = (up.place(found) for found in _ends(row, name))
            marks.append(_line(x, low, x, high, colour))
            marks.append(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3.5' fill='{colour}'/>")
            marks.append(_text(x + 6, y - 6, shown(name, value), size=10, fill=colour))
        marks.append(f"<polyline points='{' '.join(points)}' fill='none' stroke='{colour}' stroke-width='2'/>")
    return marks, HEIGHT_OF_LINES


def _scale(answer: Answer) -> str:
    """Return what a title adds where equal lengths are no equal differences."""
    return ", logarithmic" if answer.question.plot.log_y else ""


def _legend(titles: Sequence[str]) -> list[str]:
    marks, x = [], 16.0
    for number, title in enumerate(titles):
        marks.append(f"<rect x='{x:.0f}' y='38' width='12' height='12' fill='{COLOURS[number % len(COLOURS)]}'/>")
        marks.append(_text(x + 17, 48, title))
        x += 40 + 7 * len(title)
    return marks


def _values(rows: Sequence[Row], names: Sequence[str]) -> list[float]:
    found = [figures[name] for row in rows for figures in row.rounds for name in names if name in figures]
    return [value for value in found if value > 0]


def _ends(row: Row, name: str) -> tuple[float, float]:
    values = [figures[name] for figures in row.rounds]
    return min(values), max(values)


def _powers(low: float, high: float) -> range:
    first = math.floor(math.log10(low))
    return range(first, max(math.ceil(math.log10(high)), first + 1) + 1)


def _round_steps(high: float) -> list[float]:
    """Return about five round numbers from 0 to at least `high`."""
    rough = (high or 1.0) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * size for size in (1, 2, 2.5, 5, 10) if power * size >= rough)
    return [step * number for number in range(math.ceil(high / step - 1e-9) + 1)] if high > 0 else [0.0, step]


def _short(value: float) -> str:
    """Return a number as an axis shows it: 10, 250 k, 10 M."""
    for size, letter in ((1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.4g}"


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='{colour}'/>"


def _text(
    x: float, y: float, words: str, *, anchor: str = "start", size: int = 12, fill: str = INK, weight: str = "normal"
) -> str:
    place = f"x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}'"
    return f"<text {place} font-size='{size}' font-weight='{weight}' fill='{fill}'>{escape(words)}</text>"
