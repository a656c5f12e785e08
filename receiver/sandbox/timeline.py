"""Plays the steps of a dialogue against a clock: the entries and word times of a transcript."""

import re
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from random import Random

from receiver.sandbox.companies import Agent, Step, Version
from receiver.sandbox.templates import Slots, fill, spoken, tool_arguments
from receiver.sandbox.wire import Json, compact, hex_digits, number, seconds

_SPACED = re.compile(r"\S+\s*")
# Japanese has no spaces: a run of kanji with its endings, or of one kana, counts as a word.
_UNSPACED = re.compile(
    r"(?:[一-龯々]+[ぁ-ん]*|[ァ-ヶー]+|[ぁ-ん]+|[^一-龯々ぁ-んァ-ヶー]+?)[、。！？]*"
)
_KANA = re.compile(r"[ぁ-んァ-ヶ]")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")
# Seconds that a letter takes to speak; the first pattern that matches counts.
_LETTER_SECONDS = (
    (re.compile(r"\d"), 0.27),
    (re.compile("[一-龯]"), 0.19),
    (re.compile("[ぁ-ヶ]"), 0.12),
    (re.compile(r"[^\W_]"), 0.05),
    (re.compile("[.?!。？！]"), 0.22),
    (re.compile("[,;:、…]"), 0.1),
)


def timed_words(rng: Random, text: str, start: float, *, pace: float, heard: bool) -> list[Json]:
    """Return Retell's words of one utterance, with their trailing spaces; `heard`: recognised, not
    synthesised, speech."""
    start, at = round(start, 3), 0.0
    words: list[Json] = []
    for word in (_UNSPACED if _KANA.search(text) else _SPACED).findall(text):
        begin, at = at, at + pace * _spoken_seconds(word) * rng.uniform(0.85, 1.2)
        # As Retell: recognised times are a float sum, with its rounding errors.
        moments = [
            number(start + round(s, 2)) if heard else seconds(start + s) for s in (begin, at)
        ]
        words.append({"word": word, "start": moments[0], "end": moments[1]})
        if heard and word.rstrip().endswith((",", ".", "?", "、", "。")):
            at += rng.uniform(0.08, 0.4)
    return words


@cache
def _spoken_seconds(word: str) -> float:
    total = 0.07
    for letter in word.strip():
        total += next((s for pattern, s in _LETTER_SECONDS if pattern.match(letter)), 0)
    return total


UTTERANCES = ("agent", "user", "transfer_target")
_INTERRUPTION, _SPLIT_TURN = 0.1, 0.15
_TOOL_SECONDS = (0.4, 2.2)
_EXTRACTION = "extract_dynamic_variable"
_LOWER_START = re.compile(r"(?:^|(?<=[.!?] ))[a-zà-ÿ]")


