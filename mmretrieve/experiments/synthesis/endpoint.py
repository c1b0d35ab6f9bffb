"""A server that speaks OpenAI's protocol (``/chat/completions``): vLLM, llama.cpp, Ollama, hosted ones.

Nothing but the standard library. Redirects are not followed, so that the key goes nowhere but to the
server that was named; answers are read up to a bound.
"""

from __future__ import annotations

import json
import math
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from mmretrieve.errors import EndpointError, UsageError
from mmretrieve.experiments.synthesis.material import clean

MOST_CHARACTERS = 200
"""Of a query."""
_MOST_BYTES = 1 << 20
_MOST_WAIT_S = 60.0
_RETRIED = (408, 409, 425, 429, 500, 502, 503, 504)
_PATH = "/chat/completions"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``url``: as ``http://127.0.0.1:8000/v1``. ``key`` goes into the Authorization header. A request is
    tried ``retries`` times more, after waits that double from ``wait_s``."""

    url: str
    model: str
    key: str | None = None
    timeout_s: float = 60.0
    retries: int = 4
    wait_s: float = 1.0
    max_tokens: int = 64

    def __post_init__(self) -> None:
        """Check the address.

        Raises:
            UsageError: no http(s) address, no model, or numbers that cannot be.
        """
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"--endpoint {self.url!r}: expected an address as http://127.0.0.1:8000/v1"
            )
        if not self.model.strip():
            raise UsageError("--model is empty: name the model that the server offers")
        if not (self.timeout_s > 0 and math.isfinite(self.timeout_s)) or self.retries < 0:
            raise UsageError("--timeout must be above 0, --retries at least 0")

    @property
    def address(self) -> str:
        """Where requests go."""
        url = self.url.rstrip("/")
        return url if url.endswith(_PATH) else url + _PATH


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


def ask(
    endpoint: Endpoint,
    messages: Sequence[dict[str, Any]],
    sleep: Callable[[float], None] = time.sleep,
) -> str | None:
    """The query that a model answers with; None for an answer that is none.

    Raises:
        EndpointError: the server cannot be reached, refuses, or sends something else.
    """
    body = {
        "model": endpoint.model,
        "messages": list(messages),
        "max_tokens": endpoint.max_tokens,
        "temperature": 0,
    }
    request = _request(endpoint, body)
    for attempt in range(endpoint.retries + 1):
        try:
            return query_of(_answer(endpoint, request))
        except _RetryError as trouble:
            if attempt == endpoint.retries:
                raise EndpointError(
                    f"{endpoint.address}: {trouble} ({attempt + 1} tries): see that the server runs, "
                    "then run the same command again; what is done is kept"
                ) from trouble
            wait_s = endpoint.wait_s * 2**attempt
            sleep(min(max(wait_s, trouble.wait_s), _MOST_WAIT_S))
    return None


def query_of(answer: object) -> str | None:
    """The query in a chat completion: the first line of its text, harmless and bounded; None where
    there is none.

    Raises:
        EndpointError: no chat completion.
    """
    try:
        text = answer["choices"][0]["message"]["content"]  # type: ignore[index]
    except (KeyError, IndexError, TypeError):
        shown = clean(json.dumps(answer), MOST_CHARACTERS)
        raise EndpointError(
            f"the server's answer has no choices[0].message.content: {shown}"
        ) from None
    if not isinstance(text, str):
        return None
    for line in text.replace("\r", "\n").split("\n"):
        query = clean(line, MOST_CHARACTERS).strip("\"'`* \u201c\u201d\u2018\u2019")
        if query.casefold().startswith("query:"):
            query = query[len("query:") :].strip("\"'`* \u201c\u201d\u2018\u2019")
        if any(c.isalnum() for c in query):
            return query
    return None


class _RetryError(Exception):
    """``wait_s``: how long the server asks to wait."""

    def __init__(self, message: str, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


def _request(endpoint: Endpoint, body: dict[str, Any]) -> urllib.request.Request:
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if endpoint.key:
        headers["Authorization"] = f"Bearer {endpoint.key}"
    data = json.dumps(body).encode()
    return urllib.request.Request(endpoint.address, data, headers, method="POST")


def _answer(endpoint: Endpoint, request: urllib.request.Request) -> object:
    try:
        with _OPENER.open(request, timeout=endpoint.timeout_s) as response:
            raw = response.read(_MOST_BYTES + 1)
    except urllib.error.HTTPError as error:
        with error:
            told = clean(error.read(2000).decode("utf-8", "replace"), 300)
        message = f"HTTP {error.code} {clean(str(error.reason), 60)}: {told}".rstrip(": ")
        if error.code in _RETRIED:
            raise _RetryError(message, _seconds(error.headers.get("Retry-After"))) from error
        raise EndpointError(
            f"{endpoint.address}: {message} (check --endpoint, --model and the key)"
        ) from error
    except (OSError, HTTPException) as error:
        raise _RetryError(f"no answer ({clean(str(error), 200)})") from error
    if len(raw) > _MOST_BYTES:
        raise EndpointError(f"{endpoint.address}: an answer of more than {_MOST_BYTES:,} bytes")
    try:
        return json.loads(raw)
    except ValueError as error:
        shown = clean(raw[:300].decode("utf-8", "replace"), MOST_CHARACTERS)
        raise EndpointError(f"{endpoint.address}: the answer is no JSON: {shown!r}") from error


def _seconds(text: str | None) -> float:
    """A Retry-After in seconds; dates and nonsense count as nothing."""
    try:
        found = float(text or 0)
    except ValueError:
        return 0.0
    return found if math.isfinite(found) and found > 0 else 0.0
