"""``mmretrieve synthesize-queries``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from mmretrieve.cli.console import emit, say
from mmretrieve.cli.options import (
    IndexOption,
    ReportFormat,
    ReportFormatOption,
    VerboseOption,
    parse_modalities,
    resolve_report,
)
from mmretrieve.errors import UsageError

_KEY_VARIABLE = "OPENAI_API_KEY"
_EVERY = 20

OutputOption = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="*.json: one query a video, as MultiVENT 2.0++. *.jsonl: rows with content and frames, a "
        "row a video and modality, as `mmretrieve train` reads them.",
    ),
]
InOption = Annotated[
    str | None, typer.Option("--in", metavar="MODALITY,...", help="Only from these modalities.")
]
EndpointOption = Annotated[
    str | None,
    typer.Option(
        "--endpoint",
        metavar="URL",
        help="A server that speaks OpenAI's protocol, as http://127.0.0.1:8000/v1; without one, "
        "queries are made of distinctive phrases.",
    ),
]
ModelOption = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="The model to ask, with --endpoint.")
]
KeyOption = Annotated[
    str, typer.Option("--key-env", metavar="NAME", help="The variable that holds the key, if any.")
]
TimeoutOption = Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="Of a request.")]
RetriesOption = Annotated[int, typer.Option("--retries", min=0, help="After a failure.")]
JobsOption = Annotated[int, typer.Option("--jobs", min=1, max=64, help="Requests at a time.")]


def synthesize_queries(
    output: OutputOption,
    index: IndexOption = None,
    modalities: InOption = None,
    endpoint: EndpointOption = None,
    model: ModelOption = None,
    key_env: KeyOption = _KEY_VARIABLE,
    timeout: TimeoutOption = 60.0,
    retries: RetriesOption = 4,
    jobs: JobsOption = 2,
    chosen: ReportFormatOption = ReportFormat.AUTO,
    verbose: VerboseOption = False,
) -> None:
    """Make queries that aim at one modality of one video, from everything in the index.

    To measure with (mmretrieve eval FILE.json --layout multivent2pp) and to train on (mmretrieve
    train FILE.jsonl). The content that is asked about is sent to the server named by --endpoint, and
    nowhere else. A run that was broken off goes on when the same command is given again.
    """
    if (endpoint is None) != (model is None):
        raise UsageError("--endpoint and --model belong together: give both, or neither")
    from mmretrieve.engine import Engine
    from mmretrieve.experiments.synthesis.endpoint import Endpoint
    from mmretrieve.experiments.synthesis.run import Wanted, synthesize

    server = None
    if endpoint is not None and model is not None:
        server = Endpoint(endpoint, model, os.environ.get(key_env) or None, timeout, retries)
    wanted = Wanted(output, parse_modalities(modalities), server, jobs)
    with Engine.open(index) as engine:
        report = synthesize(engine, wanted, _tell if server is not None else None)
    counts = {m.value: n for m, n in report.n_queries.items()}
    if resolve_report(chosen) is ReportFormat.JSON:
        about = {"output": str(output), "n_queries": counts, "n_contents": report.n_contents,
                 "n_resumed": report.n_resumed, "n_empty": report.n_empty}  # fmt: skip
        emit(json.dumps(about))
        return
    shown = ", ".join(f"{n:,} {name}" for name, n in counts.items() if n)
    emit(f"{output}: {sum(counts.values()):,} queries ({shown})")
    if report.n_resumed:
        emit(f"{report.n_resumed:,} of {report.n_contents:,} were made before")
    if report.n_empty:
        emit(f"{report.n_empty:,} of {report.n_contents:,} gave no query")


def _tell(n_done: int, n_total: int) -> None:
    if n_done % _EVERY == 0 or n_done == n_total:
        say(f"{n_done:,} of {n_total:,}")
