"""Chats: their messages, from the same dialogues as calls, and their stages."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from receiver.sandbox.calls import item_costs
from receiver.sandbox.companies import AGENTS, Account, Ending, Step, dialogues
from receiver.sandbox.templates import Slots, fill, read_data, spoken, tool_arguments
from receiver.sandbox.wire import Event, Json, compact, hex_digits, number

_FIXED = read_data("data/events.yaml")
_HOUR_MS = 3_600_000
_CALLS_PER_CHAT = 8
_PRICES = read_data("data/products.yaml")["chats"]
# Whether a person and an agent have written messages.
_SPEAKERS = ("agent", "user")


@dataclass
class Messages:
    """The messages of one chat and the time of the last."""

    rng: Random
    slots: Slots
    now_ms: int
    written: list[Json] = field(default_factory=list)
    node: str = "begin"

    def add(self, step: Step) -> None:
        """Add the messages of a step."""
        kind, value = next(iter(step.items()))
        if kind in _SPEAKERS:
            typing_ms = (1_200, 3_000) if kind == "agent" else (6_000, 45_000)
            text = spoken(value, self.rng, self.slots)
            self.write(self.rng.randrange(*typing_ms), role=kind, content=text)
        elif kind == "node":
            names = {"former_state_name": self.node, "new_state_name": value}
            self.write(20, role="state_transition", **names)
            self.node = value
        elif kind == "tool":
            call_id = f"tool_call_{hex_digits(self.rng, 16)}"
            tool = {"name": value, "arguments": tool_arguments(step, self.slots)}
            tool["type"] = step.get("type", "custom")
            self.write(300, role="tool_call_invocation", tool_call_id=call_id, **tool)
            content = compact(fill(step.get("result"), self.slots))
            result = {"successful": step.get("successful", True), "content": content}
            after_ms = self.rng.randrange(300, 1_500)
            self.write(after_ms, role="tool_call_result", tool_call_id=call_id, **result)

    def write(self, after_ms: int, **message: Any) -> None:
        """Add a message after a pause in milliseconds."""
        self.now_ms += after_ms
        message_id = f"msg_{hex_digits(self.rng, 24)}"
        self.written.append({"message_id": message_id, **message, "created_timestamp": self.now_ms})


def past_chats(rng: Random, account: Account, day_start_ms: int, calls: int) -> Iterator[Json]:
    """Yield the analysed chats of a day with so many calls; they began between 9:00 and 20:00."""
    kinds = _FIXED["chats"]
    for index in range(max(3, calls // _CALLS_PER_CHAT)):
        key, chat_type, name = kinds[index % len(kinds)]
        agent, dialogue = AGENTS[key], dialogues()[name]
        start_ms = day_start_ms + int(rng.uniform(9, 20) * _HOUR_MS)
        slots = dialogue.slots(rng, agent.country, start_ms)
        chat_id = f"chat_{hex_digits(rng, 27)}"
        ending = rng.choice(dialogue.endings)
        messages = Messages(rng, slots, start_ms)
        for step in dialogue.steps_to(ending, rng):
            messages.add(step)
        chat = {
            "chat_id": chat_id,
            "agent_id": account.agent_ids[key],
            "version": agent.versions[-1].number,
            "retell_llm_dynamic_variables": fill(agent.variables, slots),
            "collected_dynamic_variables": {"last_node_name": messages.node},
            "chat_type": chat_type,
            "metadata": {"channel": chat_type, "visitor": f"V-{slots['ref']}"},
            "custom_attributes": {
                "priority": rng.randrange(1, 4),
                "newsletter": rng.random() < 0.5,
            },
            "start_timestamp": start_ms,
        }
        if chat_type == "sms_chat":
            numbers = {"user_number": slots["e164"], "agent_number": agent.number}
            chat |= {"direction": "inbound"} | numbers
        end_ms = messages.now_ms + rng.randrange(30_000, 300_000)
        chat |= ended(chat, end_ms) | content_of(chat_type, messages.written)
        yield chat | {"chat_analysis": analysis_of(ending, slots)}


def content_of(chat_type: str, messages: Sequence[Mapping[str, Any]]) -> Json:
    """Return the fields made from the messages: messages, transcript and cost."""
    spoken = [message for message in messages if message["role"] in _SPEAKERS]
    costs = item_costs(_PRICES[chat_type], len(spoken))
    return {
        "transcript": "".join(f"{m['role'].title()}: {m['content']}\n" for m in spoken),
        "message_with_tool_calls": list(messages),
        "chat_cost": {
            "product_costs": costs,
            "combined_cost": number(round(sum(cost["cost"] for cost in costs), 7)),
        },
    }


def analysis_of(ending: Ending, slots: Slots) -> Json:
    """Return the analysis of a chat that ended so."""
    return {
        "chat_summary": fill(ending.summary, slots),
        "user_sentiment": ending.sentiment,
        "chat_successful": ending.successful,
        "custom_analysis_data": fill(ending.analysis, slots),
    }


def ended(chat: Mapping[str, Any], end_ms: int) -> Json:
    """Return the fields of a chat's end; those of SMS chats are undocumented."""
    over = {"chat_status": "ended", "end_timestamp": end_ms}
    if chat["chat_type"] == "sms_chat":
        over |= {
            "duration_ms": end_ms - chat["start_timestamp"],
            "disconnection_reason": "inactivity",
        }
    return over


def chat_events(rng: Random, chat: Json) -> list[Event]:
    """Return the events of an analysed chat."""
    chat_id, began_ms = chat["chat_id"], chat["start_timestamp"]
    known = {key: chat[key] for key in _FIXED["chat_from_the_start"] if key in chat}
    before = {key: value for key, value in chat.items() if key != "chat_analysis"}
    ended_ms = chat["end_timestamp"] + rng.randrange(200, 900)
    analyzed_ms = ended_ms + rng.randrange(2_000, 9_000)
    started = {"chat": known | {"chat_status": "ongoing"}}
    events = [
        Event(began_ms + 80, "chat_started", chat_id, started),
        Event(ended_ms, "chat_ended", chat_id, {"chat": before}),
        Event(analyzed_ms, "chat_analyzed", chat_id, {"chat": chat}),
    ]
    if chat.get("direction") == "inbound":
        asked = {"agent_id": chat["agent_id"], "agent_version": chat["version"]}
        asked |= {"from_number": chat["user_number"], "to_number": chat["agent_number"]}
        events.insert(0, Event(began_ms - 400, "chat_inbound", "", {"chat_inbound": asked}))
    return events


def replies(steps: Sequence[Step]) -> list[list[Step]]:
    """Return what the agent does after each message of the person, in turn."""
    turns: list[list[Step]] = [[]]
    for step in steps:
        if "user" in step:
            turns.append([])
        else:
            turns[-1].append(step)
    return [turn for turn in turns if any("agent" in step for step in turn)]
