"""Pictures of results. matplotlib is optional and used nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_COLOURS = ("#1b4965", "#62b6cb", "#f4a259", "#8cb369", "#b8b8b8")


def grouped_bars(
    path: Path, groups: Sequence[str], bars: Mapping[str, Sequence[float]], label: str
) -> bool:
    """Draw one group of bars for each of ``groups``, each bar between 0 and 1, into a PNG file.
    False where matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        return False
    figures: Any = import_module("matplotlib.figure")
    figure = figures.Figure(figsize=(9, 4.2), dpi=130, layout="constrained")
    axes = figure.subplots()
    width = 0.84 / len(bars)
    for i, (name, values) in enumerate(bars.items()):
        at = [g - 0.42 + width * (i + 0.5) for g in range(len(groups))]
        drawn = axes.bar(at, values, width * 0.94, color=_COLOURS[i % len(_COLOURS)], label=name)
        axes.bar_label(drawn, [f"{v:.2f}" for v in values], padding=1, fontsize=6.5)
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylim(0, 1.08)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.set_ylabel(label, fontsize=9)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    figure.legend(loc="outside upper center", ncols=len(bars), frameon=False, fontsize=9)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path)
    return True