@dataclass
class Timeline:
    """The clock and the transcript entries of one call; `play` adds steps."""

    rng: Random
    agent: Agent
    version: Version
    slots: Slots
    entries: list[Json] = field(default_factory=list)
    replies_ms: list[int] = field(default_factory=list)
    collected: dict[str, str] = field(default_factory=dict)
    now: float = 0.0
    _node: str = "begin"
    _last: str = ""
    _interrupted: bool = False
    _response: int = 0

    def play(self, step: Step) -> None:
        """Play one step, unless the call has reached its maximum duration."""
        if self.now >= self.agent.max_seconds:
            return
        kind, value = next(iter(step.items()))
        match kind:
            case "agent" | "user" | "transfer_target":
                self._say(kind, spoken(value, self.rng, self.slots))
            case "tool":
                self._call_tool(step)
            case "node":
                self._enter(value)
            case "dtmf" | "sms" | "injected":
                self.now += self.rng.uniform(0.4, 1.6)
                text = fill(value, self.slots)
                entry = {"role": kind, "digit" if kind == "dtmf" else "content": text}
                self.entries.append(entry | {"time_sec": seconds(self.now)})
            case "pause":
                self.now += self.rng.uniform(*value)
            case _:
                raise ValueError(f"a dialogue has no step named {kind!r}")

    def hang_up(self, reason: str) -> None:
        """End the call, at the earliest after twenty seconds, unless it could not begin."""
        if reason == "agent_hangup":
            arguments: Json | None = None if self.agent.flow else {}
            self._invoke({"tool": "end_call", "type": "end_call", "arguments": arguments})
        least = 4 if reason == "error_llm_websocket_open" else 20
        self.now = max(self.now + self.rng.uniform(0.3, 2.0), least + self.rng.random())
        self.now = min(self.now, self.agent.max_seconds)
        # Nothing is said after the end.
        self.entries[:] = [entry for entry in self.entries if starts_at(entry) < self.now]
        for entry in self.entries:
            if "words" in entry and entry["words"][-1]["end"] > self.now:
                entry["words"] = [word for word in entry["words"] if word["start"] < self.now]
                entry["words"][-1]["end"] = seconds(self.now)
                entry["content"] = "".join(word["word"] for word in entry["words"])

    def _say(self, role: str, text: str) -> None:
        # A sentence can begin with a slot.
        text = _LOWER_START.sub(lambda letter: letter[0].upper(), text)
        parts = [text]
        sentences = [part for part in _SENTENCE.split(text) if part]
        # Speech recognition sometimes splits a turn at a pause.
        if role == "user" and len(sentences) > 1 and self.rng.random() < _SPLIT_TURN:
            parts = [sentences[0], text[len(sentences[0]) :].lstrip()]
        for part in parts:
            self._utter(role, part)

    def _utter(self, role: str, text: str) -> None:
        start = self._start(role)
        pace = 1.12 if role == "agent" else self.rng.uniform(0.9, 1.15)
        words = timed_words(self.rng, text, start, pace=pace, heard=role != "agent")
        entry: Json = {"role": role, "content": text, "words": words}
        if role == "agent":
            kind = "interrupt_id" if self._interrupted else "response_id"
            entry["metadata"] = {kind: self._response}
            self._response += 1
            self._interrupted = False
        self.entries.append(entry)
        self.now = max(self.now, words[-1]["end"])
        self._last = role

    def _start(self, role: str) -> float:
        if role == "agent" and self._last == "user":
            reply_ms = round(self.version.reply_ms * self.rng.lognormvariate(0, 0.22))
            self.replies_ms.append(reply_ms)
            return self.now + reply_ms / 1000
        if role == "user" and self._last == "agent" and self.rng.random() < _INTERRUPTION:
            self._interrupted = True
            return self.now - self.rng.uniform(0.2, 0.8)
        return self.now + self.rng.uniform(0.35, 1.3)

    def _call_tool(self, tool: Step) -> None:
        self.now += self.rng.uniform(0.2, 0.7)
        began, call_id = self.now, self._invoke(tool)
        self._last = "tool"
        for step in tool.get("during", ()):
            self.play(step)
        result = fill(tool.get("result"), self.slots)
        if result is None:
            return
        seconds_taken = self.rng.uniform(*tool.get("seconds", _TOOL_SECONDS))
        self.now = max(self.now + 0.2, began + seconds_taken)
        entry: Json = {"role": "tool_call_result", "tool_call_id": call_id}
        if (successful := tool.get("successful", True)) is not None:
            entry["successful"] = successful
        entry["content"] = result if isinstance(result, str) else compact(result)
        self.entries.append(entry | {"time_sec": seconds(self.now)})
        if tool.get("type") == _EXTRACTION:
            self.collected.update({name: str(value) for name, value in result.items()})

    def _invoke(self, tool: Step) -> str:
        tool_type = tool.get("type", "custom")
        prefix = tool["tool"] if tool_type == _EXTRACTION else "tool_call"
        call_id = f"{prefix}_{hex_digits(self.rng, 6 if self.agent.flow else 16)}"
        entry = {
            "role": "tool_call_invocation",
            "tool_call_id": call_id,
            "name": tool["tool"],
            "arguments": tool_arguments(tool, self.slots),
            "time_sec": seconds(self.now),
        }
        # Retell does not know the type of a custom LLM's tools.
        self.entries.append(entry if self.agent.custom_llm else entry | {"type": tool_type})
        return call_id

    def _enter(self, node: str) -> None:
        entry: Json = {"role": "node_transition"}
        for which, name in (("former", self._node), ("new", node)):
            digits = sha256(name.encode()).hexdigest()[:12]
            entry[f"{which}_node_id"] = name if name == "begin" else f"node_{digits}"
            entry[f"{which}_node_name"] = name
        entry |= {"transition_type": "normal", "time_sec": seconds(self.now + 0.001)}
        self.entries.append(entry)
        self.collected |= {"previous_node": self._node, "current_node": node}
        self._node = node


def starts_at(entry: Json) -> float:
    """Return when an entry begins, in seconds from the start of the call."""
    return float(entry["words"][0]["start"] if "words" in entry else entry["time_sec"])
