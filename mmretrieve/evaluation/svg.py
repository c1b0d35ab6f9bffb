"""Small charts as SVG text, without any library; every word that comes from outside is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

COLOURS = ("#1b4965", "#62b6cb", "#f4a259", "#8cb369", "#b56576", "#6d6875", "#b8b8b8", "#3d405b")
_INK, _FAINT = "#333333", "#e3e3e3"
_ROW, _NAME, _WIDTH = 22, 210, 720
_LETTERS = 30


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar from 0 to ``value`` with an interval."""

    name: str
    value: float
    low: float
    high: float


def bars(title: str, rows: Sequence[Bar]) -> str:
    """Horizontal bars with intervals on an axis that holds all of them and 0."""
    low = min([0.0, *(row.low for row in rows)])
    high = max([1.0 if low >= 0 else 0.0, *(row.high for row in rows)])
    span = (high - low) or 1.0
    plot = _WIDTH - _NAME - 70

    def x(value: float) -> float:
        return _NAME + plot * (value - low) / span

    parts = [_line(x(0), 0, x(0), _ROW * len(rows), _INK)]
    for i, row in enumerate(rows):
        top = i * _ROW + 3
        left, right = sorted((x(0), x(row.value)))
        parts.append(_text(_NAME - 8, top + 12, row.name, "end"))
        parts.append(_rect(left, top, right - left, _ROW - 7, COLOURS[0 if i == 0 else 1]))
        parts.append(_line(x(row.low), top + 7.5, x(row.high), top + 7.5, _INK))
        parts.append(_text(_WIDTH - 60, top + 12, f"{row.value:.3f}", "start"))
    return _chart(title, _ROW * len(rows) + 4, parts)


def groups(title: str, names: Sequence[str], series: Mapping[str, Sequence[float]]) -> str:
    """Upright bars between 0 and 1: a group for each name, a bar of it for each series."""
    height, base = 190, 150
    step = (_WIDTH - 40) / max(len(names), 1)
    width = step * 0.84 / max(len(series), 1)
    parts = []
    for tick in (0.25, 0.5, 0.75, 1.0):
        y = base - 140 * tick
        parts.append(_line(36, y, _WIDTH, y, _FAINT))
        parts.append(_text(30, y + 4, f"{tick:g}", "end"))
    for number, (name, values) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        for group, value in enumerate(values):
            left = 40 + group * step + step * 0.08 + number * width
            tall = 140 * max(0.0, min(value, 1.0))
            parts.append(
                _rect(left, base - tall, width * 0.92, tall, colour, f"{name}: {value:.3f}")
            )
        across, down = number % 4, number // 4
        parts.append(_rect(40 + across * 170, height + 4 + 18 * down, 10, 10, colour))
        parts.append(_text(55 + across * 170, height + 13 + 18 * down, name, "start"))
    for group, name in enumerate(names):
        parts.append(_text(40 + (group + 0.5) * step, base + 16, name, "middle"))
    parts.append(_line(36, base, _WIDTH, base, _INK))
    return _chart(title, height + 26 + 18 * ((len(series) - 1) // 4), parts)


def matrix(
    title: str, rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[int]]
) -> str:
    """Counts as squares, the darker the larger their share of the row."""
    side, left, top = 64, 130, 34
    parts = [
        _text(left + (i + 0.5) * side, top - 10, name, "middle") for i, name in enumerate(columns)
    ]
    for r, (name, counts) in enumerate(zip(rows, cells, strict=True)):
        parts.append(_text(left - 8, top + (r + 0.5) * side + 4, name, "end"))
        total = max(sum(counts), 1)
        for c, count in enumerate(counts):
            share = count / total
            box = f'<rect x="{left + c * side}" y="{top + r * side}" width="{side - 2}" height="{side - 2}"'
            parts.append(f'{box} fill="{COLOURS[0]}" fill-opacity="{0.04 + 0.9 * share:.3f}"/>')
            ink = "#ffffff" if share > 0.5 else _INK
            at = (left + (c + 0.5) * side - 1, top + (r + 0.5) * side + 4)
            parts.append(_text(*at, str(count), "middle", ink))
    return _chart(title, top + side * len(rows) + 4, parts)


def _chart(title: str, height: float, parts: Sequence[str]) -> str:
    name = escape(title, quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:g}" role="img" '
        f'aria-label="{name}" font-family="system-ui, sans-serif" font-size="12">'
        f"<title>{name}</title>{''.join(parts)}</svg>"
    )


def _text(x: float, y: float, text: str, anchor: str, fill: str = _INK) -> str:
    shown = text if len(text) <= _LETTERS else text[: _LETTERS - 1] + "…"
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}"'
    return f"<text {place}>{escape(shown)}</text>"


def _rect(x: float, y: float, width: float, height: float, fill: str, tip: str = "") -> str:
    box = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}"'
    return f'<rect {box} fill="{fill}"><title>{escape(tip)}</title></rect>'


def _line(x1: float, y1: float, x2: float, y2: float, stroke: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{stroke}"/>'
