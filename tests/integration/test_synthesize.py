"""``mmretrieve synthesize-queries`` on a small library, and what the files are good for."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from mmretrieve import Engine
from mmretrieve.cli.app import app
from mmretrieve.datatypes import Modality, Segment
from mmretrieve.documents import Document, Picture
from mmretrieve.evaluation.datasets.readers import read_collection

pytestmark = pytest.mark.slow

SAID = {
    "bread": ("we knead the sourdough slowly", "Rye flour mill"),
    "train": ("the night train leaves Lisbon", "Platform nine departures"),
    "whale": ("humpback whales sing in winter", "Marine biology lecture"),
    "chess": ("the queen takes the rook", "World championship final"),
}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library") / "index"
    pixels = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), dtype=np.uint8)
    documents = []
    for name, (said, written) in SAID.items():
        shown = tuple(Picture(p, float(i), i + 1.0) for i, p in enumerate(pixels))
        segments = {Modality.SPEECH: (Segment(said, 0.0, 2.0),),
                    Modality.OCR: (Segment(written, 0.0, 2.0),)}  # fmt: skip
        documents.append(
            Document(name, segments=segments, pictures=shown if name == "bread" else ())
        )
    with Engine.create(folder) as engine:
        engine.index(documents)
    return folder


class ModelServer:
    """A model that repeats the longest line that it is shown, and can fall ill."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.fails_from: int | None = None
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                ill = owner.fails_from is not None and len(owner.asked) >= owner.fails_from
                if not ill:
                    owner.asked.append(body["messages"][1]["content"])
                reply = json.dumps({"choices": [{"message": {"content": owner.answer(body)}}]})
                self.send_response(500 if ill else 200)
                self.end_headers()
                self.wfile.write(reply.encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def answer(self, body: Any) -> str:
        shown = body["messages"][1]["content"]
        if isinstance(shown, list):
            return f"{len(shown) - 1} pictures"
        lines: list[str] = shown.split("<content>")[1].split("\n")[1:-1]
        return "Query: " + max(lines, key=len)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    made = ModelServer()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def run(*args: object) -> Result:
    return CliRunner().invoke(app, ["synthesize-queries", *map(str, args), "--format", "json"])


def test_phrases_in_the_layout_that_eval_reads(index: Path, tmp_path: Path) -> None:
    output = tmp_path / "queries.json"
    result = run("--index", index, "-o", output)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["n_queries"]["speech"] == 2
    table = json.loads(output.read_text())
    assert set(table) == set(SAID)
    assert all(set(row) == {"query", "query_type"} for row in table.values())
    assert [table[name]["query_type"] for name in sorted(SAID)] == ["asr", "ocr", "asr", "ocr"]
    assert table["train"] == {"query": "night train leaves Lisbon", "query_type": "asr"}
    assert not list(tmp_path.glob("*.partial"))
    again = tmp_path / "again.json"
    run("--index", index, "-o", again)
    assert again.read_bytes() == output.read_bytes()

    args = ["eval", str(output), "--layout", "multivent2pp", "--index", str(index)]
    measured = CliRunner().invoke(app, [*args, "--format", "json"])
    assert measured.exit_code == 0, measured.output
    rows = json.loads(measured.stdout)["runs"]
    every = next(row for row in rows if row["queries"] == "all")
    assert every["n_queries"] == 4
    assert every["measures"]["R@1"]["mean"] == 1.0
    assert {row["queries"] for row in rows} == {"all", "asr", "ocr"}


def test_rows_to_train_on(index: Path, tmp_path: Path) -> None:
    output = tmp_path / "rows.jsonl"
    assert run("--index", index, "-o", output, "--in", "speech,ocr").exit_code == 0
    collection = read_collection("multivent2pp", output)
    assert [(q.relevant[0], q.query_type) for q in collection.queries] == [
        (name, kind) for name in sorted(SAID) for kind in ("asr", "ocr")
    ]
    documents = {document.doc_id: document for document in collection.documents}
    assert documents["whale"].segments[Modality.SPEECH][0].text == SAID["whale"][0]
    assert [picture.pixels().shape[2] for picture in documents["bread"].pictures] == [3, 3]
    assert documents["train"].pictures == ()


def test_a_model_is_shown_one_modality_of_one_video(
    index: Path, tmp_path: Path, model: ModelServer
) -> None:
    output = tmp_path / "rows.jsonl"
    args = ("--index", index, "-o", output, "--endpoint", model.url, "--model", "m", "--jobs", 1)
    result = run(*args)
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    found = {(row["video_id"], row["query_type"]): row["query"] for row in rows}
    expected = {
        (n, k): t for n, texts in SAID.items() for k, t in zip(("asr", "ocr"), texts, strict=True)
    }
    assert found == {**expected, ("bread", "video"): "2 pictures"}
    for text in (t for t in model.asked if isinstance(t, str)):
        assert sum(line in text for texts in SAID.values() for line in texts) == 1
    (shown,) = (parts for parts in model.asked if not isinstance(parts, str))
    assert shown[1]["image_url"]["url"].startswith("data:image/jpeg;base64,/9j/")
    assert "9 of 9" in result.stderr


def test_a_run_that_was_broken_off_goes_on(index: Path, tmp_path: Path, model: ModelServer) -> None:
    output = tmp_path / "queries.json"
    args = ("--index", index, "-o", output, "--endpoint", model.url, "--model", "m",
            "--jobs", 1, "--retries", 0)  # fmt: skip
    model.fails_from = 5
    broken = run(*args)
    assert broken.exit_code == 4
    assert "HTTP 500" in broken.stderr
    assert "what is done is kept" in broken.stderr
    assert not output.exists()
    with (tmp_path / "queries.json.partial").open("a") as file:
        file.write('{"video_id": "cha')  # as a crash leaves it
    model.fails_from = None
    kept = {json.dumps(asked) for asked in model.asked}
    n_before = len(model.asked)
    result = run(*args)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["n_resumed"] == 5
    fresh = [json.dumps(asked) for asked in model.asked[n_before:]]
    assert len(fresh) == 4
    assert not kept & set(fresh)
    assert set(json.loads(output.read_text())) == set(SAID)
    # Another model makes its own.
    other = run(*args[:-4], "--model", "other", "--retries", 0)
    assert json.loads(other.stdout)["n_resumed"] == 0


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--endpoint", "http://127.0.0.1:9/v1"), 2, "belong together"),
        (("--endpoint", "ftp://x", "--model", "m"), 2, "expected an address"),
        (("-o", "queries.txt"), 2, "ends in .json"),
        (("-o", "no/such/folder/q.json"), 2, "there is no folder"),
        (("--in", "sound"), 2, "expected one of"),
        (("--index", "nowhere"), 4, "no index"),
    ],
)
def test_bad_wishes(
    args: tuple[str, ...], code: int, said: str, index: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    result = run("--index", index, "-o", "queries.json", *args)
    assert result.exit_code == code, result.output
    assert said in result.stderr
    assert "Traceback" not in result.output
