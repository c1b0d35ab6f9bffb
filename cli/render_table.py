"""Hits for people: what, where, how sure, and the evidence below it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from mmretrieve.cli.console import out
from mmretrieve.cli.evidence import Quote, excerpt, merge_spans, quotes, words
from mmretrieve.cli.text import clean, plural, shown_path
from mmretrieve.cli.times import clock, clock_range, took
from mmretrieve.datatypes import ConfidenceLabel, Evidence, Hit, Modality, SearchResult

if TYPE_CHECKING:
    from rich.console import Console

MATCH_STYLE = "bold yellow"
_LABEL_STYLES = {
    ConfidenceLabel.HIGH: "bold green",
    ConfidenceLabel.MEDIUM: "green",
    ConfidenceLabel.LOW: "yellow",
    ConfidenceLabel.NONE: "dim",
}
_QUOTES_PER_MODALITY = 2
_INDENT = " " * 5
_MIN_QUOTE, _MAX_QUOTE = 40, 160


def print_result(result: SearchResult, *, explain: bool = False) -> None:
    """The answer as a list of hits; a clear line when it is none."""
    console = out()
    if result.no_good_match or not result.hits:
        _line(console, no_match_line(result))
    for hit in result.hits:
        print_hit(console, hit, result.query, explain=explain)
    if result.hits:
        _line(console, Text(_summary(result), "dim"))
    if explain:
        _line(console, Text(f"found by {result.plan}", "dim"))


def no_match_line(result: SearchResult) -> Text:
    """Says that nothing answers the query, and what the hits below it are."""
    text = Text().append("no good match", "bold yellow")
    text.append(f" for {clean(result.query)!r} in {plural(result.n_videos_searched, 'video')}")
    if result.hits:
        text.append("; the nearest, though they do not stand out from chance:")
    return text


def print_hit(console: Console, hit: Hit, query: str, *, explain: bool) -> None:
    """One hit: a head line, its evidence, and the words that nothing matched."""
    _line(console, _head(hit))
    if explain:
        print_evidence(console, hit, query)
    else:
        for quote in _shown(quotes(hit, query)):
            _line(console, quote_line(quote, console))
    if hit.unmatched:
        unmatched = ", ".join(clean(word) for word in hit.unmatched)
        _line(console, Text(f"{_INDENT}nothing matched: {unmatched}", "dim"))
    _line(console, Text())


def print_evidence(console: Console, hit: Hit, query: str) -> None:
    """What each word of the query earned, through which modality, where; and the sum."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("word", "modality"):
        table.add_column(name, no_wrap=True)
    for name in ("contribution", "similarity"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("time", no_wrap=True)
    table.add_column("text", overflow="fold")
    for word in words(hit.evidence, query):
        for row in _by_modality(word.evidence):
            table.add_row(Text(clean(word.text)), *_evidence_row(row, console))
    total = sum(item.contribution for item in hit.evidence)
    table.add_row("sum", "", f"{total:.4f}", "", "", Text(f"= score {hit.score:.4f}", "dim"))
    console.print(_indented(table))


def _evidence_row(items: list[Evidence], console: Console) -> tuple[Text, ...]:
    best = max(items, key=lambda item: item.contribution)
    mine = [item.span for item in items if (item.text, item.start_s) == (best.text, best.start_s)]
    quote = Quote(
        best.modality, best.start_s, best.text, best.field, merge_spans(mine, best.text), (), 0.0
    )
    return (
        Text(best.modality.value),
        Text(f"{sum(item.contribution for item in items):.4f}"),
        Text(f"{best.similarity:.3f}"),
        Text(_when(best.start_s, best.end_s if best.modality is Modality.AUDIO else None)),
        _quoted(quote, console, 80),
    )


def _by_modality(evidence: Iterable[Evidence]) -> list[list[Evidence]]:
    rows: dict[Modality, list[Evidence]] = {}
    for item in evidence:
        rows.setdefault(item.modality, []).append(item)
    return list(rows.values())


def _head(hit: Hit) -> Text:
    label = hit.confidence.label
    text = Text().append(f"{hit.rank:>3}  ", "bold")
    text.append(f"{clock_range(hit.moment.start_s, hit.moment.end_s)}  ", "bold cyan")
    text.append(f"{shown_path(hit.video.path)}  ", "bold")
    text.append(
        "no confidence" if label is ConfidenceLabel.NONE else label.value, _LABEL_STYLES[label]
    )
    text.append(f"  {hit.score:.3f}", "dim")
    return text


def _shown(found: Iterable[Quote]) -> list[Quote]:
    shown: list[Quote] = []
    for quote in found:
        if sum(other.modality is quote.modality for other in shown) < _QUOTES_PER_MODALITY:
            shown.append(quote)
    return shown


def quote_line(quote: Quote, console: Console) -> Text:
    """One line below a hit: modality, time, and the quote."""
    text = Text(f"{_INDENT}{quote.modality.value:<9}")
    where = _when(quote.start_s, quote.end_s)
    text.append(f"{where:<5}  " if where else "", "cyan")
    room = max(_MIN_QUOTE, min(_MAX_QUOTE, console.width - len(text) - 4))
    return text.append_text(_quoted(quote, console, room))


def _when(start_s: float | None, end_s: float | None) -> str:
    """``00:03``, ``00:03-00:05``, or nothing for what has no times."""
    if start_s is None:
        return ""
    same = end_s is None or clock(end_s) == clock(start_s)
    return clock(start_s) if same else clock_range(start_s, end_s)


def _quoted(quote: Quote, console: Console, room: int) -> Text:
    if quote.modality in (Modality.FRAMES, Modality.AUDIO):
        return _seen(quote)
    text = Text().append(f"{clean(quote.field)}: " if quote.field else "", "dim")
    text.append('"')
    for part, matched in excerpt(quote, room):
        if matched and not console.is_terminal:
            text.append(f"**{clean(part)}**")
        else:
            text.append(clean(part), MATCH_STYLE if matched else "")
    return text.append('"')


def _seen(quote: Quote) -> Text:
    if quote.text:
        return Text("looks like: ").append(clean(quote.text), MATCH_STYLE)
    return Text(f"matches: {', '.join(clean(word) for word in quote.words)}" if quote.words else "")


def _summary(result: SearchResult) -> str:
    shown = plural(len(result.hits), "hit")
    videos = plural(result.n_videos_searched, "video")
    tokens = plural(result.n_tokens_searched, "token")
    return f"{shown} from {videos} ({tokens}) in {took(result.took_s)}"


def _indented(table: Table) -> Table:
    outer = Table.grid(padding=0)
    outer.add_column(width=len(_INDENT))
    outer.add_column()
    outer.add_row("", table)
    return outer


def _line(console: Console, text: Text) -> None:
    console.print(text, soft_wrap=True)
