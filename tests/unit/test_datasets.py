"""Readers of published layouts: on the true files, on small ones of the same form, on faulty ones."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from mmretrieve.datatypes import Modality
from mmretrieve.errors import UsageError
from mmretrieve.evaluation.datasets.readers import LAYOUTS, read_collection
from mmretrieve.evaluation.queries import known_only
from mmretrieve.evaluation.trec import Qrels


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text, "utf-8")
    return folder


def rows(*records: object) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def test_the_true_multivent2(shared_data: Path) -> None:
    found = read_collection("multivent2", shared_data / "layouts" / "multivent")
    assert len(found.queries) == len(found.qrels.relevance) == 1361
    kinds = Counter(q.query_type for q in found.queries)
    assert kinds == {"base": 404, "description": 358, "speech": 322, "ocr": 277}
    assert sum(len(judged) for judged in found.qrels.relevance.values()) == 1518
    first = found.queries[0]
    assert (first.text, first.relevant) == (
        "1929 Henry Segrave setting speed records",
        ("PPQVve-Jeb4",),
    )
    assert first.where.endswith("multivent_2_q.csv:2")


def test_the_true_multivent2pp(shared_data: Path) -> None:
    found = read_collection("multivent2pp", shared_data / "layouts" / "multivent2pp")
    kinds = Counter(q.query_type for q in found.queries)
    assert kinds == {"description": 405, "speech": 371, "ocr": 119, "video": 105}
    assert found.queries[0].text == "New media company overcoming bottlenecks"
    assert found.qrels.relevance["train_000340_V_P-s8binZo"] == {"train_000340_V_P-s8binZo": 1}


def test_the_true_msrvtt(shared_data: Path) -> None:
    found = read_collection("msrvtt", shared_data / "layouts" / "msrvtt")
    assert len(found.queries) == 1000
    assert len({q.relevant for q in found.queries}) == 1000
    assert (found.queries[0].query_id, found.queries[0].relevant) == ("ret0", ("video9770",))


MULTIVENT2 = {
    "m_q__csv": 'Query_id,query\nev_ocr_0,"a sign, in red"\nev_base_1,storm\n',
    "m_ids__csv": "id\nv1\nv2\n",
    "m_j__jsonl": rows(
        {"query_id": "ev_ocr_0", "doc_id": "v1", "relevance": 1},
        {"query_id": "ev_base_1", "doc_id": "v2", "relevance": 2},
        {"query_id": "ev_base_1", "doc_id": "v1", "relevance": 0},
        {"query_id": "ev_base_1", "doc_id": "v1", "relevance": 0},
    ),
}


def test_multivent2(tmp_path: Path) -> None:
    content = rows({"video_id": "v1", "asr": "a storm is coming", "images": ["f.jpg"]})
    found = read_collection("multivent2", write(tmp_path, **MULTIVENT2, documents__jsonl=content))
    assert [(q.query_id, q.text, q.query_type, q.relevant) for q in found.queries] == [
        ("ev_ocr_0", "a sign, in red", "ocr", ("v1",)),
        ("ev_base_1", "storm", "base", ("v2",)),
    ]
    assert found.qrels.relevance["ev_base_1"] == {"v2": 2, "v1": 0}
    (document,) = found.documents
    assert document.segments[Modality.SPEECH][0].text == "a storm is coming"
    assert document.pictures[0].image == tmp_path / "f.jpg"


@pytest.mark.parametrize(
    ("file", "text", "line", "said"),
    [
        ("m_q__csv", "id,text\na,b\n", 1, "expected Query_id, query"),
        ("m_q__csv", "Query_id,query\na_ocr_0,x,y\n", 2, "3 columns, expected the 2"),
        ("m_q__csv", "Query_id,query\na_ocr_0,x\na_ocr_0,y\n", 3, "was used at"),
        ("m_q__csv", 'Query_id,query\na_ocr_0,"x\ny"\na_ocr_1, \n', 4, '"query": expected text'),
        ("m_ids__csv", "id\nv1\nv1\n", 3, "is there twice"),
        ("m_j__jsonl", rows({"query_id": "nope", "doc_id": "v1", "relevance": 1}), 1, "is no query"),
        ("m_j__jsonl", rows({"query_id": "ev_ocr_0", "doc_id": "v9", "relevance": 1}), 1, "is no video"),
        ("m_j__jsonl", rows({"query_id": "ev_ocr_0", "doc_id": "v1"}), 1, "expected a number, found nothing"),
        ("m_j__jsonl", rows({"query_id": "ev_ocr_0", "doc_id": "v1", "relevance": 1},
                            {"query_id": "ev_ocr_0", "doc_id": "v1", "relevance": 0}), 2, "judged otherwise"),
        ("m_j__jsonl", "{}\n{nope\n", 1, "expected text, found nothing"),
        ("m_j__jsonl", "\n{nope\n", 2, "not JSON"),
    ],
)  # fmt: skip
def test_faults_of_multivent2_are_placed(
    tmp_path: Path, file: str, text: str, line: int, said: str
) -> None:
    folder = write(tmp_path, **{**MULTIVENT2, file: text})
    with pytest.raises(UsageError, match=said) as raised:
        read_collection("multivent2", folder)
    assert str(raised.value).startswith(f"{folder / file.replace('__', '.')}:{line}: ")


JOINED = {
    "video_id": "v1", "query": "red sign", "query_type": "ocr", "ocr": "STOP\nEXIT",
    "description": "a street", "asr": "honk", "images": ["a.jpg", "b.jpg"],
}  # fmt: skip


def test_joined_rows_of_multivent2pp(tmp_path: Path) -> None:
    second = {**JOINED, "query": "who honks", "query_type": "asr"}
    file = tmp_path / "rows.jsonl"
    file.write_text(rows(JOINED, second, {**JOINED, "video_id": "v2"}), "utf-8")
    found = read_collection("multivent2pp", file)
    assert [(q.query_id, q.query_type, q.relevant) for q in found.queries] == [
        ("v1", "ocr", ("v1",)), ("v1#2", "asr", ("v1",)), ("v2", "ocr", ("v2",)),
    ]  # fmt: skip
    assert [d.doc_id for d in found.documents] == ["v1", "v2"]
    first = found.documents[0]
    assert [p.image for p in first.pictures] == [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    assert [s.text for s in first.metadata] == ["a street"]
    assert read_collection("multivent2pp", tmp_path) == found


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (rows(JOINED, {**JOINED, "asr": "other"}), 2, "was there before with other content"),
        (rows(JOINED, {**JOINED, "query_type": "smell"}), 2, "'smell': expected video, ocr"),
        (rows({**JOINED, "images": [3]}), 1, "expected a list of files"),
        (rows({**JOINED, "ocr": [3]}), 1, '"ocr": expected text'),
        (rows({**JOINED, "video_id": " "}), 1, '"video_id" or "id" or "_id": expected text'),
        (rows({**JOINED, "asr": [{"text": "x", "start_s": 5, "end_s": 1}]}), 1, "times 5.0 to 1.0"),
        (rows({**JOINED, "facts": {"a": None}}), 1, 'fact "a"'),
        ("[1]\n", 1, "expected a JSON object"),
    ],
)
def test_faulty_rows_are_placed(tmp_path: Path, text: str, line: int, said: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(text, "utf-8")
    with pytest.raises(UsageError, match=said) as raised:
        read_collection("multivent2pp", file)
    assert str(raised.value).startswith(f"{file}:{line}: ")


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (
            '{\n"a": {"query": "x", "query_type": "ocr"},\n"a": {"query": "y", "query_type": "ocr"}}',
            2,
            "twice",
        ),
        ('{\n"a": {"query": "x", "query_type": "ocr"},\n"b": 3}', 3, "expected a JSON object"),
        ('{\n"a": {"query": "", "query_type": "ocr"}}', 2, '"query": expected text'),
        ("[]", 1, "one member a video"),
    ],
)
def test_faulty_objects_are_placed(tmp_path: Path, text: str, line: int, said: str) -> None:
    file = write(tmp_path, q__json=text) / "q.json"
    with pytest.raises(UsageError, match=said) as raised:
        read_collection("multivent2pp", tmp_path)
    assert str(raised.value).startswith(f"{file}:{line}: ")


@pytest.mark.parametrize("separator", [";", ","])
def test_msrvtt(tmp_path: Path, separator: str) -> None:
    text = "key;vid_key;video_id;sentence\nret0;msr1;video1;a cat\nret1;msr2;video2;a dog\n"
    write(tmp_path, t__csv=text.replace(";", separator))
    found = read_collection("msrvtt", tmp_path)
    assert [(q.query_id, q.text, q.relevant) for q in found.queries] == [
        ("ret0", "a cat", ("video1",)), ("ret1", "a dog", ("video2",)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("key;video_id\nret0;video1\n", 1, "expected key, video_id, sentence"),
        ("key;video_id;sentence\nr;v;x\nr;w;y\n", 3, "key 'r' was used"),
        ("key;video_id;sentence\nr;v;x\ns;v;y\n", 3, "video 'v' was there"),
    ],
)
def test_faults_of_msrvtt_are_placed(tmp_path: Path, text: str, line: int, said: str) -> None:
    file = write(tmp_path, t__csv=text) / "t.csv"
    with pytest.raises(UsageError, match=said) as raised:
        read_collection("msrvtt", tmp_path)
    assert str(raised.value).startswith(f"{file}:{line}: ")


def test_activitynet(tmp_path: Path) -> None:
    data = {"v_1": {"duration": 80, "timestamps": [[0, 10.5], [40, 20]], "sentences": ["A ", "B"]}}
    found = read_collection("activitynet", write(tmp_path, val__json=json.dumps(data, indent=0)))
    assert [(q.query_id, q.text, q.relevant, q.moments) for q in found.queries] == [
        ("v_1#0", "A", ("v_1",), ((0, 10.5),)), ("v_1#1", "B", ("v_1",), ((20, 40),)),
    ]  # fmt: skip
    data["v_1"]["sentences"] = ["A"]
    write(tmp_path, val__json=json.dumps(data, indent=0))
    with pytest.raises(UsageError, match=r"val\.json:2: .*2 timestamps and 1 sentences"):
        read_collection("activitynet", tmp_path)


TVR = {
    "desc_id": 7, "desc": "She pours tea.", "type": "vt", "vid_name": "s01_clip_02",
    "duration": 60.0, "ts": [3.2, 8.1],
}  # fmt: skip
SUBTITLES = {"vid_name": "s01_clip_02", "sub": [{"text": "More tea?", "start": 3, "end": 4.5}]}


def test_tvr(tmp_path: Path) -> None:
    write(tmp_path, tvr_val__jsonl=rows(TVR), tvqa_subtitles__jsonl=rows(SUBTITLES))
    found = read_collection("tvr", tmp_path)
    (query,) = found.queries
    assert (query.query_id, query.query_type, query.moments) == (
        "7",
        "frames+speech",
        ((3.2, 8.1),),
    )
    (document,) = found.documents
    (line,) = document.segments[Modality.SPEECH]
    assert (line.text, line.start_s, line.end_s) == ("More tea?", 3, 4.5)


@pytest.mark.parametrize(
    ("queries", "subtitles", "place", "said"),
    [
        (rows(TVR, TVR), "", "tvr_val.jsonl:2", "'7' was used at"),
        (rows({**TVR, "ts": [3]}), "", "tvr_val.jsonl:1", r"expected \[start_s, end_s\]"),
        (rows({**TVR, "type": "x"}), "", "tvr_val.jsonl:1", "expected v, t or vt"),
        (rows(TVR), rows(SUBTITLES, SUBTITLES), "subtitles.jsonl:2", "are there twice"),
        (rows(TVR), rows({"vid_name": "a", "sub": [{"text": 3}]}), "subtitles.jsonl:1", "subtitle"),
        (rows(TVR), rows({"vid_name": "a", "sub": 3}), "subtitles.jsonl:1", "expected a list"),
    ],
)
def test_faults_of_tvr_are_placed(
    tmp_path: Path, queries: str, subtitles: str, place: str, said: str
) -> None:
    write(tmp_path, tvr_val__jsonl=queries)
    if subtitles:
        write(tmp_path, subtitles__jsonl=subtitles)
    with pytest.raises(UsageError, match=said) as raised:
        read_collection("tvr", tmp_path)
    assert str(raised.value).startswith(f"{tmp_path / place}: ")


def test_a_folder_of_documents(tmp_path: Path) -> None:
    document = {
        "id": "a", "title": "T", "speech": [{"text": "hi", "start_s": 1, "end_s": 2}, "loose"],
        "facts": {"tags": ["x", "y"], "year": 2020}, "duration_s": 9,
    }  # fmt: skip
    query = {"query_id": "1", "query": "hi", "relevant": ["a"], "moments": [[1, 2]]}
    write(tmp_path, documents__jsonl=rows(document), queries__jsonl=rows(query))
    found = read_collection("folder", tmp_path)
    (given,) = found.documents
    assert [(s.text, s.start_s) for s in given.segments[Modality.SPEECH]] == [
        ("hi", 1),
        ("loose", None),
    ]
    assert (given.duration_s, given.facts["tags"]) == (9, ("x", "y"))
    assert found.queries[0].moments == ((1, 2),)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no layout 'coco': expected one of folder, multivent2"):
        read_collection("coco", tmp_path)
    with pytest.raises(UsageError, match="no such file or folder"):
        read_collection("tvr", tmp_path / "none")
    for layout in set(LAYOUTS) - {"folder"}:
        with pytest.raises(UsageError, match="expected one file of"):
            read_collection(layout, tmp_path)
    write(tmp_path, a__csv="", b__csv="")
    with pytest.raises(UsageError, match=r"found a\.csv, b\.csv: name the file"):
        read_collection("msrvtt", tmp_path)
    with pytest.raises(UsageError, match="empty"):
        read_collection("msrvtt", tmp_path / "a.csv")


def test_queries_that_the_index_can_answer(tmp_path: Path) -> None:
    text = (
        "key;vid_key;video_id;sentence\nr0;m;video1;a cat\nr1;m;video2;a dog\nr2;m;video3;a cow\n"
    )
    found = read_collection("msrvtt", write(tmp_path, t__csv=text))
    paths = {"f00d": "/films/video1.mp4", "video3": "document:video3", "beef": "/films/x.mp4"}
    queries, qrels = known_only(found.queries, found.qrels, paths)
    assert [q.query_id for q in queries] == ["r0", "r2"]
    assert qrels == Qrels({"r0": {"f00d": 1}, "r2": {"video3": 1}})
