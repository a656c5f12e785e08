"""From a call's rows to what its page says: the view model alone, without a server."""

import json

import pytest

from receiver.browse.pages.call_object import call_object
from receiver.browse.pages.calls import call_view
from receiver.browse.pages.conversation import (
    Note,
    ToolCall,
    Turn,
    conversation,
    readable,
    words_markup,
)
from receiver.browse.pages.speaker_timeline import speaker_timeline
from schema.rows import Stamp, project
from schema.tables import CALL_TABLES
from tests.support.raw_fields import raw_fields


def utterance(role, text, start, *, each=0.5):
    """An utterance whose words take `each` second, with Retell's spaces between them."""
    words = text.split(" ")
    return {
        "role": role,
        "content": text,
        "words": [
            {"word": word + " " * (n < len(words) - 1), "start": start + n * each,
             "end": start + (n + 1) * each}
            for n, word in enumerate(words)
        ],
    }  # fmt: skip


def invoked(name, at, **more):
    return {"role": "tool_call_invocation", "tool_call_id": name, "name": name, "time_sec": at,
            **more}  # fmt: skip


def result(name, at, content, *, successful=True):
    return {"role": "tool_call_result", "tool_call_id": name, "time_sec": at,
            "content": content, "successful": successful}  # fmt: skip


def tables(**fields):
    """The rows of a call by table, as Datasette reads them."""
    names = {table.name: table.names for table in CALL_TABLES}
    rows = {name: [] for name in names}
    for (table, _), part in project("call_a", raw_fields(fields), Stamp(3, 1000, 2000)).items():
        rows[table] += [dict(zip(names[table], row, strict=True)) for row in part]
    return rows


def view(*entries, scrubbed=False, **fields):
    session = {"transcript_with_tool_calls": list(entries)} if entries else {}
    return call_view(tables(**session, **fields), scrubbed=scrubbed)


def entries(*given):
    return view(*given).conversation.entries


def test_tool_is_marked_at_its_word():
    [turn] = entries(utterance("agent", "let me look that up", 1.0), invoked("look_up", 2.1))
    [tool] = turn.tools
    assert tool.after_word == 2
    assert '<span data-start=2.00 data-end=2.50>look</span> <a class="mark"' in words_markup(turn)


def test_tool_before_first_word_precedes_first_turn():
    tool, turn = entries(invoked("greet", 0.1), utterance("agent", "hello", 1.0))
    assert isinstance(tool, ToolCall)
    assert isinstance(turn, Turn)


def test_tool_shows_its_result():
    answers = {
        "ran": result("ran", 2, '{"success":true}'),
        "broke": result("broke", 2, "timeout", successful=False),
        "refused": result("refused", 2, '{"success":false}'),
    }
    calls = [invoked(name, 1.2) for name in (*answers, "silent")]
    [turn] = entries(utterance("agent", "one moment", 1.0), *calls, *answers.values())
    assert {tool.name: tool.outcome for tool in turn.tools} == {
        "ran": "done", "broke": "failed", "refused": "unsuccessful", "silent": "no result",
    }  # fmt: skip


def test_words_keep_the_spaces_of_the_content():
    [turn] = entries(utterance("user", "well, yes please", 0.0))
    assert "".join(word for word, _, _ in turn.words) == "well, yes please"
    bare = [{"word": "Hello", "start": 0, "end": 1}, {"word": "there.", "start": 1, "end": 2}]
    [turn] = entries({"role": "user", "content": "Hello there.", "words": bare})
    assert turn.words == [("Hello ", 0.0, 1.0), ("there.", 1.0, 2.0)]


@pytest.mark.parametrize("words", [None, [], [{"word": "elsewhere", "start": 1, "end": 2}], "x"])
def test_content_is_complete_when_words_differ(words):
    [turn] = entries({"role": "user", "content": "Hello there.", "words": words})
    assert turn.words == [("Hello there.", None, None)]
    assert words_markup(turn) == "Hello there."


