"""Reading fields of JSON and CSV with the place of whatever is wrong."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmretrieve.errors import UsageError
from mmretrieve.evaluation.trec import lines


@dataclass(frozen=True, slots=True)
class Row:
    """Fields by name, and where they stand (``path:line``)."""

    fields: Mapping[str, Any]
    where: str

    def text(self, *names: str) -> str:
        """The first of ``names`` that is there, as text with something in it; a whole number counts.

        Raises:
            UsageError: none, blank, or something else.
        """
        name = next((n for n in names if n in self.fields), names[0])
        value = self.fields.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str) or not value.strip():
            shown = json.dumps(value)[:60] if name in self.fields else "nothing"
            wanted = " or ".join(f'"{n}"' for n in names)
            raise UsageError(f"{self.where}: {wanted}: expected text, found {shown}")
        return value.strip()

    def number(self, name: str) -> float:
        """A number.

        Raises:
            UsageError: none, or something else.
        """
        value = self.fields.get(name)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            shown = json.dumps(value)[:60] if name in self.fields else "nothing"
            raise UsageError(f'{self.where}: "{name}": expected a number, found {shown}')
        return float(value)


def json_rows(path: Path) -> Iterator[Row]:
    """One JSON object a line.

    Raises:
        UsageError: a line that is no JSON object.
    """
    for line in lines(path):
        try:
            record = json.loads(line.text)
        except ValueError as error:
            raise UsageError(f"{line.where}: not JSON: {error}") from error
        if not isinstance(record, dict):
            raise UsageError(f"{line.where}: expected a JSON object")
        yield Row(record, line.where)


def json_table(path: Path) -> Iterator[tuple[str, Row]]:
    """One JSON object: each of its members, in order, with the line on which its name stands.

    Raises:
        UsageError: no JSON, not an object of objects, or a name used twice.
    """
    text = "\n".join(line.text for line in lines(path))
    places = _places(path)

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise UsageError(f"{path}:{places.get(name, 1)}: {name!r} is there twice")
            found[name] = value
        return found

    try:
        data = json.loads(text, object_pairs_hook=members)
    except ValueError as error:
        raise UsageError(f"{path}: not JSON: {error}") from error
    if not isinstance(data, dict) or not data:
        raise UsageError(f"{path}:1: expected a JSON object with one member a video")
    for name, record in data.items():
        where = f"{path}:{places.get(name, 1)}"
        if not isinstance(record, dict):
            raise UsageError(f"{where}: {name!r}: expected a JSON object")
        yield name, Row(record, where)


def csv_rows(path: Path, columns: Sequence[str], separators: str = ",") -> Iterator[Row]:
    """The rows of a CSV file whose header holds ``columns``; the separator is the first of
    ``separators`` with which it does.

    Raises:
        UsageError: another header, or a row of another width.
    """
    numbered = [(line.text, line.where) for line in lines(path)]
    if not numbered:
        raise UsageError(f"{path}: empty: expected the columns {', '.join(columns)}")
    header_text, first = numbered[0]
    for separator in separators:
        header = [name.strip() for name in next(csv.reader([header_text], delimiter=separator))]
        if set(columns) <= set(header):
            break
    else:
        raise UsageError(f"{first}: columns {header_text!r}: expected {', '.join(columns)}")
    reader = csv.reader((f"{text}\n" for text, _ in numbered[1:]), delimiter=separator)
    start = 0
    for values in reader:
        where = numbered[1 + start][1]
        start = reader.line_num
        if len(values) != len(header):
            raise UsageError(
                f"{where}: {len(values)} columns, expected the {len(header)} of {', '.join(header)}"
            )
        yield Row(dict(zip(header, values, strict=True)), where)


def one_file(folder: Path, pattern: str, what: str) -> Path:
    """The file itself, or the one of that kind in a folder.

    Raises:
        UsageError: none, or several.
    """
    if folder.is_file():
        return folder
    found = sorted(p for p in folder.glob(pattern) if p.is_file()) if folder.is_dir() else []
    if len(found) != 1:
        shown = ", ".join(p.name for p in found) or "none"
        raise UsageError(f"{folder}: expected one {what} ({pattern}), found {shown}: name the file")
    return found[0]


def _places(path: Path) -> dict[str, int]:
    """Name -> the first line on which it stands as a name; good enough to point at."""
    found: dict[str, int] = {}
    for line in lines(path):
        number = int(line.where.rpartition(":")[2])
        for part in line.text.split('"')[1::2]:
            found.setdefault(part, number)
    return found
