"""The operations of Retell's API on an account's chats: one method for each route."""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from receiver.errors import ApiError
from receiver.sandbox.chats import Messages, analysis_of, content_of, ended, replies
from receiver.sandbox.companies import AgentVersion
from receiver.sandbox.operations import ANALYSIS_MS, Operations
from receiver.sandbox.orders import own_fields, parse
from receiver.sandbox.plans import BY_NUMBER
from receiver.sandbox.wire import Event, Json, hex_digits
from receiver.sandbox.workspace import StoredCall


@dataclass(kw_only=True)
class ChatOperations(Operations):
    """The chats of one account."""

    noun = "chat"

    def create_chat(self, body: Any) -> Json:
        """Create a chat by API; the person writes first."""
        order = parse("create-chat", body)
        agent = self.workspace.agent(order.agent_id, order.agent_version)
        return self._create(agent, {"chat_type": "api_chat"} | own_fields(order))

    def create_sms_chat(self, body: Any) -> Json:
        """Create a chat by SMS; the agent writes first."""
        order = parse("create-sms-chat", body)
        scenario = BY_NUMBER.get(order.to_number)
        if scenario and scenario.error:
            raise ApiError(*scenario.error)
        agent = self.workspace.agent_for(order.from_number, order)
        numbers = {"agent_number": order.from_number, "user_number": order.to_number}
        return self._create_sms(agent, {"direction": "outbound"} | numbers | own_fields(order), [])

    def receive_chat(self, body: Any) -> Json:
        """Receive an SMS to a number, whose inbound webhook is called first; return the chat."""
        order = parse("inbound", body)
        agent, given = self.reporter.ask("chat_inbound", order)
        numbers = {"agent_number": order.to_number, "user_number": order.from_number}
        said = [order.content or "Hello"]
        return self._create_sms(agent, {"direction": "inbound"} | numbers | given, said)

    def create_completion(self, body: Any) -> Json:
        """Add a message of the person; return the agent's new messages."""
        order = parse("create-chat-completion", body)
        with self.workspace.lock:
            self._ongoing(order.chat_id)
            return {"messages": self._write(order.chat_id, [order.content])}

    def end_chat(self, chat_id: str) -> None:
        """End a chat; it is analysed a moment later."""
        with self.workspace.lock:
            chat, now_ms = self._ongoing(chat_id), self.workspace.now_ms()
            over = chat | ended(chat, now_ms)
            _, ending, slots = self._course(chat)
            analysed = over | {"chat_analysis": analysis_of(ending, slots)}
            self.workspace.advance(chat_id, 0, over)
            events = [
                Event(now_ms, "chat_ended", chat_id, {"chat": over}),
                Event(now_ms + ANALYSIS_MS, "chat_analyzed", chat_id, {"chat": analysed}),
            ]
            self.reporter.report(chat_id, 0, events)

    def _create_sms(self, agent: AgentVersion, given: Mapping[str, Any], said: list[str]) -> Json:
        with self.workspace.lock:
            chat = self._create(agent, {"chat_type": "sms_chat", **given})
            self._write(chat["chat_id"], said)
            return self.get(chat["chat_id"])

    def _create(self, agent: AgentVersion, given: Mapping[str, Any]) -> Json:
        with self.workspace.lock:
            chat_id = f"chat_{hex_digits(self.random('chat '), 27)}"
            now_ms = self.workspace.now_ms()
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
            self.workspace.stored[chat_id] = StoredCall(chat, now_ms)
            started = Event(now_ms, "chat_started", chat_id, {"chat": chat})
            self.reporter.post(chat_id, 0, [started])
            return chat

    def _write(self, chat_id: str, said: list[str]) -> list[Json]:
        """Add a message of the person and the agent's reply; return the reply."""
        chat, now_ms = self.get(chat_id), self.workspace.now_ms()
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

    def _course(self, chat: Mapping[str, Any]) -> tuple[list[Any], Any, Json]:
        """Return the turns of the agent in a chat, its ending, and the slots of both."""
        rng = Random(chat["chat_id"])
        agent = self.workspace.agent(chat["agent_id"], chat["version"]).agent
        dialogue = rng.choice(agent.dialogues)
        ending = rng.choice(dialogue.endings)
        turns = replies(list(dialogue.steps_to(ending, rng)))
        return turns, ending, dialogue.slots(rng, agent.country, chat["start_timestamp"])

    def _ongoing(self, chat_id: str) -> Json:
        chat = self.get(chat_id)
        if chat["chat_status"] != "ongoing":
            raise ApiError(400, "Chat has already ended.")
        return chat