def test_markup_in_a_transcript_stays_text():
    evil = "<script>alert(1)</script>"
    [turn] = entries(utterance("user", f"{evil} & more", 0.0), invoked('"><script>', 0.2))
    markup = words_markup(turn)
    assert "<script" not in markup
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in markup
    assert "&amp;" in markup


def test_turns_have_pauses_interruptions_and_answer_times():
    first, second, third, fourth = entries(
        utterance("agent", "how can I help you today", 0.0),
        utterance("user", "a crown please", 2.0),
        utterance("user", "soon", 8.0),
        utterance("agent", "of course", 9.0),
    )
    assert not first.interrupts
    assert second.interrupts
    assert third.continues
    assert third.pause == pytest.approx(4.5)
    assert not third.interrupts
    assert fourth.answered_ms == 500


def test_steps_keys_and_messages_stand_between_the_turns():
    kinds = [
        (entry.kind, entry.text, entry.seconds)
        for entry in entries(
            {"role": "node_transition", "former_node_name": "begin", "new_node_name": "Menu",
             "transition_type": "global_go_back", "time_sec": 0.5},
            {"role": "dtmf", "digit": "#", "time_sec": 1},
            {"role": "sms", "content": "See you", "time_sec": 2.5},
            {"role": "hologram", "content": "hm"},
        )
        if isinstance(entry, Note)
    ]  # fmt: skip
    assert kinds == [
        ("node_transition", "begin → Menu (global go back)", 0.5),
        ("dtmf", "#", 1.0),
        ("sms", "See you", 2.5),
        ("hologram", "hm", None),
    ]


def test_the_bar_has_lanes_silences_interruptions_and_answers():
    drawn = view(
        utterance("agent", "how can I help you today", 0.0),
        utterance("user", "a crown please", 2.0),
        utterance("agent", "of course", 10.0),
        invoked("book", 10.5),
        result("book", 12.5, "{}"),
        duration_ms=20_000,
    ).timeline
    assert [(s.x, s.width) for s in drawn.agent] == [(0, 15), (50, 5)]
    assert [(s.x, s.width) for s in drawn.user] == [(10, 7.5)]
    assert [(s.x, s.width) for s in drawn.silences] == [(17.5, 32.5), (55, 45)]
    assert [p.x for p in drawn.interruptions] == [10]
    assert [(s.x, s.width, s.kind) for s in drawn.tools] == [(52.5, 10, "done")]
    [answer] = drawn.answers
    assert (answer.x, answer.level, answer.label) == (50, 1.0, "0:10 answered after 6.5 s")
    assert [tick.label for tick in drawn.ticks] == ["0:00", "0:05", "0:10", "0:15", "0:20"]


def test_long_timeline_has_few_labels():
    for seconds in (3, 61, 600, 7_200, 100_000, 1.8e12):
        spoken_once = conversation(
            [{"position": 0, "role": "user", "content": "hi", "start_seconds": 0.0,
              "end_seconds": 1.0}], [], [], [], [],
        )  # fmt: skip
        assert len(speaker_timeline(spoken_once, seconds).ticks) <= 9


def test_without_times_there_is_no_bar():
    assert view({"role": "user", "content": "hello"}).timeline is None
    assert view().timeline is None


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"call_status": "not_connected"}, "never connected"),
        ({"call_status": "ongoing", "start_timestamp": 1}, "in progress"),
        ({"data_storage_setting": "basic_attributes_only"}, "excludes transcripts"),
        ({"call_status": "ended", "start_timestamp": 1}, "No conversation"),
    ],
)
def test_a_call_without_words_says_why(fields, why):
    assert why in view(**fields).why_empty


