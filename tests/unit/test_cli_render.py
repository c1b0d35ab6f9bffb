"""Every output format, from records made by hand and full of what videos can contain."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmretrieve.cli import console, render_lines, render_lists, render_table
from mmretrieve.cli.evidence import Quote, best_modality, excerpt, merge_spans, quotes, words
from mmretrieve.cli.options import Format
from mmretrieve.cli.progress import file_lines, shown_progress, status
from mmretrieve.cli.query import write
from mmretrieve.cli.records import info_record, report_record, search_record, to_json
from mmretrieve.datatypes import (
    Aggregation,
    Confidence,
    ConfidenceLabel,
    Evidence,
    Hit,
    Modality,
    Moment,
    SearchResult,
    VideoRef,
)
from mmretrieve.reports import (
    Failure,
    FileResult,
    IndexInfo,
    IndexReport,
    Outcome,
    Progress,
    Stage,
    VideoInfo,
)

SPEECH = 'they stole the "crown jewels" of [bold]France[/bold]\x1b[31m\n:smile: 👑'
NASTY_TITLE = '=cmd|"x", [red]title[/red]\u202e\x07'


def evidence(
    token: str,
    modality: Modality = Modality.SPEECH,
    contribution: float = 0.1,
    text: str = SPEECH,
    span: tuple[int, int] = (0, 0),
    **other: Any,
) -> Evidence:
    fields: dict[str, Any] = {
        "query_token": token, "modality": modality, "contribution": contribution,
        "similarity": 0.7, "passage": 0, "start_s": 12.0, "end_s": 15.0, "text": text, "span": span,
        "box": None, "field": None, "source": "sidecar:a.srt",
    } | other  # fmt: skip
    return Evidence(**fields)


def spoken(token: str, part: str, contribution: float = 0.1) -> Evidence:
    start = SPEECH.index(part)
    return evidence(token, contribution=contribution, span=(start, start + len(part)))


EVIDENCE = (
    spoken("crown", "crown", 0.2),
    spoken("jew", "jew", 0.1),
    spoken("##els", "els", 0.05),
    evidence(
        "beetle", Modality.FRAMES, 0.1, "beetle", start_s=8.0, end_s=8.0, box=(0.0, 0.0, 1.0, 1.0),
        source="keyframes",
    ),
    evidence(
        "paris", Modality.METADATA, 0.05, "Paris [1]", (0, 5), passage=-1, start_s=None, end_s=None,
        field="title", source="metadata",
    ),
)  # fmt: skip
HIT = Hit(
    rank=1,
    video=VideoRef("abc123", "/videos/crown [1].mp4", NASTY_TITLE, 100.0),
    moment=Moment(8.0, 15.0, 12.0, 0.5),
    score=0.5,
    confidence=Confidence(ConfidenceLabel.HIGH, 0.99),
    modalities={Modality.FRAMES: 0.3, Modality.SPEECH: 0.6, Modality.METADATA: 0.2},
    evidence=EVIDENCE,
    unmatched=("tower",),
    thumbnail=b"\xff\xd8",
)
RESULT = SearchResult(
    query="crown jewels beetle paris tower",
    aggregation=Aggregation.TOKEN_MAX,
    hits=(HIT, replace(HIT, rank=2, moment=Moment(None, None, None, 0.4), score=0.4)),
    no_good_match=False,
    n_videos_searched=3,
    n_tokens_searched=1234,
    took_s=0.012,
    notes=("a note",),
)
EMPTY = replace(RESULT, hits=(), no_good_match=True)
VIDEO = VideoInfo(
    video_id="abc123",
    path="/videos/crown [1].mp4",
    title=NASTY_TITLE,
    duration_s=3725.0,
    n_tokens={Modality.SPEECH: 1234},
    sources={Modality.SPEECH: "sidecar:a.srt", Modality.FRAMES: "keyframes"},
    warnings=("odd",),
    indexed_at="2026-01-01T00:00:00+00:00",
    missing=True,
)
INFO = IndexInfo(
    path="/index",
    preset="lite",
    format_version=1,
    n_videos=1,
    n_passages=2,
    n_tokens={Modality.SPEECH: 1234},
    n_files=2,
    duration_s=3725.0,
    size_bytes={"videos": 1000, "passages": 2000},
    encoders={"bge": "0123456789abcdef"},
    failures=(Failure("/videos/bad.mp4", "cannot be decoded [x]\x1b[2J"),),
    search_path="exact",
)
REPORT = IndexReport(
    results=(
        FileResult(
            "/v/a.mp4", Outcome.INDEXED, 10.0, 2.0, None, ("odd",), {Modality.OCR: 5}, {Stage.TEXT: 1.0}
        ),
        FileResult("/v/b\x1b[2J.mp4", Outcome.FAILED, error="cannot be decoded\nat all"),
    ),
    n_pruned=1,
    took_s=2.5,
)  # fmt: skip


def harmless(text: str) -> bool:
    return not any(
        (ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 or c == "\u202e" for c in text
    )


def test_word_pieces_become_words() -> None:
    assert [word.text for word in words(EVIDENCE)] == ["crown", "jewels", "beetle", "paris"]
    assert [len(word.evidence) for word in words(EVIDENCE)] == [1, 2, 1, 1]


def test_a_piece_whose_beginning_earned_nothing_stands_alone() -> None:
    found = words((spoken("crown", "crown"), spoken("##els", "els")), "crown jewels")
    assert [word.text for word in found] == ["crown", "els"]


def test_one_token_may_earn_in_several_modalities() -> None:
    items = (
        evidence("red"), evidence("red", Modality.OCR), evidence("##dish"), evidence("##dish", Modality.OCR),
    )  # fmt: skip
    (word,) = words(items, "reddish")
    assert (word.text, len(word.evidence)) == ("reddish", 4)


def test_a_word_said_twice_is_two_words() -> None:
    assert len(words((evidence("very"), evidence("very")), "very very")) == 2


def test_accents_do_not_split_a_word() -> None:
    assert [w.text for w in words((evidence("caf"), evidence("##es")), "Cafés")] == ["cafes"]


def test_evidence_of_one_segment_is_one_quote_over_whole_words() -> None:
    speech, *_ = quotes_by_modality()[Modality.SPEECH]
    assert [SPEECH[a:b] for a, b in speech.spans] == ["crown jewels"]
    assert speech.words == ("crown", "jewels")
    assert speech.contribution == pytest.approx(0.35)


def quotes_by_modality() -> dict[Modality, list[Quote]]:
    found: dict[Modality, list[Quote]] = {}
    for quote in quotes(HIT, RESULT.query):
        found.setdefault(quote.modality, []).append(quote)
    return found


def test_weak_evidence_is_not_quoted() -> None:
    hit = replace(HIT, evidence=(*EVIDENCE, evidence("of", Modality.OCR, 0.001, "of")))
    assert Modality.OCR not in {quote.modality for quote in quotes(hit)}


def test_best_modality() -> None:
    assert best_modality(HIT) is Modality.SPEECH
    assert best_modality(replace(HIT, evidence=())) is None


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([(0, 0)], ()),
        ([(1, 2)], ((0, 3),)),
        ([(4, 6), (0, 2)], ((0, 7),)),
        ([(0, 3), (12, 15)], ((0, 3), (12, 15))),
        ([(8, 11), (9, 99)], ((8, 15),)),
    ],
)
def test_spans_cover_whole_words_and_join(spans: list[tuple[int, int]], expected: Any) -> None:
    assert merge_spans(spans, "one two six end") == expected


def test_a_long_quote_is_cut_around_its_match() -> None:
    text = "word " * 200 + "needle " + "word " * 200
    start = text.index("needle")
    hit = replace(HIT, evidence=(evidence("needle", text=text, span=(start, start + 6)),))
    (quote,) = quotes(hit)
    parts = excerpt(quote, 60)
    assert ("needle", True) in parts
    assert parts[0] == ("... ", False)
    assert parts[-1] == (" ...", False)
    assert len("".join(part for part, _ in parts)) <= 60 + 8


def table(
    capsys: pytest.CaptureFixture[str], result: SearchResult = RESULT, explain: bool = False
) -> str:
    render_table.print_result(result, explain=explain)
    return capsys.readouterr().out


def test_table_shows_rank_time_path_confidence_score_and_evidence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = table(capsys)
    first = shown.splitlines()[0]
    assert first.split() == ["1", "00:08-00:15", "/videos/crown", "[1].mp4", "high", "0.500"]
    assert (
        'speech   00:12  "they stole the "**crown jewels**" of [bold]France[/bold] :smile: 👑"'
        in shown
    )
    assert "frames   00:08  looks like: beetle" in shown
    assert 'metadata title: "**Paris** [1]"' in shown
    assert "nothing matched: tower" in shown
    assert "whole video" in shown
    assert "2 hits from 3 videos (1,234 tokens)" in shown
    assert harmless(shown)


def test_table_on_a_terminal_marks_matches_by_style(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    shown = table(capsys)
    assert "\x1b[1;33mcrown jewels\x1b[0m" in shown
    assert "**" not in shown
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[1;33m" not in table(capsys)


def test_frames_without_a_label_say_what_they_match(capsys: pytest.CaptureFixture[str]) -> None:
    seen = evidence("red", Modality.FRAMES, 0.1, "", start_s=8.0, end_s=8.0)
    shown = table(capsys, replace(RESULT, hits=(replace(HIT, evidence=(seen,)),)))
    assert "frames   00:08  matches: red" in shown


def test_no_good_match_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no good match for 'crown jewels beetle paris tower' in 3 videos" in table(capsys, EMPTY)
    shown = table(capsys, replace(RESULT, no_good_match=True))
    assert shown.startswith("no good match")
    assert "do not stand out from chance" in shown


def test_explain_shows_every_word_and_a_sum_equal_to_the_score(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = table(capsys, replace(RESULT, hits=(HIT,)), explain=True)
    rows = {line.split()[0]: line.split() for line in shown.splitlines() if line.strip()}
    assert rows["crown"][1:5] == ["speech", "0.2000", "0.700", "00:12"]
    assert rows["jewels"][1:3] == ["speech", "0.1500"]
    assert rows["paris"][1:4] == ["metadata", "0.0500", "0.700"]
    assert rows["sum"][1:] == ["0.5000", "=", "score", "0.5000"]
    assert harmless(shown)


def test_json_has_the_fields_of_schema_1() -> None:
    record = json.loads(to_json(search_record(RESULT, "/index")))
    assert record["schema"] == 1
    assert {"query", "index", "hits", "no_good_match"} <= record.keys()
    assert record["notes"] == ["a note"]
    hit = record["hits"][0]
    assert list(hit) == [
        "schema", "rank", "video", "start_s", "end_s", "best_s", "score", "confidence", "modalities",
        "evidence", "unmatched",
    ]  # fmt: skip
    assert list(hit["video"]) == ["id", "path", "title", "duration_s"]
    assert (hit["start_s"], hit["end_s"], hit["best_s"]) == (8.0, 15.0, 12.0)
    assert hit["confidence"] == {"label": "high", "p": 0.99}
    assert hit["modalities"] == {"frames": 0.3, "speech": 0.6, "metadata": 0.2}
    assert hit["video"]["title"] == NASTY_TITLE
    assert record["hits"][1]["start_s"] is None


def test_json_evidence_has_only_what_there_is() -> None:
    first, *_, frame, about = search_record(RESULT, "/index")["hits"][0]["evidence"]
    assert list(first) == [
        "modality", "query_token", "contribution", "start_s", "end_s", "text", "source",
    ]  # fmt: skip
    assert first["text"] == SPEECH
    assert frame["box"] == [0.0, 0.0, 1.0, 1.0]
    assert (about["field"], about["start_s"]) == ("title", None)


def test_json_with_explain_adds_similarity_and_span() -> None:
    first = search_record(RESULT, "/index", explain=True)["hits"][0]["evidence"][0]
    assert first["similarity"] == 0.7
    assert SPEECH[slice(*first["span"])] == "crown"


def test_json_has_no_nan() -> None:
    hit = replace(HIT, score=float("nan"), modalities={Modality.OCR: float("-inf")})
    record = json.loads(to_json(search_record(replace(RESULT, hits=(hit,)), "/index")))
    assert record["hits"][0]["score"] is None
    assert record["hits"][0]["modalities"] == {"ocr": None}


def lines(
    capsys: pytest.CaptureFixture[str],
    chosen: Format,
    result: SearchResult = RESULT,
    explain: bool = False,
) -> str:
    write(result, "/index", chosen, explain=explain)
    return capsys.readouterr().out


def test_ndjson_is_one_hit_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    shown = lines(capsys, Format.NDJSON)
    assert [json.loads(line)["rank"] for line in shown.splitlines()] == [1, 2]
    assert json.loads(shown.splitlines()[0])["evidence"][0]["text"] == SPEECH
    assert harmless(shown)


def test_csv_can_be_read_back_and_holds_no_formula(capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(lines(capsys, Format.CSV))))
    assert [row["rank"] for row in rows] == ["1", "2"]
    assert rows[0]["path"] == "/videos/crown [1].mp4"
    assert rows[0]["title"] == '\'=cmd|"x", [red]title[/red]'
    assert rows[0]["modality"] == "speech"
    assert '"crown jewels"' in rows[0]["quote"]
    assert (rows[0]["start_s"], rows[1]["start_s"]) == ("8.0", "")
    assert rows[0]["unmatched"] == "tower"


def test_paths_are_written_once_and_byte_for_byte(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    odd = replace(HIT, video=replace(HIT.video, path="/v/\udcff.mp4"))
    write(replace(RESULT, hits=(HIT, HIT, odd)), "/index", Format.PATHS, explain=False)
    assert capfdbinary.readouterr().out == b"/videos/crown [1].mp4\n/v/\xff.mp4\n"


def test_machine_formats_tell_of_no_match_on_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for chosen in (Format.NDJSON, Format.PATHS):
        write(EMPTY, "/index", chosen, explain=False)
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "no good match" in captured.err
        assert "note: a note" in captured.err


@pytest.mark.parametrize("chosen", [Format.JSON, Format.NDJSON])
def test_json_is_valid_on_an_ascii_stream(chosen: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="replace")
    monkeypatch.setattr("sys.stdout", stream)
    write(RESULT, "/index", chosen, explain=False)
    stream.flush()
    assert "👑" in json.dumps(
        json.loads(stream.buffer.getvalue().decode().splitlines()[0])
        if chosen is Format.NDJSON
        else json.loads(stream.buffer.getvalue()),
        ensure_ascii=False,
    )


def test_videos_in_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    render_lists.print_videos([VIDEO])
    shown = capsys.readouterr().out
    assert "/videos/crown [1].mp4  (file is gone)" in shown
    assert "1:02:05" in shown
    assert "sidecar:a.srt" in shown
    assert "keyframes" not in shown
    render_lines.write_videos([VIDEO], "/index", Format.JSON)
    assert json.loads(capsys.readouterr().out)["videos"][0]["n_tokens"] == {"speech": 1234}
    render_lines.write_videos([VIDEO], "/index", Format.NDJSON)
    assert json.loads(capsys.readouterr().out)["title"] == NASTY_TITLE
    render_lines.write_videos([VIDEO], "/index", Format.CSV)
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (row["speech_tokens"], row["ocr_tokens"], row["missing"]) == ("1234", "0", "true")
    render_lists.print_videos([])
    assert "mmretrieve index" in capsys.readouterr().out


def test_info_names_what_needs_attention(capsys: pytest.CaptureFixture[str]) -> None:
    render_lists.print_info(INFO, [VIDEO])
    shown = capsys.readouterr().out
    assert "1,234 (frames 0, speech 1,234, ocr 0, metadata 0)" in shown
    assert "3.0 kB (videos 1.0 kB, passages 2.0 kB)" in shown
    assert "/videos/bad.mp4: cannot be decoded [x]" in shown
    assert "--retry-failed" in shown
    assert "--prune" in shown
    assert harmless(shown)
    render_lists.print_info(replace(INFO, failures=()), [])
    assert "no failures" in capsys.readouterr().out
    record = json.loads(to_json(info_record(INFO, 1)))
    assert (record["schema"], record["n_missing"], record["n_tokens"]) == (1, 1, {"speech": 1234})


def test_report_record() -> None:
    record = json.loads(to_json(report_record(REPORT, "/index", dry_run=False)))
    assert record["schema"] == 1
    assert record["counts"]["failed"] == 1
    assert record["results"][0]["n_tokens"] == {"ocr": 5}
    assert record["results"][0]["stage_s"] == {"text": 1.0}
    assert record["results"][1]["error"] == "cannot be decoded\nat all"


def test_plain_progress_is_one_line_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    with shown_progress(quiet=False, verbose=True) as on_progress:
        for n, result in enumerate(REPORT.results, 1):
            on_progress(Progress(n, 2, 10.0, 2.0, 1.0, result))
    assert capsys.readouterr().err.splitlines() == [
        "[1/2] indexed /v/a.mp4 00:10 in 2.0 s, ocr 5 [text 1.0 s]",
        "  warning: odd",
        "[2/2] failed /v/b.mp4: cannot be decoded at all",
    ]


def test_quiet_progress_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with shown_progress(quiet=True, verbose=False) as on_progress:
        on_progress(Progress(1, 2, 10.0, 2.0, 1.0, REPORT.results[0]))
    assert capsys.readouterr().err == ""


def test_bar_shows_failures_above_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmretrieve.cli.progress.stderr_is_terminal", lambda: True)
    with shown_progress(quiet=False, verbose=False) as on_progress:
        for n, result in enumerate(REPORT.results, 1):
            on_progress(Progress(n, 2, 10.0, 2.0, 1.0, result))
    shown = capsys.readouterr().err
    assert "cannot be decoded at all" in shown
    assert harmless(shown)


def test_status() -> None:
    progress = Progress(1, 4, 80.0, 16.0, 48.0, REPORT.results[0])
    assert status(progress, 1) == "1/4 files, 01:20 of video, 5.0 x real time, 48 s to go, 1 failed"
    assert status(replace(progress, n_done=4, done_s=0.0), 0) == "4/4 files"


def test_unchanged_files_have_a_line_of_their_own() -> None:
    assert list(file_lines(FileResult("/v/a.mp4", Outcome.MOVED), verbose=False)) == [
        "moved     /v/a.mp4"
    ]


def test_say_is_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("a\x1b[2Jb\nc", indent=2)
    assert capsys.readouterr().err == "  ab c\n"


def test_paths_below_the_working_directory_are_short(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    near = replace(HIT, video=replace(HIT.video, path=str(tmp_path / "a.mp4")))
    assert "  a.mp4  " in table(capsys, replace(RESULT, hits=(near,)))
