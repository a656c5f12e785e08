"""Invented companies: their agents, the people who call, and the dialogues.

Dialogues are read from `data/dialogues/*.yaml`, a file for each company. The format is in
docs/reference/sandbox.md.
"""

import importlib.resources
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from random import Random
from typing import Any

from receiver.sandbox.templates import Slots, fill, read_data
from receiver.sandbox.wire import Json, hex_digits

# A step of a dialogue as in the files; its first key is its kind.
Step = Mapping[str, Any]


@dataclass(frozen=True)
class Ending:
    """A continuation of a call after its opening, and Retell's analysis."""

    name: str
    steps: Sequence[Step]
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
    opening: Sequence[Step]
    endings: Sequence[Ending]
    choices: Sequence[Sequence[Slots]] = ()
    direction: str = "inbound"

    def steps_to(self, ending: Ending, rng: Random) -> Iterator[Step]:
        """Return all steps to an ending, with one alternative of each branch."""
        return decided((*self.opening, *ending.steps), rng)

    def slots(self, rng: Random, country: str, start_ms: int) -> Json:
        """Return the slots for a caller from a country."""
        slots = person(rng, country) | working_day(rng, start_ms, self.language)
        for choice in self.choices:
            slots |= rng.choice(choice)
        return slots

    def calls_tools(self, ending: Ending) -> bool:
        """Return whether a tool is called on the way to an ending."""
        return any("tool" in step for step in (*self.opening, *ending.steps))


@cache
def dialogues() -> Mapping[str, Dialogue]:
    """Return every dialogue by its name."""
    folder = importlib.resources.files(__package__) / "data" / "dialogues"
    files = sorted(file.name for file in folder.iterdir() if file.name.endswith(".yaml"))
    found = {}
    for file in files:
        for name, told in read_data(f"data/dialogues/{file}").items():
            opening = _flat(told["opening"])
            endings = [Ending(**end | {"steps": _flat(end["steps"])}) for end in told["endings"]]
            found[name] = Dialogue(name, **{**told, "opening": opening, "endings": endings})
    return found


# The tool that extracts variables has no arguments and no `successful`.
_EXTRACT: Step = {
    "tool": "extract_dynamic_variables",
    "type": "extract_dynamic_variable",
    "successful": None,
    "seconds": (0.4, 1.1),
}


def _flat(steps: Sequence[Step]) -> list[Step]:
    """Return the steps, with asides and repetitions expanded."""
    found: list[Step] = []
    for step in steps:
        if "asides" in step:
            found += _flat(read_data("data/asides.yaml")[step["asides"]])
        elif "repeat" in step:
            found += _flat(step["steps"]) * step["repeat"]
        elif "extract" in step:
            found.append({**_EXTRACT, "result": step["extract"]})
        else:
            found.append(step)
    return found


def decided(steps: Sequence[Step], rng: Random) -> Iterator[Step]:
    """Yield the steps, with one alternative of each branch."""
    for step in _flat(steps):
        if "maybe" in step:
            options, weights = (step["steps"], ()), (step["maybe"], 1 - step["maybe"])
            yield from decided(rng.choices(options, weights)[0], rng)
        elif "either" in step:
            yield from decided(rng.choices(step["either"])[0], rng)
        else:
            yield step


_PEOPLE = read_data("data/people.yaml")
# Letters that NFKD does not decompose.
_PLAIN = str.maketrans({"ı": "i", "ß": "ss"})


def person(rng: Random, country: str) -> Json:
    """Return the slots of one caller: names, number, e-mail address and a reference number."""
    there = _PEOPLE["countries"][country]
    first, last = rng.choice(there["names"]).split()
    e164, aloud = rng.choice(there["numbers"])
    digits = [str(rng.randrange(10)) for _ in range(e164.count("#"))]
    reference = str(rng.randrange(20_000, 90_000))
    apart = unicodedata.normalize("NFKD", f"{first}.{last}".lower().translate(_PLAIN))
    mailbox = apart.encode("ascii", "ignore").decode().strip(".") or f"guest{reference}"
    return {
        "first": first,
        "last": last,
        "customer": there["full_name"].format(first=first, last=last),
        "e164": e164.replace("#", "{}").format(*digits),
        "phone": aloud.replace("#", "{}").format(*digits),
        "email": f"{mailbox}@example.com",
        "ref": reference,
        "spelled": ", ".join(last.upper()),
    }


