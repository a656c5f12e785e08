"""The operations of Retell's API on an account's chats: one method for each route."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from receiver.errors import Refusal
from receiver.sandbox.chats import Messages, analysis_of, content_of, ended, replies
from receiver.sandbox.companies import Account, AgentVersion, decided, slots_of
from receiver.sandbox.days import Event
from receiver.sandbox.deliveries import Reporter
from receiver.sandbox.lists import ChatListOrder, page
from receiver.sandbox.orders import (
    E164,
    AgentOrder,
    Attributes,
    Body,
    InboundOrder,
    Metadata,
    NumberOrder,
    Order,
    Text,
    changes,
)
from receiver.sandbox.plans import BY_NUMBER
from receiver.sandbox.wire import hex_digits
from receiver.sandbox.workspace import StoredCall, Workspace

_KEY = "chat_id"
_ANALYSIS_MS = 2_000
_Storage = Literal["everything", "basic_attributes_only"]


class SmsOrder(NumberOrder):
    """The body of create-sms-chat."""

    from_number: E164
    to_number: E164
    honor_internal_dnc: bool = False


class CompletionOrder(Body):
    """The body of create-chat-completion."""

    chat_id: Text
    content: Text


class ChatUpdate(Body):
    """The body of update-chat."""

    nullable = frozenset({"override_dynamic_variables"})

    metadata: Metadata | None = None
    data_storage_setting: _Storage | None = None
    custom_attributes: Attributes | None = None
    override_dynamic_variables: dict[str, str] | None = None


@dataclass(kw_only=True)
class ChatOperations:
    """The chats of one account. Raises Refusal where Retell responds with an error."""

    seed: int
    account: Account
    workspace: Workspace
    reporter: Reporter
    now_ms: Callable[[], int]
    _created: int = 0

    def create_chat(self, body: Any) -> dict[str, Any]:
        """Create a chat by API; the person writes first."""
        order = AgentOrder.parse(body)
        agent = self.workspace.agent(order.agent_id, order.agent_version)
        return self._create(agent, _own(order) | {"chat_type": "api_chat"})

    def create_sms_chat(self, body: Any) -> dict[str, Any]:
        """Create a chat by SMS; the agent writes first."""
        order = SmsOrder.parse(body)
        scenario = BY_NUMBER.get(order.to_number)
        if scenario and scenario.refusal:
            raise Refusal(*scenario.refusal)
        agent = self.workspace.agent_for(order.from_number, order)
        numbers = {"agent_number": order.from_number, "user_number": order.to_number}
        return self._create_sms(agent, _own(order) | {"direction": "outbound"} | numbers, [])

    def receive_chat(self, body: Any) -> dict[str, Any]:
        """Let somebody text a number, whose webhook is asked first; return the chat."""
        order = InboundOrder.parse(body)
        agent, given = self.reporter.ask("chat_inbound", order)
        numbers = {"agent_number": order.to_number, "user_number": order.from_number}
        given |= {"direction": "inbound"} | numbers
        return self._create_sms(agent, given, [order.content])

    def create_completion(self, body: Any) -> dict[str, Any]:
        """Add a message of the person; return the agent's new messages."""
        order = CompletionOrder.parse(body)
        with self.workspace.lock:
            self._ongoing(order.chat_id)
            return {"messages": self._write(order.chat_id, [order.content])}

    def get_chat(self, chat_id: str) -> dict[str, Any]:
        """Return the current chat object."""
        return self.workspace.get(chat_id, _KEY).call

    def list_chats(self, body: Any) -> dict[str, Any]:
        """Return a page of chats."""
        return page(self.workspace.listed(_KEY), ChatListOrder.parse(body))

    def update_chat(self, chat_id: str, body: Any) -> dict[str, Any]:
        """Change fields of a chat."""
        update = ChatUpdate.parse(body)
        with self.workspace.lock:
            chat = self.get_chat(chat_id)
            return self.workspace.change(chat_id, changes(chat, update), _KEY)

    def end_chat(self, chat_id: str) -> None:
        """End a chat; it is analysed a moment later."""
        with self.workspace.lock:
            chat, now_ms = self._ongoing(chat_id), self.now_ms()
            over = chat | ended(chat, now_ms)
            _, ending, slots = self._course(chat)
            analysed = over | {"chat_analysis": analysis_of(ending, slots)}
            self.workspace.advance(chat_id, 0, over)
            events = [
                Event(now_ms, "chat_ended", chat_id, {"chat": over}),
                Event(now_ms + _ANALYSIS_MS, "chat_analyzed", chat_id, {"chat": analysed}),
            ]
            self.reporter.report(chat_id, 0, events)

    def delete_chat(self, chat_id: str) -> None:
        """Delete a chat."""
        self.workspace.remove(chat_id, _KEY)

    def rerun_analysis(self, chat_id: str) -> dict[str, Any]:
        """Analyse a chat again and send chat_analyzed."""
        with self.workspace.lock:
            chat = self.get_chat(chat_id)
            if "chat_analysis" not in chat:
                raise Refusal(400, "Chat has not been analyzed yet.")
            again = chat["chat_analysis"] | {"user_sentiment": "Positive"}
            chat = self.workspace.change(chat_id, {"chat_analysis": again}, _KEY)
            event = Event(self.now_ms() + _ANALYSIS_MS, "chat_analyzed", chat_id, {"chat": chat})
            self.reporter.post(chat_id, 0, [event])
            return chat

    def _create_sms(
        self, agent: AgentVersion, given: Mapping[str, Any], said: list[str]
    ) -> dict[str, Any]:
        chat = self._create(agent, {"chat_type": "sms_chat", **given})
        with self.workspace.lock:
            self._write(chat["chat_id"], said)
        return self.get_chat(chat["chat_id"])

    def _create(self, agent: AgentVersion, given: Mapping[str, Any]) -> dict[str, Any]:
        with self.workspace.lock:
            self._created += 1
            chat_id = f"chat_{hex_digits(Random(f'{self.seed} chat {self._created}'), 27)}"
            now_ms = self.now_ms()
            chat = {
                "chat_id": chat_id,
                "agent_id": agent.settings["agent_id"],
                "version": agent.version.number,
                "chat_status": "ongoing",
                "start_timestamp": now_ms,
                "data_storage_setting": "everything",
                **given,
                **content_of(given["chat_type"], []),
            }
            self.workspace.add(StoredCall(chat, now_ms))
            started = Event(now_ms, "chat_started", chat_id, {"chat": chat})
            self.reporter.post(chat_id, 0, [started])
            return chat

    def _write(self, chat_id: str, said: list[str]) -> list[dict[str, Any]]:
        """Add what the person said and the agent's reply to it; return the reply."""
        chat, now_ms = self.get_chat(chat_id), self.now_ms()
        before = chat.get("message_with_tool_calls", [])
        turns, _, slots = self._course(chat)
        turn = sum(message["role"] == "user" for message in before)
        messages = Messages(Random(f"{chat_id} {len(before)}"), slots, now_ms)
        for text in said:
            messages.write(0, role="user", content=text)
        for step in turns[min(turn, len(turns) - 1)]:
            messages.add(step)
        fields = content_of(chat["chat_type"], [*before, *messages.written])
        self.workspace.advance(chat_id, 0, chat | fields)
        return messages.written[len(said) :]

    def _course(self, chat: Mapping[str, Any]) -> tuple[list[Any], Any, dict[str, Any]]:
        """Return the turns of the agent in a chat, its ending, and the slots of both."""
        rng = Random(chat["chat_id"])
        agent = self.workspace.agent(chat["agent_id"], chat["version"]).agent
        dialogue = rng.choice(agent.dialogues)
        ending = rng.choice(dialogue.endings)
        turns = replies(list(decided((*dialogue.opening, *ending.steps), rng)))
        return turns, ending, slots_of(rng, agent.country, dialogue, chat["start_timestamp"])

    def _ongoing(self, chat_id: str) -> dict[str, Any]:
        chat = self.get_chat(chat_id)
        if chat["chat_status"] != "ongoing":
            raise Refusal(400, "Chat has already ended.")
        return chat


def _own(order: Order) -> dict[str, Any]:
    """The fields that a chat copies from its order."""
    own = {"metadata", "retell_llm_dynamic_variables"}
    return order.model_dump(include=own, exclude_none=True)
