"""Transcript entries -> rows: what was said, which tools ran, where the flow went, and the rest."""

import pytest

from schema.transcript import TRACK_TABLES
from tests.support.tables import call_rows


def session(table: str, *entries) -> list[dict]:
    """The rows of a table for these entries of transcript_with_tool_calls."""
    return call_rows(table, "session", transcript_with_tool_calls=list(entries))


def utterance(role: str, *words, **more) -> dict:
    """An utterance whose words are (word, start, end)."""
    return {
        "role": role,
        "content": "".join(word for word, _, _ in words),
        "words": [{"word": word, "start": start, "end": end} for word, start, end in words],
    } | more


def invoked(tool_call_id: str = "t1", **more) -> dict:
    return {"role": "tool_call_invocation", "tool_call_id": tool_call_id, "name": "look"} | more


def result(tool_call_id: str = "t1", **more) -> dict:
    return {"role": "tool_call_result", "tool_call_id": tool_call_id, "content": "ok"} | more


HELLO = utterance("agent", ("Hello ", 1.25, 1.5), ("there.", 1.5, 2.0))
YES = utterance("user", ("Yes ", 3.0, 3.25), ("please.", 3.5, 4.0))

# Tracks.


@pytest.mark.parametrize(
    ("field", "track"),
    [
        ("transcript_object", "session"),
        ("transcript_with_tool_calls", "session"),
        ("pre_session_transcript_with_tool_calls", "pre_session"),
        ("post_session_transcript_with_tool_calls", "post_session"),
        ("scrubbed_transcript_with_tool_calls", "scrubbed_session"),
        ("scrubbed_pre_session_transcript_with_tool_calls", "scrubbed_pre_session"),
        ("scrubbed_post_session_transcript_with_tool_calls", "scrubbed_post_session"),
    ],
)
def test_each_list_is_a_track_of_its_own(field, track):
    (row,) = call_rows("utterances", track, **{field: [HELLO]})
    assert (row["track"], row["position"], row["content"]) == (track, 0, "Hello there.")


@pytest.mark.parametrize("longer", [[HELLO, YES], []])
def test_list_with_tool_calls_decides_the_session_alone(longer):
    rows = call_rows(
        "utterances", "session", transcript_object=[YES], transcript_with_tool_calls=longer
    )
    assert [row["content"] for row in rows] == [entry["content"] for entry in longer]


def test_positions_interleave_the_kinds_again():
    entries = [
        {"role": "node_transition", "new_node_id": "start"},
        HELLO,
        invoked(),
        YES,
        result(),
        {"role": "dtmf", "digit": "5"},
    ]
    places = {table: [r["position"] for r in session(table, *entries)] for table in TRACK_TABLES}
    assert places == {
        "node_transitions": [0], "utterances": [1, 3], "utterance_words": [1, 3],
        "tool_calls": [2], "markers": [5],
    }  # fmt: skip


@pytest.mark.parametrize("junk", [None, "text", 7, [HELLO], True])
def test_entry_that_is_no_object_leaves_a_gap(junk):
    assert [row["position"] for row in session("utterances", junk, HELLO, junk, YES)] == [1, 3]


@pytest.mark.parametrize("field", ["transcript_with_tool_calls", "transcript_object"])
@pytest.mark.parametrize("junk", ["text", {}, 7, {"0": HELLO}])
def test_list_that_is_no_list_has_no_rows(field, junk):
    assert call_rows("utterances", "session", **{field: junk}) == []


# Utterances and their words.


def test_utterance_lasts_from_first_to_last_word():
    assert session("utterances", HELLO | {"metadata": {"response_id": 1}}) == [
        {"call_id": "call_a", "track": "session", "position": 0, "role": "agent",
         "content": "Hello there.", "start_seconds": 1.25, "end_seconds": 2.0, "word_count": 2,
         "metadata": '{"response_id":1}'},
    ]  # fmt: skip


def test_words_keep_spaces_and_numbers_as_sent():
    entry = utterance("user", (" Äh, ", 0, 0.30000000000000004), ("ja ", 1, 2))
    assert session("utterance_words", entry) == [
        {"call_id": "call_a", "track": "session", "position": 0,
         "words": '[[" Äh, ",0,0.30000000000000004],["ja ",1,2]]'},
    ]  # fmt: skip


@pytest.mark.parametrize("role", ["agent", "user", "transfer_target"])
def test_three_roles_speak(role):
    assert [row["role"] for row in session("utterances", HELLO | {"role": role})] == [role]


