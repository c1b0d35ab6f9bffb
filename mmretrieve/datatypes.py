"""Records that cross module boundaries. Frozen, slotted, no behaviour beyond derived properties.

Times are seconds from the start of the video (``float``); boxes are ``(x0, y0, x1, y1)`` as
fractions of the displayed frame, so they hold at any resolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Box = tuple[float, float, float, float]


class Modality(StrEnum):
    """What kind of content a token came from. The order is the order of columns everywhere."""

    FRAMES = "frames"
    SPEECH = "speech"
    OCR = "ocr"
    METADATA = "metadata"
    AUDIO = "audio"


MODALITIES: tuple[Modality, ...] = tuple(Modality)

COMMON: tuple[Modality, ...] = tuple(m for m in Modality if m is not Modality.AUDIO)
"""What every encoder makes tokens of. Sound itself is for those that hear, so an index may know nothing
of it, and what is shown of an index names it only where there is some."""

Fact = str | int | float | bool | tuple[str, ...]
"""What can be known about a video and asked for with a filter."""


class Aggregation(StrEnum):
    """How per-modality maxima become one score (see ``mmretrieve.scoring.aggregation``)."""

    TOKEN_MAX = "token_max"
    MODALITY_MAX = "modality_max"
    WEIGHTED = "weighted"


class Way(StrEnum):
    """Everything that can rank documents for a query: the aggregations, and what papers compare
    them with (:mod:`mmretrieve.search.ways` says what each one is)."""

    TOKEN_MAX = "token_max"
    MODALITY_MAX = "modality_max"
    WEIGHTED = "weighted"
    CLAMR = "clamr"
    MEAN = "mean"
    RRF = "rrf"
    ROUTE = "route"
    POOLED = "pooled"
    GRAMIAN = "gramian"
    BM25 = "bm25"
    FRAMES = "frames"
    SPEECH = "speech"
    OCR = "ocr"
    METADATA = "metadata"
    AUDIO = "audio"


class GroupBy(StrEnum):
    """What a hit is: one moment of a video, or a video with its best moment."""

    MOMENT = "moment"
    VIDEO = "video"


class ConfidenceLabel(StrEnum):
    """How surely a hit is no accident, worst first."""

    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Segment:
    """The smallest thing that evidence can cite: a subtitle line, a line on screen, a metadata
    field, a region of a keyframe, a stretch of sound.

    ``text`` is what was said or written; for a region of a keyframe it is a label, or empty; for sound
    it is empty. Metadata has no times. ``field`` names the metadata field. ``confidence`` is in 0..1.
    """

    text: str
    start_s: float | None = None
    end_s: float | None = None
    confidence: float = 1.0
    box: Box | None = None
    field: str | None = None


@dataclass(frozen=True, slots=True)
class Keyframe:
    """A frame that stands for (part of) a shot. ``image`` is ``(height, width, 3)`` uint8 RGB as
    displayed (rotation applied); ``start_s``/``end_s`` bound the part of the shot it stands for."""

    time_s: float
    start_s: float
    end_s: float
    image: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Sound:
    """A stretch of sound on the timeline of the pictures: ``samples`` ``(n,)`` float32 in -1..1, mono, the
    first at ``start_s``."""

    start_s: float
    samples: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TracePoint:
    """The picture at ``time_s``, as 9 rows of 12 bytes of luma."""

    time_s: float
    luma: bytes


@dataclass(frozen=True, slots=True)
class Probe:
    """Facts of a media file read without decoding it."""

    duration_s: float
    container: str
    size_bytes: int
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    video_codec: str | None = None
    audio_codec: str | None = None
    rotation_deg: int = 0
    n_audio_streams: int = 0
    n_subtitle_streams: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_video(self) -> bool:
        return self.video_codec is not None

    @property
    def has_audio(self) -> bool:
        return self.audio_codec is not None


@dataclass(frozen=True, slots=True)
class Passage:
    """A time window of one video with the segments of *one* modality in it.

    The metadata passage has number -1 and no times. ``source`` says where the content came from
    (``sidecar:talk.srt``, ``stream:2``, ``asr:tiny.en``, ``rapidocr``, ...).
    """

    number: int
    modality: Modality
    start_s: float | None
    end_s: float | None
    segments: tuple[Segment, ...]
    source: str


METADATA_PASSAGE = -1


@dataclass(frozen=True, slots=True)
class TokenEmbeddings:
    """The multi-vector of one passage and modality.

    ``vectors``: ``(n_tokens, dim)`` float32, rows of unit length. ``segment``: ``(n_tokens,)``
    int32, which segment of the passage a token belongs to. ``char_start``/``char_end``:
    ``(n_tokens,)`` int32, the token's span in that segment's text (both 0: the whole segment).
    """

    vectors: NDArray[np.float32]
    segment: NDArray[np.int32]
    char_start: NDArray[np.int32]
    char_end: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class QueryTokens:
    """A query as the scorer sees it. ``vectors``: space name -> ``(n_query_tokens, dim)`` float32,
    rows of unit length; ``texts``: what each token stands for; ``word``: ``(n_query_tokens,)``
    int32, index of the word of the query that the token is part of; ``n_dropped``: tokens beyond
    what the encoder takes, which do not take part."""

    text: str
    vectors: Mapping[str, NDArray[np.float32]]
    texts: tuple[str, ...]
    word: NDArray[np.int32]
    n_dropped: int = 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """One query token's share of a score, and the token of the video that earned it.

    The contributions of a hit's evidence add up to its score. ``text`` is the segment's text and
    ``span`` the matched part of it.
    """

    query_token: str
    modality: Modality
    contribution: float
    similarity: float
    passage: int
    start_s: float | None
    end_s: float | None
    text: str
    span: tuple[int, int]
    box: Box | None
    field: str | None
    source: str


@dataclass(frozen=True, slots=True)
class Confidence:
    """How surely a hit is no accident. ``p`` is the probability that the index answers the query with
    it, where half of the queries have an answer (:mod:`mmretrieve.scoring.answered`); for presets other than
    ``lite``, and for scores that are not above chance, the share of unanswerable queries whose best score in
    this index stays below the hit's."""

    label: ConfidenceLabel
    p: float


