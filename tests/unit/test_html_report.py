"""The HTML report: complete, self-contained, and nothing in it but text."""

from __future__ import annotations

from html.parser import HTMLParser
from xml.etree import ElementTree

from mmretrieve.datatypes import Modality
from mmretrieve.evaluation import svg
from mmretrieve.evaluation.experiment import measure_runs
from mmretrieve.evaluation.html import charts, page
from mmretrieve.evaluation.importance import importance
from mmretrieve.evaluation.intervals import Difference
from mmretrieve.evaluation.measures import parse_measures
from mmretrieve.evaluation.modality import modality_report
from mmretrieve.evaluation.probes import Probe
from mmretrieve.evaluation.results import Drop, Results
from mmretrieve.evaluation.trec import Qrels, Run

EVIL = "<script>alert('x')</script>\"&"
FR, SP = Modality.FRAMES, Modality.SPEECH


def results() -> Results:
    qrels = Qrels({"1": {"a": 1}, "2": {"b": 1}})
    runs = [
        Run("token_max", {"1": {"a": 1.0}, "2": {"b": 1.0}}),
        Run(EVIL, {"1": {"a": 1.0}, "2": {"a": 1.0}}),
        Run("frames", {"1": {}, "2": {"b": 1.0}}),
    ]
    comparison = measure_runs(
        qrels, runs, parse_measures("R@1,nDCG@10"), {"1": "speech", "2": EVIL}
    )
    drop = Drop(
        Probe.TYPOS, "token_max", "nDCG@10", 0.8, 0.6, Difference(-0.2, -0.3, -0.1, 0.01), 9
    )
    return Results(
        comparison,
        {EVIL: modality_report([FR, SP], [(FR,), (FR,)])},
        comparison,
        importance("nDCG@10", [FR, SP], {
            frozenset([FR]): [1.0, 0.0], frozenset([SP]): [0.0, 0.0], frozenset([FR, SP]): [1.0, 1.0]
        }),
        (drop,),
        (EVIL,),
    )  # fmt: skip


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag, attrs) -> None:
        self.seen.add(tag)
        self.attributes += attrs
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.seen.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.text += data


def test_everything_is_in_it_and_nothing_is_fetched_or_run() -> None:
    tags = Tags()
    tags.feed(page(results(), EVIL, ["about <b>this</b>"]))
    assert tags.open == []
    assert not tags.seen & {"script", "img", "link", "iframe", "b", "a"}
    names = {name for name, _ in tags.attributes}
    assert not any(n.startswith("on") or n in ("src", "href") for n in names)
    assert EVIL in tags.text
    assert "about <b>this</b>" in tags.text
    for part in ("0.500 [0.000, 1.000]", "Modality importance", "typos", "-0.200 [-0.300, -0.100]",
                 "Moments: Mean over queries"):  # fmt: skip
        assert part in tags.text


def test_charts_are_sound_xml_with_the_right_lengths() -> None:
    found = charts(results())
    assert [title.split(" ")[0] for title, _ in found] == [
        "nDCG@10",
        "nDCG@10",
        "Queries",
        "nDCG@10",
    ]
    for _, chart in found:
        ElementTree.fromstring(chart)
    assert "frames: 0.500" in found[1][1]
    drawn = ElementTree.fromstring(
        svg.bars("t", [svg.Bar("a", 1.0, 1.0, 1.0), svg.Bar("b", 0.5, 0.25, 0.75)])
    )
    boxes = [float(e.attrib["width"]) for e in drawn if e.tag.endswith("rect")]
    assert boxes[1] == boxes[0] / 2
    lines = [e.attrib for e in drawn if e.tag.endswith("line")]
    spans = [float(e["x2"]) - float(e["x1"]) for e in lines]
    assert spans[2] == boxes[1]


def test_drops_are_drawn_to_the_left() -> None:
    drawn = ElementTree.fromstring(svg.bars("t", [svg.Bar("a", -0.2, -0.3, -0.1)]))
    (axis, _) = (e for e in drawn if e.tag.endswith("line"))
    (box,) = (e for e in drawn if e.tag.endswith("rect"))
    right = float(box.attrib["x"]) + float(box.attrib["width"])
    assert abs(right - float(axis.attrib["x1"])) < 0.11
    assert float(box.attrib["width"]) > 100