@pytest.mark.parametrize(
    ("words", "start", "end", "count"),
    [
        (None, None, None, 2),
        ([], None, None, 2),
        ("Hello", None, None, 2),
        ([{"word": "Hello"}, {"word": "you", "start": 2}], 2.0, None, 2),
        ([{"word": "Hello", "end": 1}, {"word": "you"}], None, 1.0, 2),
        ([{"word": "a", "start": "soon", "end": True}], None, None, 1),
        ([{"word": "a", "start": 1e300, "end": 10**400}], None, None, 1),
        (["Hello", 5, None], None, None, 3),
        ([{"word": "b", "start": 5, "end": 6}, {"word": "a", "start": 4, "end": 5}], 5.0, 5.0, 2),
    ],
)
def test_utterance_has_the_times_of_its_words(words, start, end, count):
    (row,) = session("utterances", {"role": "user", "content": "Hello you", "words": words})
    assert (row["start_seconds"], row["end_seconds"], row["word_count"]) == (start, end, count)


def test_words_of_any_shape_keep_their_places():
    (row,) = session("utterance_words", {"role": "user", "words": ["a", {"start": 1}, None]})
    assert row["words"] == '[["a",null,null],[null,1,null],[null,null,null]]'


def test_utterance_without_words_has_no_words_row():
    assert session("utterance_words", {"role": "agent", "content": "Hi."}) == []


@pytest.mark.parametrize(
    ("content", "text", "count"),
    [
        ("", "", 0),
        (None, None, 0),
        (17, "17", 1),
        (["a", "ü"], '["a","ü"]', 1),
        ({"text": "a b"}, '{"text":"a b"}', 2),
    ],
)
def test_content_of_any_type_is_text(content, text, count):
    (row,) = session("utterances", {"role": "agent", "content": content})
    assert (row["content"], row["word_count"]) == (text, count)


# Tool calls.


def test_invocation_and_result_are_one_row():
    rows = session(
        "tool_calls",
        HELLO,
        invoked(type="custom", arguments='{"a":1}', time_sec=1.75),
        YES,
        result(content='{"success":false}', successful=True, time_sec=2.5),
    )
    assert rows == [
        {"call_id": "call_a", "track": "session", "position": 1, "tool_call_id": "t1",
         "name": "look", "type": "custom", "arguments": '{"a":1}', "invoked_at_seconds": 1.75,
         "after_utterance": 0, "after_word": 1, "result_position": 3,
         "result": '{"success":false}', "successful": True, "result_at_seconds": 2.5,
         "duration_ms": 750},
    ]  # fmt: skip


def test_missing_result_leaves_nulls():
    (row,) = session("tool_calls", invoked(time_sec=1))
    assert {name for name, value in row.items() if value is not None} == {
        "call_id", "track", "position", "tool_call_id", "name", "invoked_at_seconds",
    }  # fmt: skip


def test_result_without_invocation_keeps_its_position():
    rows = session("tool_calls", HELLO, result("lost", successful=False, time_sec=3), invoked())
    assert [(r["position"], r["tool_call_id"], r["result"], r["invoked_at_seconds"])
            for r in rows] == [(1, "lost", "ok", None), (2, "t1", None, None)]  # fmt: skip
    assert (rows[0]["result_position"], rows[0]["successful"]) == (1, False)
    assert (rows[0]["duration_ms"], rows[0]["after_utterance"]) == (None, None)


def test_colliding_ids_pair_the_nth_with_the_nth():
    rows = session(
        "tool_calls",
        invoked("same", name="first"),
        invoked("same", name="second"),
        invoked("other", name="third"),
        result("same", content="1"),
        result("other", content="3"),
        result("same", content="2"),
        result("same", content="none left"),
    )
    assert [(r["position"], r["name"], r["result"], r["result_position"]) for r in rows] == [
        (0, "first", "1", 3), (1, "second", "2", 5), (2, "third", "3", 4),
        (6, None, "none left", 6),
    ]  # fmt: skip


def test_tracks_do_not_share_tool_calls():
    call = {"transcript_with_tool_calls": [invoked()],
            "post_session_transcript_with_tool_calls": [result()]}  # fmt: skip
    (here,) = call_rows("tool_calls", "session", **call)
    (there,) = call_rows("tool_calls", "post_session", **call)
    assert (here["result"], there["name"], there["result"]) == (None, None, "ok")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [("", ""), ("not JSON", "not JSON"), ({"a": [1]}, '{"a":[1]}'), ([], "[]"), (None, None)],
)
def test_arguments_of_any_type_are_text(arguments, text):
    (row,) = session("tool_calls", invoked(arguments=arguments))
    assert row["arguments"] == text


