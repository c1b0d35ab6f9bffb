"""What a benchmark says: tables on the screen, and the same as JSON with where it was measured."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
Value = str | int | float | None


@dataclass(frozen=True, slots=True)
class Table:
    """``rows`` of cells under ``columns``."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]

    def markdown(self) -> str:
        """The table as aligned Markdown under its title."""
        cells = [[_shown(v) for v in row] for row in self.rows]
        widths = [
            max(len(name), *(len(row[i]) for row in cells)) if cells else len(name)
            for i, name in enumerate(self.columns)
        ]
        lines = [_line(self.columns, widths), _line(["-" * w for w in widths], widths)]
        lines += [_line(row, widths) for row in cells]
        return "\n".join([f"### {self.title}", "", *lines, ""])


@dataclass(slots=True)
class Result:
    """The tables of one command. Tables are printed as they come."""

    command: str
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    commit: str = field(default_factory=lambda: commit())
    load_before: tuple[float, ...] = field(default_factory=lambda: load())
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Value]]) -> None:
        """Print a table and keep it."""
        table = Table(title, tuple(columns), tuple(tuple(row) for row in rows))
        self.tables.append(table)
        print(table.markdown(), flush=True)

    def note(self, text: str) -> None:
        """Print a line and keep it."""
        self.notes.append(text)
        print(f"- {text}\n", flush=True)

    def save(self) -> Path:
        """Write ``results/<command>.json``."""
        return self._write(RESULTS / f"{self.command}.json")

    def save_by_commit(self) -> Path:
        """Write ``results/<command>.json``, and the same under the name of the commit, so that runs
        can be compared later."""
        self._write(RESULTS / self.command / f"{self.commit}.json")
        return self.save()

    def _write(self, path: Path) -> Path:
        data = {
            "command": self.command,
            "command_line": command_line(),
            "commit": self.commit,
            "started": self.started,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "load_average": {"before": self.load_before, "after": load()},
            "notes": self.notes,
            "tables": [
                {"title": t.title, "columns": t.columns, "rows": t.rows} for t in self.tables
            ],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        shown = ", ".join(f"{v:.2f}" for v in load())
        print(f"{machine()['cpu']}, {os.cpu_count()} cores, load average {shown}")
        print(f"written: {path.relative_to(ROOT)}")
        return path


def load() -> tuple[float, ...]:
    """Load averages of 1, 5 and 15 minutes."""
    return tuple(round(v, 2) for v in os.getloadavg())


def machine() -> dict[str, Value]:
    """What the numbers depend on, without anything that names this machine."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def commit() -> str:
    """Short commit of the checkout, with ``+changes`` where program files differ from it."""
    head = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--", "mmretrieve", "indexers", "cli")
    return f"{head}+changes" if changed else head or "unknown"


def command_line() -> str:
    """The command as typed, with folders cut down to their names."""
    arguments = [_without_folder(a) for a in sys.argv[1:]]
    return " ".join(["python", "-m", "benchmarks", *arguments])


def _without_folder(argument: str) -> str:
    option, sign, value = argument.rpartition("=")
    return option + sign + (Path(value).name if value.startswith(("/", "~", ".")) else value)


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def _cpu() -> str:
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    facts = dict(re.findall(r"^([\w ]+?)\s*: (.+)$", info, re.MULTILINE))
    name = facts.get("model name", platform.machine())
    return f"{name} (family {facts.get('cpu family')}, model {facts.get('model')})"


def _shown(value: Value) -> str:
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value).replace("|", "/")
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)) + " |"
