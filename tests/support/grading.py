"""A model of the library llm that answers by a function, without a network, and calls to grade."""

import json
from contextlib import contextmanager
from dataclasses import replace
from datetime import date

import llm
import pytest
from llm.plugins import pm

from receiver.grading_settings import parse_grading
from receiver.jobs.grading import find, grade
from receiver.jobs.worker import Run
from tests.support.browsing import START, simple
from tests.support.storing import rows, stored

MODEL = "test-model"
HOUR_MS = 3_600_000
DAY = date(2026, 5, 12)
# The day after the calls.
NOW = START + 30 * HOUR_MS
ADDRESS = {"name": "address", "ask": "Did the agent confirm the address?"}
LINES = (("agent", "You live at 5 Elm Street?"), ("user", "Yes."))
STORED = (
    "SELECT entity_id, kind, track, position, name, value, author FROM annotations "
    "WHERE removed_at IS NULL ORDER BY entity_id, kind DESC"
)


class Model(llm.Model):
    """`answer` gets the text of a prompt and returns the text of the answer, or raises."""

    model_id = MODEL
    supports_schema = True
    tokens = (1_000, 20)

    def __init__(self, answer):
        self.answer, self.prompts, self.schemas = answer, [], []

    def execute(self, prompt, *, response, **_):
        self.prompts.append(prompt.prompt)
        self.schemas.append(prompt.schema)
        text = self.answer(prompt.prompt)
        response.set_usage(input=self.tokens[0], output=self.tokens[1])
        yield text


class _Plugin:
    def __init__(self, model):
        self.model = model

    @llm.hookimpl
    def register_models(self, register):
        register(self.model)


def text_of(answer="yes", reason="The agent asked.", turn=0):
    return json.dumps({"answer": answer, "reason": reason, "turn": turn})


@contextmanager
def registered(answer=lambda _: text_of()):
    """Yield a model that llm knows by its plugin."""
    plugin = _Plugin(Model(answer))
    pm.register(plugin)
    try:
        with without_keys():
            yield plugin.model
    finally:
        pm.unregister(plugin)


@contextmanager
def without_keys():
    """No keys and models of whoever runs the tests: the library makes its files here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLM_USER_PATH", "llm")
        patch.delenv("OPENAI_API_KEY", raising=False)
        yield


def with_grading(settings, *questions, **values):
    """Settings with questions, by default one about the address."""
    found = {"model": MODEL, "text": "full", "question": list(questions or [ADDRESS])} | values
    return replace(settings, file=replace(settings.file, grading=parse_grading(found)))


def chat(store, chat_id, *lines, event="chat_ended", scrubbed=(), **fields):
    """Store a chat, by default one that has ended, with messages and a tool among them."""

    def messages(lines):
        tool = {"role": "tool_call_invocation", "name": "book", "arguments": "{}"}
        first, *rest = ({"role": role, "content": text} for role, text in lines)
        return [first, tool, *rest]

    body = {
        "chat_id": chat_id,
        "chat_status": "ended",
        "agent_id": "agent_1",
        "start_timestamp": START,
        "end_timestamp": START + 20_000,
        "message_with_tool_calls": messages(lines or LINES),
    }
    if scrubbed:
        body["scrubbed_message_with_tool_calls"] = messages(scrubbed)
    stored(store, {"event": event, "chat": body | fields}, at=START)


def call(store, call_id, *lines, scrubbed=(), **fields):
    """Store a call that has ended, with turns."""
    body = simple(call_id, *(lines or LINES), **{"end_timestamp": START + 20_000} | fields)
    if scrubbed:
        turns = simple(call_id, *scrubbed)["call"]["transcript_with_tool_calls"]
        body["call"]["scrubbed_transcript_with_tool_calls"] = turns
    stored(store, body)


def run_of(settings, store, *, now_ms=NOW, memory=None):
    return Run(settings, store, now_ms=lambda: now_ms, memory=memory)


def graded(settings, store, *, sleep=lambda _: None, since=DAY, now_ms=NOW, memory=None, **options):
    questions = settings.file.grading.questions
    found = find(settings, questions, since, now_ms=now_ms)
    run = run_of(settings, store, now_ms=now_ms, memory=memory)
    return grade(run, found, sleep=sleep, **options)


def scores(db):
    return rows(
        db,
        "SELECT entity_id, name, value FROM annotations WHERE kind = 'score' "
        "AND removed_at IS NULL ORDER BY 1, 2",
    )
