"""The pictures of the README, from real runs on the demo clips: ``python -m benchmarks.readme_pictures``.

``evidence.png``: what earned the score of four answers, word by word. ``query.svg``: the terminal.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmretrieve import Engine, Hit, Modality
from mmretrieve.demo import clips_folder

FOLDER = Path(__file__).parent / "pictures"
COLOURS = {
    Modality.FRAMES: "#2a9d8f",
    Modality.SPEECH: "#e76f51",
    Modality.OCR: "#457b9d",
    Modality.METADATA: "#8d6cab",
}
QUERIES = (
    "hot air balloon in the sky",
    "what causes the tides",
    "permission denied publickey",
    "overnight train to Madrid",
)
TERMINAL_QUERIES = (
    "how bees tell each other where to fly",
    "quarterly results of the shipping company",
)


def words(hit: Hit) -> list[tuple[str, Modality, float]]:
    """(word, winning modality, contribution) in the order of the query, pieces joined."""
    out: list[tuple[str, Modality, float]] = []
    for item in hit.evidence:
        if item.query_token.startswith("##") and out:
            text, modality, value = out[-1]
            out[-1] = (text + item.query_token[2:], modality, value + item.contribution)
        else:
            out.append((item.query_token, item.modality, item.contribution))
    return out


def draw_answer(axes: Sequence[Any], query: str, hit: Hit) -> None:
    """Thumbnail on the left, bars of the words on the right."""
    from PIL import Image

    picture, bars = axes
    if hit.thumbnail is not None:
        picture.imshow(Image.open(io.BytesIO(hit.thumbnail)))
    start = hit.moment.start_s
    when = "whole video" if start is None else f"{start:.0f} to {hit.moment.end_s:.0f} s"
    picture.set_title(f"{Path(hit.video.path).name}, {when}", fontsize=8, color="#444444")
    picture.axis("off")
    rows = words(hit)
    bars.barh(
        [w for w, _, _ in rows], [v for _, _, v in rows], color=[COLOURS[m] for _, m, _ in rows]
    )
    bars.invert_yaxis()
    bars.set_title(f"“{query}”   {hit.score:.2f}", fontsize=9, loc="left", weight="bold")
    bars.tick_params(labelsize=8)
    bars.spines[["top", "right", "left"]].set_visible(False)


def evidence_picture(engine: Engine, path: Path) -> None:
    """Four answers, one of each modality."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.patches import Patch

    grid = {"width_ratios": [1, 1.3, 1, 1.3]}
    figure, axes = pyplot.subplots(2, 4, figsize=(12, 4.6), gridspec_kw=grid)
    for i, query in enumerate(QUERIES):
        row, column = divmod(i, 2)
        hit = engine.search(query, k=1, thumbnails=True).hits[0]
        draw_answer(axes[row][2 * column : 2 * column + 2], query, hit)
    handles = [Patch(color=colour, label=modality.value) for modality, colour in COLOURS.items()]
    figure.legend(handles=handles, loc="lower center", ncols=4, frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(path, dpi=110)


def terminal_picture(index: Path, path: Path) -> None:
    """What two queries print on a terminal, with its colours."""
    from rich.console import Console
    from rich.text import Text

    console = Console(record=True, width=100, file=io.StringIO(), force_terminal=True)
    for query in TERMINAL_QUERIES:
        console.print(Text.assemble(("$ ", "dim"), (f'mmretrieve query "{query}" -k 2', "bold")))
        command = [
            sys.executable,
            "-m",
            "mmretrieve.cli",
            "query",
            query,
            "-k",
            "2",
            "--format",
            "table",
        ]
        environment = {
            **os.environ,
            "FORCE_COLOR": "1",
            "COLUMNS": "100",
            "MMRETRIEVE_INDEX": str(index),
        }
        run = subprocess.run(
            command, capture_output=True, text=True, env=environment, check=True, cwd=clips_folder()
        )
        console.print(Text.from_ansi(run.stdout + run.stderr))
    console.save_svg(str(path), title="mmretrieve")


def main() -> None:
    """Index the demo clips and draw."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Engine.create(Path(folder) / "index") as engine:
        engine.index([clips_folder()])
        evidence_picture(engine, FOLDER / "evidence.png")
        terminal_picture(engine.folder, FOLDER / "query.svg")


if __name__ == "__main__":
    main()
