"""The sound of stretches of a file: what is cut, what goes over the pipe, and what is refused there."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mmretrieve.config import OcrSettings, PassageSettings, Settings, SpeechSettings
from mmretrieve.datatypes import Sound
from mmretrieve.indexers.hearing import RATE, cut, hear
from mmretrieve.indexers.media import probe
from mmretrieve.indexers.reading import FileReader
from mmretrieve.indexers.windows import Window, cover
from mmretrieve.isolation.pool import IsolatedReader
from mmretrieve.isolation.records import MalformedError
from mmretrieve.isolation.sounds import plain_sound, plain_spans, read_sound, read_spans
from tests import clips

RNG = np.random.default_rng(0)
SETTINGS = Settings(speech=SpeechSettings(model="off"), ocr=OcrSettings(enabled=False))


def noise(seconds: float) -> np.ndarray:
    return RNG.uniform(-0.5, 0.5, round(seconds * RATE)).astype(np.float32)


def test_stretches_are_cut_to_the_sample_whatever_the_chunks() -> None:
    whole = noise(10)
    edges = [0, 7, 40_000, 40_001, 100_000, len(whole)]
    chunks = [Sound(a / RATE, whole[a:b]) for a, b in pairwise(edges)]
    spans = [(0.0, 2.5), (2.5, 2.75), (3.0, 9.0), (9.0, 12.0), (12.0, 13.0)]
    found = list(cut(chunks, spans))
    for (start_s, end_s), one in zip(spans[:4], found, strict=False):
        assert one is not None
        assert one.start_s == start_s
        np.testing.assert_array_equal(
            one.samples, whole[round(start_s * RATE) : round(end_s * RATE)]
        )
    assert found[4] is None


def test_gaps_are_silent_and_silence_is_no_sound() -> None:
    early, late = noise(1), noise(1)
    found = list(cut([Sound(1.5, early), Sound(4.0, late)], [(0.0, 6.0), (6.0, 8.0)]))
    one = found[0]
    assert one is not None
    assert one.start_s == 1.5
    assert len(one.samples) == 3.5 * RATE
    np.testing.assert_array_equal(one.samples[:RATE], early)
    assert not one.samples[RATE : round(2.5 * RATE)].any()
    np.testing.assert_array_equal(one.samples[-RATE:], late)
    assert found[1] is None
    faint = [Sound(0.0, np.full(RATE, 9e-5, np.float32))]
    assert list(cut(faint, [(0.0, 1.0)])) == [None]
    loud = next(cut([Sound(0.0, np.full(RATE, 1.5, np.float32))], [(0.0, 1.0)]))
    assert loud is not None
    assert loud.samples.max() == 1.0


def test_windows_cover_what_goes_on() -> None:
    settings = PassageSettings()
    seen = (Window(0, 0.0, 20.0),)
    assert cover(seen, 20.9, settings) == seen
    assert cover(seen, 49.0, settings) == (*seen, Window(1, 20.0, 49.0))
    made = cover((), 100.0, settings)
    assert [(w.start_s, w.end_s) for w in made] == [(i * 20.0, i * 20.0 + 20) for i in range(5)]
    assert [w.number for w in made] == list(range(5))


def test_what_cannot_be_decoded_is_told_of(tmp_path: Path) -> None:
    path = clips.write_video(tmp_path / "mute.mkv", [clips.scene(i, 0, 64, 64) for i in range(12)])
    told: list[str] = []
    assert list(hear(path, [(0.0, 1.0), (1.0, 2.0)], told.append)) == [None, None]
    assert told == ["sound left out: mute.mkv: no audio in it that can be played"]


def test_a_worker_gives_the_same_and_dies_where_it_is_left(tmp_path: Path) -> None:
    path = clips.write_tone(tmp_path / "tone.wav", 9.0)
    spans = [(0.0, 4.0), (4.0, 8.0), (8.0, 9.0), (9.0, 12.0)]
    here, there = FileReader(SETTINGS), IsolatedReader(SETTINGS)
    try:
        facts = probe(path)
        near = list(here.hear(path, facts, spans, pytest.fail))
        far = list(there.hear(path, facts, spans, pytest.fail))
        assert [one is None for one in near] == [False, False, False, True]
        for one, other in zip(near[:3], far[:3], strict=True):
            assert one is not None
            assert other is not None
            assert one.start_s == other.start_s
            np.testing.assert_array_equal(one.samples, other.samples)
        assert far[3] is None
        assert there.n_lost == 0
        broken_off = iter(there.hear(path, facts, spans, pytest.fail))
        assert next(broken_off) is not None
        broken_off.close()  # type: ignore[attr-defined]
        assert there.n_lost == 1
        assert len(list(there.hear(path, facts, spans, pytest.fail))) == 4
    finally:
        here.close()
        there.close()


def test_sound_over_the_pipe_is_checked() -> None:
    spans = [(0.0, 1.0), (1.0, 2.0)]
    assert read_spans(plain_spans(spans)) == spans
    sound = Sound(1.25, noise(0.5))
    body, blobs = plain_sound(1, sound)
    number, back = read_sound(body, blobs, 0, spans)
    assert (number, back.start_s) == (1, 1.25)
    np.testing.assert_array_equal(back.samples, sound.samples)
    loud, strange = sound.samples * 3, sound.samples.copy()
    strange[7] = np.nan
    for wrong, bytes_, first in (
        ({**body, "number": 2}, blobs, 0),
        ({**body, "number": True}, blobs, 0),
        (body, blobs, 2),
        ({**body, "start_s": 0.5}, blobs, 0),
        ({**body, "start_s": 1.9}, blobs, 0),
        ({**body, "more": 1}, blobs, 0),
        (body, [], 0),
        (body, [b""], 0),
        (body, [blobs[0][:-1]], 0),
        (body, plain_sound(1, replace(sound, samples=loud))[1], 0),
        (body, plain_sound(1, replace(sound, samples=strange))[1], 0),
    ):
        with pytest.raises(MalformedError):
            read_sound(wrong, bytes_, first, spans)
