"""The calls of a day: their kinds, starts and outcomes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from receiver.sandbox.companies import (
    AGENTS,
    Agent,
    AgentVersion,
    Dialogue,
    Ending,
    Version,
    dialogues,
)
from receiver.sandbox.templates import read_data
from receiver.sandbox.wire import Json

# The caller hangs up early; Retell's reason is `user_hangup`.
CUT_SHORT = "cut_short"
# Disconnection reasons of calls without speech.
_REASONS = read_data("data/reasons.yaml")
NOT_CONNECTED: Sequence[str] = _REASONS["not_connected"]
NEVER_STARTED: Sequence[str] = (*NOT_CONNECTED, *_REASONS["never_started"])
ERRORS: Sequence[str] = (*_REASONS["never_started"], *_REASONS["errors"])


@dataclass(frozen=True)
class Kind:
    """A kind of call. Without `ending` the version's success rate decides; `reason` overrides it.

    `twist` is the name of a fault of its deliveries.
    """

    agent: str
    dialogue: Dialogue
    ending: str = ""
    reason: str = ""
    web: bool = False
    twist: str = ""
    session: bool = False
    anonymous: bool = False


PROMISED = tuple(
    Kind(**told | {"dialogue": dialogues()[told["dialogue"]]})
    for told in read_data("data/day.yaml")
)

_HOUR_MS = 3_600_000
# A call that starts this late ends on the next day.
_LAST_MINUTE_MS = 24 * _HOUR_MS - 70_000
_TRAFFIC = read_data("data/traffic.yaml")
UNANSWERED: Mapping[str, float] = _TRAFFIC["unanswered"]
VOICEMAIL: float = _TRAFFIC["voicemail"]


@dataclass(frozen=True)
class Plan:
    """A planned call: its agent, ending and start; only the words are open."""

    kind: Kind
    agent: Agent
    version: Version
    ending: Ending
    reason: str
    start_ms: int


def plans(rng: Random, day_start_ms: int, calls: int, *, typical: bool = False) -> list[Plan]:
    """Return the plans of a day by their starts; `typical`: none promised, success by chance."""
    promised = [] if typical else PROMISED
    kinds = [*promised, *(_ordinary(rng) for _ in range(calls - len(promised)))][:calls]
    starts = _starts(rng, kinds)
    turns: Counter[str] = Counter()
    # Calls and successes of each version so far.
    had: Counter[tuple[str, int]] = Counter()
    successes: Counter[tuple[str, int]] = Counter()
    decided: list[Plan] = []
    for kind, start in sorted(zip(kinds, starts, strict=True), key=lambda pair: pair[1]):
        agent = AGENTS[kind.agent]
        # Versions alternate, as in an A/B test.
        versions = agent.versions
        version = rng.choice(versions) if typical else versions[turns[agent.key] % len(versions)]
        turns[agent.key] += 1
        key = agent.key, version.number
        # Whether this call must succeed to keep the rate.
        share = rng.random() if typical else successes[key] / (had[key] + 1)
        goes_well, endings = share < version.success, kind.dialogue.endings
        if kind.ending:
            [ending] = [end for end in endings if end.name == kind.ending]
        else:
            fitting = [end for end in endings if end.successful == goes_well]
            ending = rng.choice(fitting or endings)
        reason = kind.reason or ending.reason
        if not kind.reason:
            had[key] += 1
            successes[key] += ending.successful
            if not kind.ending and reason == "user_hangup" and not ending.successful:
                reason = rng.choices((reason, CUT_SHORT), (0.7, 0.3))[0]
        decided.append(Plan(kind, agent, version, ending, reason, day_start_ms + start))
    return decided


def _ordinary(rng: Random) -> Kind:
    agent = AGENTS[_weighted(rng, {key: agent.share for key, agent in AGENTS.items()})]
    dialogue, reason = rng.choice(agent.dialogues), ""
    if dialogue.direction == "outbound":
        outcome = _outcome(rng)
        if outcome == "voicemail" and agent.campaign:
            dialogue = dialogues()["solar voicemail"]
        elif outcome in UNANSWERED:
            reason = outcome
    return Kind(
        agent=agent.key,
        dialogue=dialogue,
        reason=reason,
        web=rng.random() < agent.web_share,
        twist="" if reason else _weighted(rng, _TRAFFIC["twists"]),
        session=rng.random() < 0.1 and agent.key in ("hotel", "solar"),
        anonymous=rng.random() < 0.15 and dialogue.direction == "inbound",
    )


def _weighted(rng: Random, weights: Mapping[str, float]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]


def _starts(rng: Random, kinds: Sequence[Kind]) -> list[int]:
    """Return for each kind the millisecond of the day in which it starts."""
    campaign = [AGENTS[kind.agent].campaign for kind in kinds]
    around_the_clock = _moments(rng, campaign.count(False), _TRAFFIC["hours"])
    from_the_list = _moments(rng, campaign.count(True), _TRAFFIC["campaign_hours"])
    starts = [(from_the_list if dialled else around_the_clock).pop() for dialled in campaign]
    return [
        _LAST_MINUTE_MS if kind.twist == "ongoing" else start
        for kind, start in zip(kinds, starts, strict=True)
    ]


def _moments(rng: Random, count: int, weights: Sequence[int]) -> list[int]:
    """Return `count` moments spread like the hourly weights, shuffled."""
    hours = [hour for hour, weight in enumerate(weights) for _ in range(weight)]
    moments = []
    for index in range(count):
        # One draw per part of the day keeps the curve with few calls too.
        position = (index + rng.random()) / count * len(hours)
        moments.append(int((hours[int(position)] + rng.random()) * _HOUR_MS))
    rng.shuffle(moments)
    return [min(moment, _LAST_MINUTE_MS - 15 * 60_000) for moment in moments]


@dataclass(frozen=True)
class Scenario:
    """The outcome of a call, and the number that selects it.

    `reason` is the disconnection reason if it does not come from the dialogue; `twist` is a kind's;
    `error` is the status and message of an error response instead of a call.
    """

    name: str
    number: str
    meaning: str
    reason: str = ""
    twist: str = ""
    error: Sequence[Any] | None = None


SCENARIOS = (
    *(Scenario(**fields) for fields in read_data("data/scenarios.yaml")),
    *(
        Scenario(reason, f"+1500555{1000 + n}", f"Ends as {reason}.", reason)
        for n, reason in enumerate(_REASONS["numbered"])
    ),
)
BY_NAME: Mapping[str, Scenario] = {scenario.name: scenario for scenario in SCENARIOS}
BY_NUMBER: Mapping[str, Scenario] = {scenario.number: scenario for scenario in SCENARIOS}

# Transfer destination of agents without their own.
ADVISOR_NUMBER = "+12065550188"
_TELEPHONY = ("voicemail", *(s.name for s in SCENARIOS if s.reason in NOT_CONNECTED))


@dataclass(frozen=True)
class Placing:
    """An accepted order of a call. `given` are the call object's fields that it sets."""

    given: Json
    agent: AgentVersion
    scenario: Scenario | None
    created_ms: int
    web: bool = False

    @property
    def inbound(self) -> bool:
        """Whether somebody calls the agent."""
        return self.given.get("direction") == "inbound"


