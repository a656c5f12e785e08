"""Text to timed words: how long each word takes, and how recognition notes it."""

from __future__ import annotations

import re
from random import Random
from typing import Any

from receiver.sandbox.wire import number, seconds

_SPACED = re.compile(r"\S+\s*")
# Japanese puts no spaces: a run of kanji with its endings, or a run of one kana, is near enough.
_UNSPACED = re.compile(
    r"(?:[一-龯々]+[ぁ-ん]*|[ァ-ヶー]+|[ぁ-ん]+|[^一-龯々ぁ-んァ-ヶー]+?)[、。！？]*"
)
_KANA = re.compile(r"[ぁ-んァ-ヶ]")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")
_LETTER_SECONDS, _DIGIT_SECONDS, _KANA_SECONDS, _KANJI_SECONDS = 0.05, 0.27, 0.12, 0.19


def split_words(text: str) -> list[str]:
    """Split into words that carry their trailing space, so that they join to `text` again."""
    return (_UNSPACED if _KANA.search(text) else _SPACED).findall(text)


def split_sentences(text: str) -> list[str]:
    """Split into sentences, without the spaces between them."""
    return [part for part in _SENTENCE.split(text) if part]


def timed_words(
    rng: Random, text: str, start: float, *, pace: float, heard: bool
) -> list[dict[str, Any]]:
    """Return Retell's words of one utterance; `heard` marks recognised rather than made speech."""
    start, at = round(start, 3), 0.0
    words: list[dict[str, Any]] = []
    for word in split_words(text):
        begin, at = at, at + pace * _spoken_seconds(word) * rng.uniform(0.85, 1.2)
        words.append(
            {"word": word, "start": _noted(start, begin, heard), "end": _noted(start, at, heard)}
        )
        if heard and word.rstrip().endswith((",", ".", "?", "、", "。")):
            at += rng.uniform(0.08, 0.4)
    return words


def _noted(start: float, offset: float, heard: bool) -> int | float:
    # Recognition adds hundredths to the start of the utterance, and the float noise shows.
    return number(start + round(offset, 2)) if heard else seconds(start + offset)


def _spoken_seconds(word: str) -> float:
    total = 0.07
    for letter in word.strip():
        if letter.isdigit():
            total += _DIGIT_SECONDS
        elif "一" <= letter <= "龯":
            total += _KANJI_SECONDS
        elif "ぁ" <= letter <= "ヶ":
            total += _KANA_SECONDS
        elif letter.isalpha():
            total += _LETTER_SECONDS
        elif letter in ".?!。？！":
            total += 0.22
        elif letter in ",;:、…":
            total += 0.1
    return total
