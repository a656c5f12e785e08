"""A model of our own answers questions about chats: which chats, what it reads, what is stored."""

import json

import pytest

from receiver.errors import SettingsError
from receiver.jobs.grading import find
from schema.statistics import sample
from tests.support.erasing import erased
from tests.support.grading import (
    ADDRESS,
    DAY,
    MODEL,
    NOW,
    STORED,
    call,
    chat,
    graded,
    registered,
    scores,
    with_grading,
)
from tests.support.storing import rows

CHATS = ADDRESS | {"where": "1 = 0", "where_chats": "1 = 1"}


@pytest.fixture
def model():
    with registered() as model:
        yield model


def test_chat_gets_answer_reason_and_tokens(settings, store, db, model):
    chat(store, "chat_1")
    assert graded(with_grading(settings, CHATS), store).graded == 1
    assert graded(with_grading(settings, CHATS), store).graded == 0
    author, usage = f"model:{MODEL}", json.dumps({"input_tokens": 1_000, "output_tokens": 20})
    assert rows(db, STORED) == [
        ("chat_1", "usage", None, None, "address", usage, author),
        ("chat_1", "score", "session", 0, "address", "yes", author),
        ("chat_1", "note", "session", 0, "address", "The agent asked.", author),
    ]
    [prompt] = model.prompts
    assert "[0] agent: You live at 5 Elm Street?\n[2] user: Yes.\n" in prompt
    assert "book" not in prompt


def test_question_without_condition_leaves_chats_out(settings, store, db, model):
    chat(store, "chat_1")
    call(store, "call_1")
    graded(with_grading(settings), store)
    assert scores(db) == [("call_1", "address", "yes")]


def test_condition_selects_chats(settings, store, db, model):
    for n, fields in enumerate(({"agent_id": "agent_7"}, {"chat_type": "sms_chat"}, {})):
        chat(store, f"chat_{n}", **fields)
    call(store, "call_1")
    of_sms = ADDRESS | {"where_chats": "chat_type = 'sms_chat'"}
    graded(with_grading(settings, of_sms), store)
    assert scores(db) == [("call_1", "address", "yes"), ("chat_1", "address", "yes")]


def test_odd_chats_are_graded_or_left_out(settings, store, db, model):
    """Each field of another type, or missing; an ongoing chat, and one without words, are not."""
    for n, name in enumerate(("agent_id", "start_timestamp", "end_timestamp", "chat_type")):
        chat(store, f"chat_{n}", **{name: None if n % 2 else {"odd": []}})
    chat(store, "ongoing", event="chat_started", chat_status="ongoing", end_timestamp=None)
    chat(store, "silent", message_with_tool_calls=[None, 7, {"role": "user"}, {"content": "x"}])
    chat(store, "later", start_timestamp=NOW - 60_000, end_timestamp=NOW - 60_000)
    grading = with_grading(settings, CHATS)
    [found] = find(grading, grading.file.grading.questions, DAY, now_ms=NOW)
    assert (sorted(found.ids), found.without_text) == ([f"chat_{n}" for n in range(4)], 1)
    graded(with_grading(settings, CHATS), store)
    assert [entity_id for entity_id, *_ in scores(db)] == [f"chat_{n}" for n in range(4)]


def test_only_scrubbed_messages_are_sent(settings, store, db, model):
    chat(store, "chat_1", scrubbed=(("agent", "You live at [address]?"),))
    chat(store, "chat_2")
    graded(with_grading(settings, CHATS, text="scrubbed"), store)
    assert len(model.prompts) == 1
    assert "Elm Street" not in model.prompts[0]
    assert scores(db) == [("chat_1", "address", "yes")]


def test_sample_of_chats_is_beside_that_of_calls(settings, store, model):
    for n in range(6):
        chat(store, f"chat_{n}")
        call(store, f"call_{n}")
    sampled = with_grading(settings, ADDRESS | {"where_chats": "1 = 1", "sample": 2})
    [found] = find(sampled, sampled.file.grading.questions, DAY, now_ms=NOW)
    chats = [{"call_id": f"chat_{n}", "agent_id": "agent_1"} for n in range(6)]
    assert [id for id in found.ids if id.startswith("chat")] == sample(chats, DAY, 2)
    assert len(found.ids) == 4


def test_erasing_a_chat_takes_its_grades(settings, store, db, model):
    chat(store, "chat_1")
    graded(with_grading(settings, CHATS), store)
    assert scores(db) == [("chat_1", "address", "yes")]
    erased(settings, store, "chat_1")
    assert rows(db, "SELECT 1 FROM annotations") == []


def test_unusable_condition_over_chats_is_named(settings, store):
    unusable = with_grading(settings, ADDRESS | {"where_chats": "call_id = 'x'"})
    with pytest.raises(SettingsError, match="where_chats of the question address"):
        graded(unusable, store)
