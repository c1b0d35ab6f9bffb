"""Whatever happens to the files of token codes, what is used of them is right, and the rest is said to
be missing. The next update mends it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pytest

from mmretrieve.datatypes import Modality
from mmretrieve.storage.atomic import sealed_json, unsealed
from mmretrieve.storage.codes import reading
from mmretrieve.storage.codes.build import tail_segment
from mmretrieve.storage.codes.cells import fetch_vectors
from mmretrieve.storage.codes.policy import Limits
from mmretrieve.storage.codes.reading import verify
from mmretrieve.storage.codes.update import UNSTABLE_ROWS
from mmretrieve.storage.folder import write_manifest
from mmretrieve.storage.records import VideoEntry
from mmretrieve.storage.schema import schemas
from mmretrieve.storage.tables import open_table
from tests import codes_index as ci

Damage = Callable[[Path], object]


def array(folder: Path, what: str, name: str) -> Path:
    """A file of the first folder of a kind."""
    found = sorted((folder / "codes").glob(f"{what}-*/{name}.bin"))
    assert found
    return found[0]


def flip(path: Path, at: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, tuple[Damage, str]] = {
    "missing": (Path.unlink, "No such file"),
    "truncated": (lambda path: os.truncate(path, path.stat().st_size - 1), "bytes, the catalogue"),
    "empty": (lambda path: os.truncate(path, 0), "has 0 bytes"),
    "longer": (lambda path: path.write_bytes(path.read_bytes() + b"x"), "bytes, the catalogue"),
    "altered": (flip, "wrong checksum"),
    "a folder": (become_folder, ""),
}


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *(("begin", damage) for damage in DAMAGES),
        ("revision", "altered"),
        ("without_rows", "missing"),
        ("without_rows", "longer"),
    ],
)
def test_a_damaged_segment_is_read_from_the_tables(
    tmp_path: Path, entries: list[VideoEntry], limits: Limits, name: str, damage: str
) -> None:
    act, told = DAMAGES[damage]
    path = array(tmp_path, "segment", name)
    act(path)
    codes = ci.assert_right(tmp_path, entries)
    assert len(codes.segments) == 1
    assert codes.uncovered == {e.video.revision for e in entries[:20]}
    (note,) = codes.notes
    assert told in note
    assert path.parent.name in note
    assert "mmretrieve codes --rebuild" in note
    ci.assert_mended(tmp_path, entries, limits)


def test_damaged_tokens_codes_and_lists_are_noticed(
    tmp_path: Path, entries: list[VideoEntry], limits: Limits
) -> None:
    coded = ("centroid-ocr", "residual-speech", "listed-frames", "starts-frames")
    exact = ("values-ocr", "scales-speech")
    for name in coded if limits.exact_below == 1 else exact:
        flip(array(tmp_path, "segment", name))
        assert len(ci.assert_right(tmp_path, entries).segments) == 1
        ci.assert_mended(tmp_path, entries, limits)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_codebook_is_trained_anew(
    tmp_path: Path, entries: list[VideoEntry], limits: Limits, damage: str
) -> None:
    if limits.exact_below > 1:
        pytest.skip("exact segments have no codebook")
    DAMAGES[damage][0](array(tmp_path, "codebook", "spread-ocr"))
    codes = ci.assert_right(tmp_path, entries)
    assert (codes.segments, len(codes.uncovered)) == ((), 25)
    assert len(codes.notes) == 3
    ci.assert_mended(tmp_path, entries, limits)


def test_damaged_samples_are_drawn_anew(
    tmp_path: Path, entries: list[VideoEntry], limits: Limits
) -> None:
    flip(array(tmp_path, "sample", "values-ocr"))
    codes = ci.assert_right(tmp_path, entries)
    assert codes.samples is None
    assert not codes.uncovered
    assert len(codes.notes) == 1
    ci.assert_mended(tmp_path, entries, limits)


def test_large_files_are_compared_by_verify_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ci.library(tmp_path, 20)
    ci.upkeep(tmp_path, ci.EXACT)
    monkeypatch.setattr(reading, "CHECKED_BYTES", 100)
    monkeypatch.setattr(reading.open_all, "__defaults__", (100,))
    path = array(tmp_path, "segment", "values-ocr")
    flip(path, 50)
    assert ci.opened(tmp_path).notes == ()
    (fault,) = verify(tmp_path, ci.ONE_WIDTH)
    assert str(path) in fault
    assert "wrong checksum" in fault


def rewrite(folder: Path, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change an array of the first segment together with what the catalogue says of it."""
    from blake3 import blake3

    path = folder / "codes" / "catalogue.json"
    data = json.loads(path.read_text("utf-8"))
    entry = data["segments"][0]["folder"]
    mine = entry["files"][name]
    file = folder / "codes" / entry["name"] / f"{name}.bin"
    made = np.fromfile(file, mine["dtype"]).reshape(mine["shape"])
    made = np.ascontiguousarray(change(made.copy()), made.dtype)
    made.tofile(file)
    mine |= {"shape": list(made.shape), "blake3": blake3(made.tobytes()).hexdigest()}
    path.write_text(sealed_json(unsealed(data)), "utf-8")