def working_day(rng: Random, day_start_ms: int, language: str) -> dict[str, str]:
    """Return a weekday of the next nine days as `date` (ISO) and spoken `weekday`."""
    today = datetime.fromtimestamp(day_start_ms / 1000, UTC)
    coming = [today + timedelta(days=ahead) for ahead in range(2, 10)]
    chosen = rng.choice([date for date in coming if date.weekday() < 5])
    return {
        "date": chosen.date().isoformat(),
        "weekday": _PEOPLE["weekdays"][language[:2]][chosen.weekday()],
    }


@dataclass(frozen=True)
class Version:
    """One version of an agent: its success rate and response time."""

    number: int
    name: str
    success: float
    reply_ms: int
    tag: str | None = None
    products: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Agent:
    """A voice agent: its dialogues, prices and storage settings."""

    key: str
    country: str
    number: str
    versions: tuple[Version, ...]
    dialogues: tuple[Dialogue, ...]
    products: Mapping[str, float]
    share: float  # of the ordinary calls of a day
    storage: str = "everything"
    flow: bool = False
    custom_llm: bool = False
    tagged: bool = False
    knowledge_base: bool = False
    prompt_tokens: int = 1100
    signed_urls: bool = False
    web_share: float = 0.0
    campaign: bool = False
    transfer_to: str = ""
    transfer_type: str = "cold_transfer"
    max_seconds: float = 540.0
    event_timestamps: bool = True  # undocumented; not every account has them
    metadata: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)


def _agent(told: Json) -> Agent:
    versions = tuple(Version(**version) for version in told["versions"])
    talks = tuple(dialogues()[name] for name in told["dialogues"])
    return Agent(**told | {"versions": versions, "dialogues": talks})


AGENTS: Mapping[str, Agent] = {told["key"]: _agent(told) for told in read_data("data/agents.yaml")}


class Account:
    """The ids of an account, and where its calls' recordings are."""

    def __init__(self, rng: Random, *, signs_all_urls: bool = False) -> None:
        self.media_url = "https://media.example.com"
        self.signs_all_urls = signs_all_urls
        self.agent_ids = {agent.key: f"agent_{hex_digits(rng, 26)}" for agent in AGENTS.values()}
        self.organisation = f"org_{hex_digits(rng, 16)}"
        self.batch = f"batch_call_{hex_digits(rng, 20)}"
        self.twilio_account = f"AC{hex_digits(rng, 32)}"


DEFAULT_EVENTS = ("call_started", "call_ended", "call_analyzed")
_FIXED = read_data("data/calls.yaml")


@dataclass
class AgentVersion:
    """A version of an agent, and its settings as Retell's object."""

    agent: Agent
    version: Version
    settings: Json

    @property
    def webhook_events(self) -> tuple[str, ...]:
        """The events it sends; Retell's default without a setting."""
        return tuple(self.settings.get("webhook_events") or DEFAULT_EVENTS)


def account_agents(account: Account) -> dict[str, list[AgentVersion]]:
    """Return the versions of each agent, oldest first, by agent_id."""
    return {
        account.agent_ids[agent.key]: [
            AgentVersion(agent, version, _settings(account, agent, version))
            for version in agent.versions
        ]
        for agent in AGENTS.values()
    }


def _settings(account: Account, agent: Agent, version: Version) -> Json:
    agent_id = account.agent_ids[agent.key]
    given = vars(agent) | vars(version)
    given |= {"agent_id": agent_id, "digits": sha256(agent_id.encode()).hexdigest()[:12]}
    given["language"] = agent.dialogues[0].language
    given["signed_urls"] |= account.signs_all_urls
    engine = "custom_llm" if agent.custom_llm else "flow" if agent.flow else "llm"
    settings: Json = fill(_FIXED["agent_settings"], given)
    return settings | {"response_engine": fill(_FIXED[engine], given)}
