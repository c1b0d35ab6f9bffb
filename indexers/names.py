"""Words from file names, folder names and addresses."""

from __future__ import annotations

import re
from datetime import date
from urllib.parse import unquote, urlsplit

MAX_NAME_CHARS = 300

_JUNK_WORDS = """
1080p 1080i 720p 576p 540p 480p 360p 240p 144p 2160p 1440p 4k 8k uhd fhd hdr hdr10 sdr 60fps 30fps
25fps 24fps 50fps x264 x265 h264 h265 hevc avc av1 vp8 vp9 xvid divx 8bit 10bit aac ac3 eac3 dts
ddp5 flac opus webrip webdl bluray brrip bdrip dvdrip hdtv hdrip remux repack proper
"""
_JUNK = frozenset(_JUNK_WORDS.split())
_CAMERA = frozenset({"vid", "img", "mvi", "dsc", "dscn", "pxl", "mov", "gopr", "gx", "gh"})
_PLACES = """
video videos movie movies media file files clip clips download downloads desktop documents dcim data
tmp temp new folder untitled home root user users mnt share shared public library assets content
"""
_GENERIC_FOLDERS = frozenset(_PLACES.split())

_VIDEO_ID = re.compile(r"[\[(](?=[\w-]*[A-Z\d_-])[\w-]{11}[\])]\s*$")
_BARE_ID = re.compile(r"-(?=[\w-]*\d)(?=[\w-]*[a-z])(?=[\w-]*[A-Z])[\w-]{11}$")
_SIZE = re.compile(r"\d{3,4}x\d{3,4}|\d{3,4}[pi]")
_HASH = re.compile(r"(?=.*\d)(?=.*[a-f])[\da-f]{8,64}")
_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_. ]?)([01]\d)\2([0-3]\d)(?!\d)")
_TIME_AFTER_DATE = re.compile(
    r"(\d{4}-\d\d-\d\d)[\sT_-]+[0-2]\d[-_.]?[0-5]\d[-_.]?[0-5]\d\d{0,3}\b"
)
_CAMEL = re.compile(
    r"(?<=[a-z0-9]{2})(?=[A-Z][a-z])|(?<=[a-z]{2})(?=[A-Z])|(?<=[A-Z]{2})(?=[A-Z][a-z]{2})"
    r"|(?<=[A-Za-z]{3})(?=\d{4}$)"
)
_SEPARATORS = re.compile(r"[_+~\s]+|(?<!\d)\.|\.(?!\d)|(?<=\d)\.(?=\d{3,})|-(?!\d\d\b)|(?<!\d)-")
_BRACKETS = re.compile(r"[\[\](){}<>|]")
_URL = re.compile(r"(?:https?://|www\.)[^\s<>\"')\]]+", re.IGNORECASE)
_PATH_WORD = re.compile(r"[^\W\d_]{2,20}")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def name_words(name: str) -> str:
    """A file name without suffix as words, without ids and technical terms; dates are kept.

    >>> name_words("html5rocks_go-to-column"), name_words("My.Talk.1080p.x264 [dQw4w9WgXcQ]")
    ('html5rocks go to column', 'My Talk')
    """
    text = " ".join(_CONTROL.sub(" ", printable(name)[:MAX_NAME_CHARS]).split())
    text = _BARE_ID.sub("", _VIDEO_ID.sub("", text)) or text
    text = _DATE.sub(_iso_date, text)
    text = _TIME_AFTER_DATE.sub(r"\1 ", text)
    if not re.search(r"[\s_.-]", text):
        text = _CAMEL.sub(" ", text)
    words = _BRACKETS.sub(" ", _SEPARATORS.sub(" ", text)).split()
    # One codec in a name may be what the video is about; several technical terms are a label.
    technical = [word for word in words if word.casefold() in _JUNK]
    junk = frozenset(technical if len(technical) > 1 else ())
    kept = [word.strip(".-") for word in words if word not in junk and not _is_code(word)]
    if len(kept) > 1 and kept[0].casefold() in _CAMERA and iso_date(kept[1]):
        kept = kept[1:]
    return " ".join(word for word in kept if word) or " ".join(words) or text


def _is_code(word: str) -> bool:
    low = word.casefold()
    return bool(_SIZE.fullmatch(low) or _HASH.fullmatch(low))


def _iso_date(match: re.Match[str]) -> str:
    year, _, month, day = match.groups()
    found = iso_date(f"{year}{month}{day}")
    return f" {found} " if found else match.group()


def iso_date(text: str) -> str | None:
    """``YYYYMMDD``, ISO dates with or without time, as ``YYYY-MM-DD``; ``None`` for no date.

    Dates before 1971 are what clocks without a battery say.
    """
    match = re.match(r"\s*(\d{4})[-/:.]?(\d\d)[-/:.]?(\d\d)(?!\d)", text[:40])
    try:
        found = date(*(int(part) for part in match.groups())) if match else None
    except ValueError:
        return None
    return found.isoformat() if found is not None and found.year > 1970 else None


def name_date(name: str) -> str | None:
    """The date in a file name, as ``YYYY-MM-DD``."""
    match = _DATE.search(name[:MAX_NAME_CHARS])
    return iso_date("".join(match.group(1, 3, 4))) if match else None


def folder_words(name: str) -> str:
    """A folder's name as words; empty when it says nothing, like ``Downloads``."""
    words = name_words(name)
    telling = [word for word in words.casefold().split() if word not in _GENERIC_FOLDERS]
    return words if any(len(word) > 1 and not word.isdigit() for word in telling) else ""


def shorten_urls(text: str) -> str:
    """Addresses replaced by their host and the words of their path.

    >>> shorten_urls("see https://www.example.org/blog/how-to-cook?utm_source=x")
    'see example.org blog how to cook'
    """
    return _URL.sub(_address_words, text)


def _address_words(match: re.Match[str]) -> str:
    address = match.group().rstrip(".,;:!?")
    try:
        parts = urlsplit(address if "://" in address else "//" + address)
        host = (parts.hostname or "").removeprefix("www.")
    except ValueError:
        return ""
    path = unquote(parts.path)[:MAX_NAME_CHARS]
    segments = [part for part in path.split("/") if not re.search(r"\d[^\W\d]|[a-z][A-Z]", part)]
    words = [word for part in segments for word in _PATH_WORD.findall(part.rsplit(".", 1)[0])]
    return " ".join([host, *words])


def printable(text: str) -> str:
    """Text that can be stored and shown: undecodable bytes of a file name become marks."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