def setting(at: Any, value: Any) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[at] = value
        return array

    return change


INCONSISTENT: list[tuple[str, Callable[[np.ndarray], np.ndarray]]] = [
    ("modality", setting(0, 4)),
    ("modality", lambda a: a[::-1]),
    ("begin", setting(0, 1)),
    ("begin", setting(3, -5)),
    ("count", setting(0, 1 << 30)),
    ("count", lambda a: a[:-1]),
    ("passages", setting(1, 0)),
    ("passages", setting(-1, 10**9)),
    ("passages", setting(0, 1)),
    ("videos", setting(1, 0)),
    ("videos", lambda a: a[:-1]),
    ("videos", lambda a: a[:0]),
    ("timeless", lambda a: 1 - a),
    ("number", setting(1, -1)),
    ("row", lambda a: a[1:]),
    ("start_s", lambda a: a[1:]),
    ("revision", lambda a: a[1:]),
]
OF_TOKENS: dict[str, list[tuple[str, Callable[[np.ndarray], np.ndarray]]]] = {
    "exact": [
        ("values-ocr", lambda a: a[1:]),
        ("values-ocr", lambda a: a[:, :28]),
        ("scales-ocr", lambda a: a[:, None]),
    ],
    "coded": [
        ("centroid-ocr", setting(-1, 60_000)),
        ("centroid-ocr", lambda a: a[:-1]),
        ("residual-ocr", lambda a: a[:, :7]),
        ("listed-ocr", setting(0, 60_000)),
        ("listed-ocr", lambda a: a[:-1]),
        ("starts-ocr", setting(1, 60_000)),
        ("starts-ocr", lambda a: a[:-1]),
    ],
}


def test_arrays_that_do_not_fit_together_are_not_used(
    tmp_path: Path, entries: list[VideoEntry], limits: Limits
) -> None:
    kind = "coded" if limits.exact_below == 1 else "exact"
    kept = tmp_path / "kept"
    shutil.copytree(tmp_path / "codes", kept)
    for name, change in (*INCONSISTENT, *OF_TOKENS[kind]):
        rewrite(tmp_path, name, change)
        codes = ci.opened(tmp_path)
        assert len(codes.segments) == 1, name
        assert codes.uncovered == {e.video.revision for e in entries[:20]}, name
        shutil.rmtree(tmp_path / "codes")
        shutil.copytree(kept, tmp_path / "codes")


def edited(change: Callable[[dict[str, Any]], object]) -> Damage:
    def act(path: Path) -> None:
        data = json.loads(path.read_text("utf-8"))
        change(data)
        path.write_text(sealed_json(unsealed(data)), "utf-8")  # with a checksum that is right

    return act


