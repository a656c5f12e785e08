"""Which calls a day holds and when: the kinds it promises first, then ordinary ones."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from receiver.sandbox.companies import AGENTS, Agent, Version, agent_named
from receiver.sandbox.kinds import CUT_SHORT, PROMISED, Kind
from receiver.sandbox.script import Ending
from receiver.sandbox.scripts import solar

_HOUR_MS = 3_600_000
# Calls begun in each hour of the day: few at night, peaks at ten and at three.
_HOURS = (2, 1, 1, 1, 1, 2, 5, 12, 26, 38, 46, 38, 26, 24, 36, 46, 38, 28, 20, 14, 10, 7, 5, 1)
_CAMPAIGN_HOURS = (0,) * 10 + (5, 4, 0, 0, 3, 5, 4, 1) + (0,) * 6
# A call this late is not over when the day is.
_LAST_MINUTE_MS = 24 * _HOUR_MS - 70_000
UNANSWERED = {
    "dial_no_answer": 0.17,
    "dial_busy": 0.05,
    "user_declined": 0.03,
    "dial_failed": 0.02,
}
VOICEMAIL = 0.14
_TWISTS = {"": 90, "updates": 4, "duplicate": 3, "analyzed_first": 2, "late_started": 1}


@dataclass(frozen=True)
class Plan:
    """One call with everything decided but its words: who answers, how it goes, when it starts."""

    kind: Kind
    agent: Agent
    version: Version
    ending: Ending
    reason: str
    start_ms: int

    @property
    def outbound(self) -> bool:
        """Whether the agent is the one who calls."""
        return self.kind.script.direction == "outbound"


@dataclass
class _Record:
    """How a version of an agent has done so far."""

    calls: int = 0
    successes: int = 0

    def is_due(self, rate: float) -> bool:
        """Say whether the next call must go well to keep to the rate, even in a short day."""
        return self.successes < rate * (self.calls + 1)

    def add(self, successful: bool) -> None:
        self.calls += 1
        self.successes += successful


def plans(rng: Random, day_start_ms: int, calls: int) -> list[Plan]:
    """Return the plans of a day, in the order in which the calls start."""
    kinds = [*PROMISED, *(_ordinary(rng) for _ in range(calls - len(PROMISED)))][:calls]
    starts = _starts(rng, kinds)
    turns: Counter[str] = Counter()
    records: defaultdict[tuple[str, int], _Record] = defaultdict(_Record)
    decided: list[Plan] = []
    for kind, start in sorted(zip(kinds, starts, strict=True), key=lambda pair: pair[1]):
        agent = agent_named(kind.agent)
        # Versions take turns, as in a trial of the newer one.
        version = agent.versions[turns[agent.key] % len(agent.versions)]
        turns[agent.key] += 1
        record = records[agent.key, version.number]
        ending = _ending(rng, kind, record.is_due(version.success))
        reason = kind.reason or ending.reason
        if not kind.reason:
            record.add(ending.successful)
            if not kind.ending and reason == "user_hangup" and not ending.successful:
                reason = rng.choices((reason, CUT_SHORT), (0.7, 0.3))[0]
        decided.append(Plan(kind, agent, version, ending, reason, day_start_ms + start))
    return decided


def _ending(rng: Random, kind: Kind, goes_well: bool) -> Ending:
    if kind.ending:
        return kind.script.ending(kind.ending)
    fitting = [end for end in kind.script.endings if end.successful == goes_well]
    return rng.choice(fitting or list(kind.script.endings))


def _ordinary(rng: Random) -> Kind:
    agent = rng.choices(AGENTS, [agent.share for agent in AGENTS])[0]
    script, reason = rng.choice(agent.scripts), ""
    if script.direction == "outbound":
        chance = rng.random()
        if chance < VOICEMAIL and agent.campaign:
            script = solar.VOICEMAIL
        elif chance > 1 - sum(UNANSWERED.values()):
            reason = _weighted(rng, UNANSWERED)
    return Kind(
        agent=agent.key,
        script=script,
        reason=reason,
        web=rng.random() < agent.web_share,
        twist="" if reason else _weighted(rng, _TWISTS),
        session=rng.random() < 0.1 and agent.key in ("hotel", "solar"),
        anonymous=rng.random() < 0.15 and script.direction == "inbound",
    )


def _weighted(rng: Random, weights: Mapping[str, float]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]


def _starts(rng: Random, kinds: Sequence[Kind]) -> list[int]:
    """Return for each kind the millisecond of the day in which it starts."""
    campaign = [agent_named(kind.agent).campaign for kind in kinds]
    around_the_clock = _moments(rng, campaign.count(False), _HOURS)
    from_the_list = _moments(rng, campaign.count(True), _CAMPAIGN_HOURS)
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
        # One draw per slice of the day keeps the shape of the curve even with few calls.
        position = (index + rng.random()) / count * len(hours)
        moments.append(int((hours[int(position)] + rng.random()) * _HOUR_MS))
    rng.shuffle(moments)
    return [min(moment, _LAST_MINUTE_MS - 15 * 60_000) for moment in moments]