@pytest.mark.parametrize("successful", [True, False, None])
def test_successful_is_what_the_result_says(successful):
    (row,) = session("tool_calls", invoked(), result(successful=successful))
    assert row["successful"] is successful


@pytest.mark.parametrize(
    ("time_sec", "utterance", "word"),
    [
        (0, None, None),
        (1.24, None, None),
        (1.25, 0, 0),
        (1.49, 0, 0),
        (1.5, 0, 1),
        (2.9, 0, 1),
        (3, 2, 0),
        (3.4, 2, 0),
        (99, 2, 1),
        (None, 0, None),
        ("soon", 0, None),
        (1e300, 0, None),
    ],
)
def test_invocation_is_placed_after_the_word_begun_last(time_sec, utterance, word):
    (row,) = session("tool_calls", HELLO, invoked(time_sec=time_sec), YES)
    assert (row["after_utterance"], row["after_word"]) == (utterance, word)


def test_invocation_is_placed_by_its_time():
    # Entries stand in the order in which recognition finished.
    (row,) = session("tool_calls", invoked(time_sec=1.3), HELLO)
    assert (row["after_utterance"], row["after_word"]) == (1, 0)


def test_invocation_without_word_times_is_placed_by_position():
    words = {"words": [{"word": "Hi."}]}
    entries = [HELLO | words, invoked(time_sec=5), YES | {"words": None}, invoked(time_sec=6)]
    placed = [(r["after_utterance"], r["after_word"]) for r in session("tool_calls", *entries)]
    assert placed == [(0, None), (2, None)]


def test_invocation_before_anybody_spoke_has_no_place():
    (row,) = session("tool_calls", invoked(), HELLO)
    assert (row["after_utterance"], row["after_word"]) == (None, None)


@pytest.mark.parametrize(
    ("start", "end", "duration"),
    [
        (2, 2, 0),
        (2.1, 2.3, 200),
        (3, 2, -1000),
        (None, 2, None),
        (2, None, None),
        (0, 1e17, None),
        (-1e308, 1e308, None),
        ("x", 2, None),
    ],
)
def test_duration_is_milliseconds_between_two_times(start, end, duration):
    (row,) = session("tool_calls", invoked(time_sec=start), result(time_sec=end))
    assert row["duration_ms"] == duration


# Transitions, markers and what nobody knows yet.


def test_node_transition_keeps_both_ends():
    entry = {"role": "node_transition", "former_node_id": "begin", "former_node_name": "Begin 🚪",
             "new_node_id": "n2", "new_node_name": "Größe", "transition_type": "global",
             "time_sec": 0}  # fmt: skip
    assert session("node_transitions", entry) == [
        {"call_id": "call_a", "track": "session", "position": 0, "former_node_id": "begin",
         "former_node_name": "Begin 🚪", "new_node_id": "n2", "new_node_name": "Größe",
         "transition_type": "global", "time_seconds": 0.0},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "role", "time", "body"),
    [
        ({"role": "dtmf", "digit": "#", "time_sec": 4}, "dtmf", 4.0, "#"),
        ({"role": "dtmf", "digit": 5}, "dtmf", None, '{"digit":5}'),
        ({"role": "sms", "content": "On my way"}, "sms", None, "On my way"),
        (
            {"role": "sms", "content": "See", "time_sec": 2.5, "multimedia": [{"url": "u"}]},
            "sms", 2.5, '{"content":"See","multimedia":[{"url":"u"}]}',
        ),
        ({"role": "injected", "content": "", "time_sec": 1}, "injected", 1.0, ""),
        (
            {"role": "state_transition", "former_state_name": "a", "new_state_name": "b"},
            "state_transition", None, '{"former_state_name":"a","new_state_name":"b"}',
        ),
        ({"role": "hologram", "shape": [1]}, "hologram", None, '{"shape":[1]}'),
        ({"role": "hologram", "shape": "cube"}, "hologram", None, '{"shape":"cube"}'),
        ({"role": "silence"}, "silence", None, None),
        ({"content": "Who?"}, None, None, "Who?"),
        ({"role": ["agent"], "content": "Who?"}, None, None, "Who?"),
        ({"role": "Agent", "content": "Who?"}, "Agent", None, "Who?"),
        ({}, None, None, None),
    ],
)  # fmt: skip
def test_everything_else_is_a_marker(entry, role, time, body):
    assert session("markers", entry) == [
        {"call_id": "call_a", "track": "session", "position": 0, "role": role,
         "time_seconds": time, "body": body},
    ]  # fmt: skip
