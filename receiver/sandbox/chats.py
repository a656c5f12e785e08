"""Chats: the same kind of dialogue in writing, reported by chat events."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from receiver.sandbox.companies import agent_named
from receiver.sandbox.events import Event
from receiver.sandbox.identity import Account
from receiver.sandbox.people import person, working_day
from receiver.sandbox.script import Node, Say, Script, Slots, Step, Tool, decided, fill
from receiver.sandbox.scripts.written import LAMP, LATE_ARRIVAL, TEXT_BACK
from receiver.sandbox.wire import compact, hex_digits, number

_HOUR_MS = 3_600_000
_KINDS = (
    ("shop", "api_chat", LAMP),
    ("dental", "sms_chat", TEXT_BACK),
    ("hotel", "api_chat", LATE_ARRIVAL),
)
_FROM_THE_START = (
    "chat_id",
    "agent_id",
    "version",
    "chat_type",
    "metadata",
    "retell_llm_dynamic_variables",
    "custom_attributes",
    "start_timestamp",
)
_MESSAGE_COST = 0.2  # cents


def chat_events(rng: Random, account: Account, day_start_ms: int, count: int) -> list[Event]:
    """Return the events of `count` chats, held between nine in the morning and eight at night."""
    events = []
    for index in range(count):
        agent, chat_type, script = _KINDS[index % len(_KINDS)]
        start_ms = day_start_ms + int(rng.uniform(9, 20) * _HOUR_MS)
        chat = _chat(rng, account, agent, chat_type, script, start_ms)
        events += _reported(rng, chat)
    return events


@dataclass
class _Messages:
    """The messages of one chat and the moment of the last one."""

    rng: Random
    slots: Slots
    now_ms: int
    written: list[dict[str, Any]]
    node: str = "begin"

    def add(self, step: Step) -> None:
        if isinstance(step, Say):
            typing_ms = (1_200, 3_000) if step.role == "agent" else (6_000, 45_000)
            text = self.rng.choice(step.texts).format_map(self.slots)
            self._write(self.rng.randrange(*typing_ms), role=step.role, content=text)
        elif isinstance(step, Node):
            self._write(
                20, role="state_transition", former_state_name=self.node, new_state_name=step.name
            )
            self.node = step.name
        elif isinstance(step, Tool):
            call_id = f"tool_call_{hex_digits(self.rng, 16)}"
            self._write(
                300,
                role="tool_call_invocation",
                tool_call_id=call_id,
                name=step.name,
                arguments=compact(fill(step.arguments, self.slots)),
                type=step.type,
            )
            self._write(
                self.rng.randrange(300, 1_500),
                role="tool_call_result",
                tool_call_id=call_id,
                successful=step.successful,
                content=compact(fill(step.result, self.slots)),
            )

    def _write(self, after_ms: int, **message: Any) -> None:
        self.now_ms += after_ms
        message_id = f"msg_{hex_digits(self.rng, 24)}"
        self.written.append({"message_id": message_id, **message, "created_timestamp": self.now_ms})


def _chat(
    rng: Random, account: Account, key: str, chat_type: str, script: Script, start_ms: int
) -> dict[str, Any]:
    agent = agent_named(key)
    slots = person(rng, agent.country) | working_day(rng, start_ms, script.language)
    for choice in script.choices:
        slots |= rng.choice(choice)
    chat_id = f"chat_{hex_digits(rng, 27)}"
    ending = rng.choice(script.endings)
    messages = _Messages(rng, slots, start_ms, [])
    for step in decided((*script.opening, *ending.steps), rng):
        messages.add(step)
    spoken = [message for message in messages.written if message["role"] in ("agent", "user")]
    cost = number(round(_MESSAGE_COST * len(spoken), 7))
    return {
        "chat_id": chat_id,
        "agent_id": account.agent_ids[key],
        "version": agent.versions[-1].number,
        "retell_llm_dynamic_variables": fill(agent.variables, slots),
        "collected_dynamic_variables": {"last_node_name": messages.node},
        "chat_status": "ended",
        "chat_type": chat_type,
        "metadata": {"channel": chat_type, "visitor": f"V-{slots['ref']}"},
        "custom_attributes": {"priority": rng.randrange(1, 4), "newsletter": rng.random() < 0.5},
        "start_timestamp": start_ms,
        "end_timestamp": messages.now_ms + rng.randrange(30_000, 300_000),
        "transcript": "".join(f"{m['role'].title()}: {m['content']}\n" for m in spoken),
        "message_with_tool_calls": messages.written,
        "chat_cost": {
            "product_costs": [{"product": "gpt_5_nano_text_testing", "cost": cost}],
            "combined_cost": cost,
        },
        "chat_analysis": {
            "chat_summary": fill(ending.summary, slots),
            "user_sentiment": ending.sentiment,
            "chat_successful": ending.successful,
            "custom_analysis_data": fill(ending.analysis, slots),
        },
    }


def _reported(rng: Random, chat: dict[str, Any]) -> list[Event]:
    started = {key: chat[key] for key in _FROM_THE_START} | {"chat_status": "ongoing"}
    ended = {key: value for key, value in chat.items() if key != "chat_analysis"}
    ended_ms = chat["end_timestamp"] + rng.randrange(200, 900)
    stages = (
        (chat["start_timestamp"] + 80, "chat_started", started),
        (ended_ms, "chat_ended", ended),
        (ended_ms + rng.randrange(2_000, 9_000), "chat_analyzed", chat),
    )
    return [Event(at_ms, name, chat["chat_id"], {"chat": state}) for at_ms, name, state in stages]