CATALOGUES: dict[str, tuple[Damage, str]] = {
    "garbage": (lambda p: p.write_bytes(b"\xff\x00{"), "cannot be read"),
    "empty": (lambda p: p.write_text(""), "cannot be read"),
    "cut": (lambda p: os.truncate(p, p.stat().st_size // 2), "cannot be read"),
    "a list": (lambda p: p.write_text("[]"), "is of format None"),
    "altered": (
        lambda p: p.write_text(p.read_text("utf-8").replace('"books"', '"book"'), "utf-8"),
        "wrong checksum",
    ),
    "newer": (edited(lambda d: d.update(format=99)), "is of format 99, this program knows 1"),
    "a field missing": (edited(lambda d: d.pop("books")), "no catalogue"),
    "a type": (
        edited(lambda d: d["segments"][0]["folder"]["files"]["row"].update(dtype="|O8")),
        "no catalogue",
    ),
    "a shape": (
        edited(lambda d: d["segments"][0]["folder"]["files"]["row"].update(shape=[-1])),
        "no catalogue",
    ),
    "an array": (
        edited(lambda d: d["segments"][0]["folder"]["files"].update({"../../x": {}})),
        "no catalogue",
    ),
    "elsewhere": (
        edited(lambda d: d["segments"][0]["folder"].update(name="../../elsewhere")), "no catalogue",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", CATALOGUES)
def test_a_catalogue_that_cannot_be_used_is_written_anew(
    tmp_path: Path, entries: list[VideoEntry], limits: Limits, damage: str
) -> None:
    act, told = CATALOGUES[damage]
    act(tmp_path / "codes" / "catalogue.json")
    codes = ci.assert_right(tmp_path, entries)
    assert codes.segments == ()
    (note,) = codes.notes
    assert told in note
    ci.assert_mended(tmp_path, entries, limits)
    assert len(ci.opened(tmp_path).segments) == 1


def test_folders_and_arrays_that_are_not_there(
    tmp_path: Path, entries: list[VideoEntry], limits: Limits
) -> None:
    path = tmp_path / "codes" / "catalogue.json"
    edited(lambda d: d["segments"][0]["folder"].update(name="segment-999"))(path)
    assert "No such file" in ci.assert_right(tmp_path, entries).notes[0]
    ci.assert_mended(tmp_path, entries, limits)
    edited(lambda d: d["segments"][0]["folder"]["files"].pop("row"))(path)
    assert "array 'row' is not there" in ci.assert_right(tmp_path, entries).notes[0]
    ci.assert_mended(tmp_path, entries, limits)


def test_tables_that_were_put_back(
    tmp_path: Path, entries: list[VideoEntry], limits: Limits
) -> None:
    """Codes newer than the tables: what the tables do not have is not found."""
    kept = tmp_path / "kept"
    shutil.copytree(tmp_path / "lance", kept)
    rng = np.random.default_rng(8)
    ci.commit(tmp_path, [ci.entry("later", rng), ci.entry(entries[0].video.video_id, rng)])
    ci.upkeep(tmp_path, limits)
    shutil.rmtree(tmp_path / "lance")
    kept.rename(tmp_path / "lance")
    assert ci.assert_right(tmp_path, entries).uncovered == set()
    ci.commit(tmp_path, [other := ci.entry("other", rng)])
    assert ci.assert_right(tmp_path, [*entries, other]).uncovered == {other.video.revision}
    ci.assert_mended(tmp_path, [*entries, other], limits)


def test_a_table_without_stable_rows_is_searched_without_codes(tmp_path: Path) -> None:
    write_manifest(tmp_path, ci.ONE_WIDTH)
    database = lancedb.connect(tmp_path / "lance")
    database.create_table("passages", schema=schemas(32)["passages"])
    entries = [ci.entry(f"{n}", np.random.default_rng(n)) for n in range(4)]
    ci.commit(tmp_path, entries)
    report = ci.upkeep(tmp_path, ci.EXACT)
    assert (report.built, report.notes) == ((), (UNSTABLE_ROWS,))
    assert ci.opened(tmp_path).uncovered == {e.video.revision for e in entries}
    assert not (tmp_path / "codes").exists()
    table = open_table(tmp_path, "passages")
    tail = tail_segment(table, ci.live(tmp_path), ci.ONE_WIDTH, ci.KERNELS)
    keys, cells = zip(*ci.cells(tail), strict=True)
    found = fetch_vectors(table, tail.row[list(cells)][::-1], [32] * len(cells))[::-1]
    for key, tokens in zip(keys, found, strict=True):
        np.testing.assert_array_equal(tokens, ci.expected(entries)[key].astype(np.float32))


def test_an_index_without_codes_and_one_without_videos(tmp_path: Path) -> None:
    ci.library(tmp_path, 0)
    assert not ci.opened(tmp_path).uncovered
    report = ci.upkeep(tmp_path, ci.CODED)
    assert (report.built, report.notes) == ((), ())
    ci.commit(tmp_path, [ci.entry("a", np.random.default_rng(0), modalities=[Modality.OCR])])
    codes = ci.opened(tmp_path)
    assert (codes.segments, codes.notes, len(codes.uncovered)) == ((), (), 1)
