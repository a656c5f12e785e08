"""How a placed call goes: by the number called, by the sandbox's scenario, or by the seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random

from receiver.sandbox.agents import AgentVersion
from receiver.sandbox.companies import Agent
from receiver.sandbox.kinds import CUT_SHORT, NOT_CONNECTED, Kind
from receiver.sandbox.plans import UNANSWERED, VOICEMAIL, Plan
from receiver.sandbox.script import Ending, Script, Tool
from receiver.sandbox.scripts import solar
from receiver.sandbox.scripts.advisor import ADVISOR, ADVISOR_NUMBER


@dataclass(frozen=True)
class Scenario:
    """A way that a call can go, and the number that chooses it.

    `reason` is the disconnection reason if it does not come from the script; `twist` is one of
    `twists`; `refusal` is the status and message with which no call is created at all.
    """

    name: str
    number: str
    meaning: str
    reason: str = ""
    twist: str = ""
    refusal: tuple[int, str] | None = None


SCENARIOS = (
    Scenario("answered", "+15005550001", "A talk in which tools run, and it goes well."),
    Scenario("short", "+15005550002", "A short talk that leads to nothing."),
    Scenario("voicemail", "+15005550003", "Voicemail; the agent leaves a message."),
    Scenario("busy", "+15005550004", "The line is busy.", "dial_busy"),
    Scenario("no-answer", "+15005550005", "Nobody picks up.", "dial_no_answer"),
    Scenario("failed", "+15005550006", "The call cannot be dialled.", "dial_failed"),
    Scenario("declined", "+15005550007", "The callee declines.", "user_declined"),
    Scenario("transfer", "+15005550008", "A talk that is put through to a person; its cost is "
             "final when that leg ends.", "call_transfer"),
    Scenario("hang-up", "+15005550009", "The callee hangs up in the middle.", CUT_SHORT),
    Scenario("error", "+15005550010", "The call breaks off with an error.",
             "error_no_audio_received"),
    Scenario("unanalysed", "+15005550011", "A talk that is never analysed.", twist="unanalysed"),
    Scenario("reanalysed", "+15005550012", "A talk whose analysis is run again, later, and "
             "differs.", twist="reanalysed"),
    Scenario("endless", "+15005550013", "A talk that never ends.", twist="ongoing"),
    Scenario("refused-400", "+15005550400", "Not created: the contact is do-not-call.",
             refusal=(400, "Contact is marked do not call.")),
    Scenario("refused-402", "+15005550402", "Not created: nobody pays.",
             refusal=(402, "Trial has ended, please add payment method.")),
    Scenario("refused-422", "+15005550422", "Not created: the number is not the account's.",
             refusal=(422, "Cannot find requested asset under given api key.")),
    Scenario("refused-429", "+15005550429", "Not created: too many calls at once.",
             refusal=(429, "Account rate limited, please throttle your requests.")),
    Scenario("refused-500", "+15005550500", "Not created: an error at Retell.",
             refusal=(500, "An unexpected server error occurred.")),
)  # fmt: skip
BY_NAME: Mapping[str, Scenario] = {scenario.name: scenario for scenario in SCENARIOS}
BY_NUMBER: Mapping[str, Scenario] = {scenario.number: scenario for scenario in SCENARIOS}

_TELEPHONY = ("voicemail", *(s.name for s in SCENARIOS if s.reason in NOT_CONNECTED))


def planned(
    rng: Random, scenario: Scenario | None, agent: AgentVersion, start_ms: int, *, web: bool
) -> Plan:
    """Return the plan of a placed call; without a scenario the seed decides, as on a usual day."""
    role = agent.agent
    if web and (scenario is None or scenario.name in _TELEPHONY):
        # Nobody dials a web call, so that it can neither ring in vain nor reach a machine.
        scenario = BY_NAME["answered" if rng.random() < agent.version.success else "short"]
    script, ending, reason = _course(rng, scenario, agent)
    if reason == "call_transfer" and not role.transfer_to:
        role = replace(role, transfer_to=ADVISOR_NUMBER)
    role = replace(
        role,
        storage=agent.settings["data_storage_setting"],
        signed_urls=agent.settings["opt_in_signed_url"],
    )
    twist = scenario.twist if scenario else ""
    # Whoever places a call is the one who calls, whatever the script is used to.
    script = replace(script, direction="outbound")
    kind = Kind(role.key, script, web=web, twist=twist)
    return Plan(kind, role, agent.version, ending, reason, start_ms)


def _course(
    rng: Random, scenario: Scenario | None, agent: AgentVersion
) -> tuple[Script, Ending, str]:
    """Return what is said, how it ends and why."""
    script = _script(rng, agent.agent)
    name = scenario.name if scenario else _drawn(rng)
    reason = scenario.reason if scenario else name if name in UNANSWERED else ""
    if name == "voicemail":
        script = solar.VOICEMAIL
    if name == "transfer":
        script = _transferring(agent.agent) or ADVISOR
    goes_well = rng.random() < agent.version.success
    endings = list(script.endings)
    if name == "transfer":
        endings = [ending for ending in endings if ending.reason == "call_transfer"]
    elif name == "short":
        endings = [min(endings, key=lambda ending: len(ending.steps))]
    elif scenario and name != "voicemail":
        endings = [e for e in endings if e.successful and _runs_tools(script, e)] or endings
    else:
        endings = [e for e in endings if e.successful == goes_well] or endings
    ending = rng.choice(endings)
    return script, ending, reason or ending.reason


def _script(rng: Random, agent: Agent) -> Script:
    calling = [script for script in agent.scripts if script.direction == "outbound"]
    return rng.choice(calling or list(agent.scripts))


def _transferring(agent: Agent) -> Script | None:
    for script in agent.scripts:
        if any(ending.reason == "call_transfer" for ending in script.endings):
            return script
    return None


def _runs_tools(script: Script, ending: Ending) -> bool:
    return any(isinstance(step, Tool) for step in (*script.opening, *ending.steps))


def _drawn(rng: Random) -> str:
    """Return "voicemail", a reason not to connect, or "" for a talk."""
    chance = rng.random()
    if chance < VOICEMAIL:
        return "voicemail"
    if chance > 1 - sum(UNANSWERED.values()):
        return rng.choices(list(UNANSWERED), list(UNANSWERED.values()))[0]
    return ""
