"""The vocabulary of a dialogue: what is said, which tools run, and how a call can end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

# The words of a call that change from one to the next: names, times, amounts.
Slots = Mapping[str, Any]


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
    """One of several ways on, chosen by weight."""

    options: tuple[tuple[Step, ...], ...]
    weights: tuple[float, ...]


Step = Say | Tool | Node | Mark | Pause | Branch


@dataclass(frozen=True)
class Ending:
    """How a call can go on after its opening, and what Retell's analysis makes of it."""

    name: str
    steps: tuple[Step, ...]
    summary: str
    analysis: Mapping[str, Any] = field(default_factory=dict)
    reason: str = "user_hangup"
    successful: bool = True
    sentiment: str = "Positive"


@dataclass(frozen=True)
class Script:
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


def agent(*texts: str) -> Say:
    """Return a turn of the voice agent."""
    return Say("agent", texts)


def user(*texts: str) -> Say:
    """Return a turn of the person on the line."""
    return Say("user", texts)


def target(*texts: str) -> Say:
    """Return a turn of the person a call is being handed to."""
    return Say("transfer_target", texts)


def tool(
    name: str,
    arguments: Mapping[str, Any] | None,
    result: Mapping[str, Any] | str | None,
    *during: Step,
    type: str = "custom",
    successful: bool | None = True,
    seconds: tuple[float, float] = (0.4, 2.2),
) -> Tool:
    """Return a tool call; `type` is Retell's."""
    return Tool(name, type, arguments, result, successful, seconds, during)


def extract(**variables: str) -> Tool:
    """Return the tool that reads variables out of the talk: no arguments, no `successful`."""
    name, kind = "extract_dynamic_variables", "extract_dynamic_variable"
    return Tool(name, kind, None, variables, None, (0.4, 1.1), ())


def maybe(chance: float, *steps: Step) -> Branch:
    """Return steps that happen in `chance` of the calls."""
    return Branch((steps, ()), (chance, 1 - chance))


def either(*options: tuple[Step, ...]) -> Branch:
    """Return a choice between ways that are equally likely."""
    return Branch(options, (1.0,) * len(options))


def one_of(name: str, *values: Any) -> tuple[Slots, ...]:
    """Return the choices of a slot that stands for itself alone."""
    return tuple({name: value} for value in values)


def decided(steps: tuple[Step, ...], rng: Random) -> Iterator[Step]:
    """Yield the steps with every branch decided."""
    for step in steps:
        if isinstance(step, Branch):
            yield from decided(rng.choices(step.options, step.weights)[0], rng)
        else:
            yield step


def fill(template: Any, slots: Slots) -> Any:
    """Return a copy of a JSON-like template with its slots filled."""
    if isinstance(template, str):
        # A slot that stands alone keeps its type, so that numbers and truths stay such.
        if template[:1] == "{" and template[1:-1] in slots:
            return slots[template[1:-1]]
        return template.format_map(slots)
    if isinstance(template, Mapping):
        return {key: fill(value, slots) for key, value in template.items()}
    if isinstance(template, (list, tuple)):
        return [fill(value, slots) for value in template]
    return template