def planned(rng: Random, placing: Placing, start_ms: int) -> Plan:
    """Return the plan of a placed or inbound call; without a scenario the seed decides."""
    scenario, agent, settings = placing.scenario, placing.agent.agent, placing.agent.settings
    goal = placing.agent.version.success
    if (placing.web or placing.inbound) and (scenario is None or scenario.name in _TELEPHONY):
        # Only a person who is called by phone can be unreachable or have voicemail.
        scenario = BY_NAME["answered" if rng.random() < goal else "short"]
    direction = "inbound" if placing.inbound else "outbound"
    fitting = [each for each in agent.dialogues if each.direction == direction]
    dialogue = rng.choice(fitting or list(agent.dialogues))
    name = scenario.name if scenario else _outcome(rng)
    reason = scenario.reason if scenario else name if name in UNANSWERED else ""
    if name == "voicemail":
        dialogue = dialogues()["solar voicemail"]
    if name == "transfer":
        own = (d for d in agent.dialogues for end in d.endings if end.reason == "call_transfer")
        dialogue = next(own, dialogues()["advisor"])
    goes_well, endings = rng.random() < goal, list(dialogue.endings)
    if name == "transfer":
        chosen = [end for end in endings if end.reason == "call_transfer"]
    elif name == "short":
        chosen = [min(endings, key=lambda ending: len(ending.steps))]
    elif scenario and name != "voicemail":
        chosen = [end for end in endings if end.successful and dialogue.calls_tools(end)]
    else:
        chosen = [end for end in endings if end.successful == goes_well]
    ending = rng.choice(chosen or endings)
    role = replace(
        agent,
        transfer_to=agent.transfer_to or ADVISOR_NUMBER,
        storage=settings["data_storage_setting"],
        signed_urls=settings["opt_in_signed_url"],
    )
    # Whatever the dialogue's direction is.
    dialogue = replace(dialogue, direction=direction)
    twist = scenario.twist if scenario else ""
    kind = Kind(agent.key, dialogue, web=placing.web, twist=twist)
    return Plan(kind, role, placing.agent.version, ending, reason or ending.reason, start_ms)


def _outcome(rng: Random) -> str:
    """Return "voicemail", a reason not to connect, or "" for a conversation."""
    chance = rng.random()
    if chance < VOICEMAIL:
        return "voicemail"
    return _weighted(rng, UNANSWERED) if chance > 1 - sum(UNANSWERED.values()) else ""
