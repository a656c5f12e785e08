"""Dialogues: what is said, which tools run, and how a call can end.

They are read from `data/dialogues/*.yaml`, one file a company.
docs/reference/sandbox.md explains the format.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any

import yaml

# The words of a call that change from one to the next: names, times, amounts.
Slots = Mapping[str, Any]
_SPEAKERS = ("agent", "user", "transfer_target")
_MARKS = ("dtmf", "sms", "injected")


@dataclass(frozen=True)
class Say:
    """One turn of `agent`, `user` or `transfer_target`; one of the texts is spoken."""

    role: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Tool:
    """A tool call. Without `result` none is recorded; `during` happens before it comes."""

    name: str
    type: str
    arguments: Mapping[str, Any] | None
    result: Mapping[str, Any] | str | None
    successful: bool | None
    seconds: tuple[float, float]
    during: tuple[Step, ...]


@dataclass(frozen=True)
class Node:
    """A step into another node of a conversation flow."""

    name: str


@dataclass(frozen=True)
class Mark:
    """An entry that nobody speaks: `dtmf`, `sms` or `injected`."""

    role: str
    text: str


@dataclass(frozen=True)
class Pause:
    """Silence, between `low` and `high` seconds long."""

    low: float
    high: float


@dataclass(frozen=True)
class Branch:
    """One of several ways to continue, chosen by weight."""

    options: tuple[tuple[Step, ...], ...]
    weights: tuple[float, ...]


Step = Say | Tool | Node | Mark | Pause | Branch


@dataclass(frozen=True)
class Ending:
    """How a call can continue after its opening, and Retell's analysis of it."""

    name: str
    steps: tuple[Step, ...]
    summary: str
    analysis: Mapping[str, Any] = field(default_factory=dict)
    reason: str = "user_hangup"
    successful: bool = True
    sentiment: str = "Positive"


@dataclass(frozen=True)
class Dialogue:
    """A kind of call. `goal` completes "the caller hung up before ..."."""

    name: str
    language: str
    goal: str
    choices: tuple[tuple[Slots, ...], ...]
    opening: tuple[Step, ...]
    endings: tuple[Ending, ...]
    direction: str = "inbound"

    def ending(self, name: str) -> Ending:
        """Return the ending of that name."""
        return next(ending for ending in self.endings if ending.name == name)


def read_data(path: str) -> Any:
    """Return the content of a YAML file of this package."""
    text = (importlib.resources.files(__package__) / path).read_text("utf-8")
    return yaml.load(text, Loader=yaml.CSafeLoader)


@cache
def dialogues() -> Mapping[str, Dialogue]:
    """Return every dialogue by its name."""
    folder = importlib.resources.files(__package__) / "data" / "dialogues"
    files = sorted(file.name for file in folder.iterdir() if file.name.endswith(".yaml"))
    return {
        name: _dialogue(name, told)
        for file in files
        if file != "asides.yaml"
        for name, told in read_data(f"data/dialogues/{file}").items()
    }


@cache
def _asides() -> Mapping[str, tuple[Step, ...]]:
    told = read_data("data/dialogues/asides.yaml")
    return {language: _steps(steps) for language, steps in told.items()}


def _dialogue(name: str, told: Mapping[str, Any]) -> Dialogue:
    return Dialogue(
        name=name,
        language=told["language"],
        goal=told["goal"],
        direction=told.get("direction", "inbound"),
        choices=tuple(map(tuple, told.get("choices", ()))),
        opening=_steps(told["opening"]),
        endings=tuple(
            Ending(**ending | {"steps": _steps(ending["steps"])}) for ending in told["endings"]
        ),
    )


def _steps(told: Sequence[Mapping[str, Any]]) -> tuple[Step, ...]:
    return tuple(step for one in told for step in _step(one))


def _step(told: Mapping[str, Any]) -> tuple[Step, ...]:
    """Return the steps that one entry of a file stands for: its first key names its kind."""
    kind, value = next(iter(told.items()))
    match kind:
        case "tool":
            return (_tool(told),)
        case "extract":
            # The tool that reads variables out of the talk has no arguments and no `successful`.
            name, type_ = "extract_dynamic_variables", "extract_dynamic_variable"
            return (Tool(name, type_, None, value, None, (0.4, 1.1), ()),)
        case "node":
            return (Node(value),)
        case "pause":
            return (Pause(*value),)
        case "maybe":
            return (Branch((_steps(told["steps"]), ()), (value, 1 - value)),)
        case "either":
            return (Branch(tuple(map(_steps, value)), (1.0,) * len(value)),)
        case "repeat":
            return _steps(told["steps"]) * int(value)
        case "asides":
            return _asides()[value]
    if kind in _SPEAKERS:
        return (Say(kind, (value,) if isinstance(value, str) else tuple(value)),)
    if kind in _MARKS:
        return (Mark(kind, value),)
    raise ValueError(f"a dialogue has no step named {kind!r}")


def _tool(told: Mapping[str, Any]) -> Tool:
    return Tool(
        name=told["tool"],
        type=told.get("type", "custom"),
        arguments=told.get("arguments"),
        result=told.get("result"),
        successful=told.get("successful", True),
        seconds=tuple(told.get("seconds", (0.4, 2.2))),
        during=_steps(told.get("during", ())),
    )


def decided(steps: Sequence[Step], rng: Random) -> Iterator[Step]:
    """Yield the steps with every branch decided."""
    for step in steps:
        if isinstance(step, Branch):
            yield from decided(rng.choices(step.options, step.weights)[0], rng)
        else:
            yield step


def fill(template: Any, slots: Slots) -> Any:
    """Return a copy of a JSON-like template with its slots filled."""
    if isinstance(template, str):
        # A slot that stands alone keeps its type, so that numbers and booleans stay such.
        if template[:1] == "{" and template[1:-1] in slots:
            return slots[template[1:-1]]
        return template.format_map(slots)
    if isinstance(template, Mapping):
        return {key: fill(value, slots) for key, value in template.items()}
    if isinstance(template, (list, tuple)):
        return [fill(value, slots) for value in template]
    return template