@dataclass(frozen=True, slots=True)
class VideoRef:
    """What a hit says about its video."""

    video_id: str
    path: str
    title: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class Moment:
    """An answer: a stretch of one video. Times are ``None`` when only metadata matched."""

    start_s: float | None
    end_s: float | None
    best_s: float | None
    score: float


@dataclass(frozen=True, slots=True)
class Hit:
    """One ranked answer. ``modalities`` holds the mean similarity of each modality that the video
    has; ``unmatched`` the words of the query for which nothing in the video scored above chance."""

    rank: int
    video: VideoRef
    moment: Moment
    score: float
    confidence: Confidence
    modalities: Mapping[Modality, float]
    evidence: tuple[Evidence, ...]
    unmatched: tuple[str, ...]
    thumbnail: bytes | None = None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Everything that one query returned; ``no_good_match`` is true when no hit stands out from
    chance, whatever was returned. ``plan`` says how the hits were found, and by which kernels."""

    query: str
    aggregation: Aggregation | Way
    hits: tuple[Hit, ...]
    no_good_match: bool
    n_videos_searched: int
    n_tokens_searched: int
    took_s: float
    notes: tuple[str, ...] = ()
    plan: str = ""


@dataclass(frozen=True, slots=True)
class Filter:
    """What may be ranked at all; applied before scoring. ``where`` pairs are ANDed.

    ``video_glob`` matches the path as stored, the file name, or is a video id; ``phrase`` must
    occur word for word (case folded) in speech or on-screen text of the passage.
    """

    modalities: tuple[Modality, ...] = MODALITIES
    video_glob: str | None = None
    where: tuple[tuple[str, str], ...] = ()
    from_s: float | None = None
    to_s: float | None = None
    phrase: str | None = None