def test_titles_name_the_other_end():
    numbers = {"from_number": "+1", "to_number": "+2"}
    assert view(direction="inbound", **numbers).title == "Call from +1"
    assert view(direction="outbound", **numbers).title == "Call to +2"
    assert view(call_type="web_call").title == "Web call"
    assert view(direction="inbound", call_type="phone_call").title == "Phone call"
    assert view().title == "Call"


def test_sms_object_is_shown_as_text():
    picture = {"url": "https://m.example/a.png", "summary": "A cracked crown"}
    sms = {"role": "sms", "content": "See this", "multimedia": [picture], "time_sec": 1}
    assert [entry.text for entry in entries(sms)] == [
        "See this\nMultimedia: https://m.example/a.png, A cracked crown"
    ]
    assert readable('{"content": {"text": "Hi"}}') == "Hi"
    assert readable('{"a"') == '{"a"'
    assert readable("{}") == "{}"


def test_pre_and_post_session_tools_stand_apart():
    shown = view(
        utterance("user", "hello", 0.0),
        pre_session_transcript_with_tool_calls=[invoked("find", 0)],
        post_session_transcript_with_tool_calls=[invoked("note", 0)],
    )
    assert [tool.name for tool in shown.before] == ["find"]
    assert [tool.name for tool in shown.after] == ["note"]
    assert shown.conversation.tools == []


def test_scrubbed_variant_on_request_or_alone():
    plain, clean = utterance("user", "I am Ann", 0.0), utterance("user", "I am [NAME]", 0.0)
    both = {
        "scrubbed_transcript_with_tool_calls": [clean],
        "recording_url": "https://m.example/a.wav",
        "scrubbed_recording_url": "https://m.example/b.wav",
    }
    assert view(plain, **both).recordings == [("Recording", "https://m.example/a.wav", None)]
    shown = view(plain, scrubbed=True, **both)
    assert shown.recordings == [("Recording", "https://m.example/b.wav", None)]
    assert "[NAME]" in words_markup(shown.conversation.turns[0])
    assert shown.variants == ["plain", "scrubbed"]
    assert view(scrubbed_transcript_with_tool_calls=[clean]).is_scrubbed
    assert not view(plain, scrubbed=True).is_scrubbed


def test_kept_copy_is_played_instead_of_the_link():
    links = {"recording_url": "https://m.example/a.wav", "public_log_url": "https://m.example/a"}
    kept = {"recording": "/-/media/c/recording"}
    shown = call_view(tables(**links), kept=kept, scrubbed=False)
    played, download = "/-/media/c/recording", "/-/media/c/recording?download"
    assert shown.recordings == [("Recording", played, download)]
    assert [(d.url, d.download) for d in shown.documents] == [("https://m.example/a", None)]


def test_recording_without_web_address_is_not_played():
    assert view(recording_url="javascript:alert(1)").recordings == []


def test_call_object_has_retells_names_and_nesting():
    given = {
        "call_id": "call_a",
        "call_type": "phone_call",
        "agent_version": 0,
        "opt_in_signed_url": False,
        "metadata": {"order": 7, "vip": True, "note": "7"},
        "recording_url": "https://m.example/a.wav",
        "telephony_identifier": {"twilio_call_sid": "CA1"},
        "call_analysis": {"call_successful": True, "custom_analysis_data": {"a b": "no"}},
        "call_cost": {"combined_cost": 1.5, "product_costs": [{"product": "tts", "cost": 1.5}]},
        "latency": {"e2e": {"p50": 900, "values": [900]}},
        "transcript": "User: hello\n",
        "transcript_with_tool_calls": [
            utterance("user", "hello", 0.0),
            invoked("book", 0.2, arguments="{}"),
            {"role": "dtmf", "digit": "1", "time_sec": 1.0},
            result("book", 1.5, "{}"),
        ],
        "of_the_future": {"kept": True},
    }
    assert call_object(tables(**given)) == given
    around = call_object(tables(**given), transcripts=False)
    assert {*given} - {*around} == {"transcript", "transcript_with_tool_calls"}
    json.dumps(around)
