"""The pictures of ``search``: latency against recall, and against the number of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.registry import BASELINE, OURS
from benchmarks.search_records import Records, Speed, cheapest, frontier

_OURS_COLOUR, _BASELINE_COLOUR = "#d1495b", "#4a4a4a"
_COLOURS = ("#1b4965", "#62b6cb", "#2a9d8f", "#f4a259", "#8cb369", "#7b5ea7", "#c38d9e", "#a68a64")
_MARKERS = "osD^vPX<"
_TARGET = 0.99


def draw(records: Records, folder: Path) -> list[Path]:
    """PNG files with two threads where there are any; none without matplotlib."""
    if find_spec("matplotlib") is None or not records.speeds:
        return []
    folder.mkdir(exist_ok=True)
    threads = max(s.threads for s in records.speeds)
    styles = _styles(records)
    made = [_against_recall(records, threads, styles, folder / "search-recall.png")]
    if len(records.sizes) > 1:
        made.append(_against_tokens(records, threads, styles, folder / "search-tokens.png"))
    return made


def _styles(records: Records) -> dict[str, dict[str, Any]]:
    """Colour and marker of each engine, the same in all pictures."""
    styles: dict[str, dict[str, Any]] = {
        OURS: {
            "color": _OURS_COLOUR,
            "marker": "*",
            "linewidth": 2.4,
            "markersize": 11,
            "zorder": 5,
        },
        BASELINE: {"color": _BASELINE_COLOUR, "marker": "|", "linewidth": 1.3},
    }
    for i, name in enumerate(n for n in records.engines if n not in styles):
        styles[name] = {
            "color": _COLOURS[i % len(_COLOURS)],
            "marker": _MARKERS[i % len(_MARKERS)],
            "linewidth": 1.4,
            "markersize": 5,
        }
    return styles


def _against_recall(
    records: Records, threads: int, styles: dict[str, dict[str, Any]], path: Path
) -> Path:
    """One panel a size. Recall runs towards 1 on a scale on which each nine takes the same room."""
    figures: Any = import_module("matplotlib.figure")
    sizes = records.sizes
    figure = figures.Figure(
        figsize=(max(7.0, 5.2 * len(sizes)), 4.9), dpi=140, layout="constrained"
    )
    panels = figure.subplots(1, len(sizes), squeeze=False)[0]
    for axes, n in zip(panels, sizes, strict=True):
        base = _baseline_ms(records, n, threads)
        if base is not None:
            axes.axhline(base, color=_BASELINE_COLOUR, linewidth=1.1, linestyle=(0, (5, 3)))
            axes.annotate(
                f"{BASELINE} {base:.3g} ms", (0.015, base), xycoords=("axes fraction", "data"),
                xytext=(0, 3), textcoords="offset points", fontsize=8, color=_BASELINE_COLOUR,
            )  # fmt: skip
        for engine in records.engines:
            points = frontier(records.sweep(engine, n, threads))
            if points:
                x = [_nines(p.recall) for p in points]
                axes.plot(x, [p.p50_ms for p in points], label=engine, **styles[engine])
        ticks = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 1.0)
        axes.set_xticks([_nines(t) for t in ticks], [f"{t:g}" for t in ticks], fontsize=8)
        axes.set_yscale("log")
        axes.set_title(f"{n:,} tokens", fontsize=11, loc="left")
        axes.set_xlabel("recall@10 against exact float32 MaxSim", fontsize=9)
        _tidy(axes)
    panels[0].set_ylabel(f"p50 of a search, ms ({threads} threads)", fontsize=9)
    _legend(figure, panels)
    figure.savefig(path)
    return path


def _against_tokens(
    records: Records, threads: int, styles: dict[str, dict[str, Any]], path: Path
) -> Path:
    figures: Any = import_module("matplotlib.figure")
    figure = figures.Figure(figsize=(7.6, 5.2), dpi=140, layout="constrained")
    axes = figure.subplots()
    sizes = records.sizes
    lines: dict[str, list[tuple[int, float]]] = {}
    for n in sizes:
        base = _baseline_ms(records, n, threads)
        if base is not None:
            lines.setdefault(BASELINE, []).append((n, base))
        for engine in records.engines:
            found = _fastest(records.sweep(engine, n, threads))
            if found is not None:
                lines.setdefault(engine, []).append((n, found.p50_ms))
    for engine, points in lines.items():
        axes.plot(*np.array(points).T, label=engine, **styles[engine])
    span = np.array([sizes[0], sizes[-1]], float)
    anchor = min(points[0][1] * span[0] / points[0][0] for points in lines.values())
    for start in (anchor, 10 * anchor, 100 * anchor):
        axes.plot(span, start * span / span[0], color="#d9d9d9", linewidth=0.9, zorder=0)
    axes.annotate(
        "in proportion to tokens", (span[1], anchor * span[1] / span[0]), xytext=(-4, -4),
        textcoords="offset points", ha="right", va="top", fontsize=8, color="#9a9a9a",
    )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("tokens", fontsize=9)
    axes.set_ylabel(f"p50 at recall@10 ≥ {_TARGET}, ms ({threads} threads)", fontsize=9)
    _tidy(axes)
    _legend(figure, [axes])
    figure.savefig(path)
    return path


def _fastest(sweep: Sequence[Speed]) -> Speed | None:
    return cheapest(sweep, _TARGET)


def _baseline_ms(records: Records, n_tokens: int, threads: int) -> float | None:
    """The best of the baseline's medians, one of which was taken beside every engine."""
    medians = [
        float(np.median(s.baseline))
        for s in records.speeds
        if (s.n_tokens, s.threads) == (n_tokens, threads) and np.isfinite(s.baseline).all()
    ]
    return 1e3 * min(medians) if medians else None


def _nines(recall: float) -> float:
    """0.9 -> 1, 0.99 -> 2 and so on; a perfect recall is drawn a little beyond 0.998."""
    return float(-np.log10(max(1 - recall, 10**-2.7)))


def _tidy(axes: Any) -> None:
    axes.grid(color="#ececec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=0, which="both", labelsize=8)


def _legend(figure: Any, panels: Sequence[Any]) -> None:
    """One legend for all panels, the program first."""
    found = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    order = sorted(found, key=lambda name: (name != OURS, name != BASELINE))
    figure.legend(
        [found[name] for name in order], order, loc="outside upper center",
        ncols=min(5, len(order)), frameon=False, fontsize=9,
    )  # fmt: skip
