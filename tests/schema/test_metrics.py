"""Figures of a small dialogue, worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.tables import call_rows


def metrics(*entries) -> dict:
    (row,) = call_rows("call_metrics", transcript_with_tool_calls=list(entries))
    del row["call_id"]
    return row


def utterance(role: str, start, end, words: int = 1) -> dict:
    """An utterance of `words` words; only the first start and the last end matter."""
    spoken = [{"word": "w "} for _ in range(words)]
    spoken[0]["start"], spoken[-1]["end"] = start, end
    return {"role": role, "content": "w " * words, "words": spoken}


def tool(tool_call_id: str, successful: bool | None = None) -> list[dict]:
    return [
        {"role": "tool_call_invocation", "tool_call_id": tool_call_id},
        {"role": "tool_call_result", "tool_call_id": tool_call_id, "successful": successful},
    ]


def test_figures_of_a_dialogue():
    # 0    1         3 3.5   5    6           10  11      13 13.5 14
    # |    |- agent -| |user|     |-- agent --|           |
    #                                        9.5|-- user -|    |agent|
    row = metrics(
        utterance("agent", 1, 3, words=4),
        utterance("user", 3.5, 5, words=3),
        *tool("t1", successful=True),
        utterance("agent", 6, 8, words=5),
        {"role": "node_transition", "new_node_id": "n"},
        utterance("agent", 8, 10, words=6),
        utterance("user", 9.5, 13, words=7),
        *tool("t2", successful=False),
        *tool("t3"),
        utterance("agent", 13.5, 14, words=1),
    )
    assert row == {
        "agent_talk_seconds": 6.5,  # 2 + 2 + 2 + 0.5
        "user_talk_seconds": 5.0,  # 1.5 + 3.5
        "silence_seconds": 3.0,  # 0-1, 3-3.5, 5-6, 13-13.5
        "turns": 5,
        "interruptions": 1,  # the user's at 9.5
        "longest_monologue_seconds": 4.0,  # the agent's from 6 to 10
        "first_response_seconds": 1.0,  # from 5 to 6
        "agent_words_per_minute": 147.692,  # 16 words in 6.5 s
        "user_words_per_minute": 120.0,  # 10 words in 5 s
        "tool_calls": 3,
        "failed_tool_calls": 1,
    }


def test_scrubbed_and_other_lists_do_not_count():
    call = {"scrubbed_transcript_with_tool_calls": [utterance("agent", 1, 2)],
            "pre_session_transcript_with_tool_calls": tool("t1")}  # fmt: skip
    assert call_rows("call_metrics", **call) == []


@pytest.mark.parametrize("entries", [[], [{"role": "dtmf", "digit": "1"}], [None]])
def test_session_without_speech_and_tools_has_no_figures(entries):
    assert call_rows("call_metrics", transcript_with_tool_calls=entries) == []


def test_entries_without_times_are_counted_and_not_measured():
    row = metrics({"role": "agent", "content": "Hi"}, {"role": "user", "content": "Hello"})
    assert {name: value for name, value in row.items() if value is not None} == {
        "turns": 2, "interruptions": 0, "tool_calls": 0, "failed_tool_calls": 0,
    }  # fmt: skip


def test_tools_alone_are_counted():
    row = metrics(*tool("t1", successful=False), *tool("t2", successful=False))
    assert (row["turns"], row["tool_calls"], row["failed_tool_calls"]) == (0, 2, 2)


def test_transfer_target_ends_silence_without_counting_as_talk():
    row = metrics(
        utterance("agent", 0, 2), utterance("transfer_target", 3, 5), utterance("user", 6, 7)
    )
    assert (row["silence_seconds"], row["turns"]) == (2.0, 3)
    assert (row["agent_talk_seconds"], row["user_talk_seconds"]) == (2.0, 1.0)


def test_overlapping_speech_is_no_silence_counted_twice():
    row = metrics(utterance("agent", 0, 10), utterance("user", 2, 4), utterance("agent", 12, 13))
    assert (row["silence_seconds"], row["interruptions"]) == (2.0, 1)


def test_speech_out_of_order_is_measured_in_order():
    row = metrics(utterance("user", 5, 6), utterance("agent", 1, 3))
    assert row["silence_seconds"] == 3.0  # 0-1 and 3-5


def test_turn_at_the_end_of_another_interrupts_nothing():
    assert metrics(utterance("agent", 0, 2), utterance("user", 2, 3))["interruptions"] == 0


def test_first_response_is_the_agents_and_never_negative():
    assert (
        metrics(utterance("user", 0, 2), utterance("agent", 2.75, 3))["first_response_seconds"]
        == 0.75
    )
    assert (
        metrics(utterance("user", 0, 2), utterance("agent", 1.5, 3))["first_response_seconds"]
        == 0.0
    )


@pytest.mark.parametrize(
    "entries",
    [
        [utterance("agent", 0, 1)],
        [utterance("user", 0, 1)],
        [utterance("agent", 0, 1), utterance("user", 2, 3)],
        [utterance("user", 0, None), utterance("agent", 2, 3)],
        [utterance("user", 0, 1), utterance("agent", None, 3)],
    ],
)
def test_first_response_that_was_not_heard_is_null(entries):
    assert metrics(*entries)["first_response_seconds"] is None


def test_turn_lasts_until_its_latest_end():
    row = metrics(utterance("agent", 1, 9), utterance("agent", 2, 3), utterance("user", 8, 10))
    assert (row["longest_monologue_seconds"], row["interruptions"]) == (8.0, 1)


def test_figures_are_rounded_to_milliseconds():
    row = metrics(utterance("agent", 0.1, 0.30000000000000004), utterance("user", 1.00049, 2))
    assert (row["agent_talk_seconds"], row["user_talk_seconds"]) == (0.2, 1.0)


def test_words_in_no_time_have_no_pace():
    row = metrics(utterance("agent", 0, 5e-324))
    assert (row["agent_talk_seconds"], row["agent_words_per_minute"]) == (None, None)


def test_backward_word_times_give_no_negative_talk():
    row = metrics(utterance("agent", 5, 4), utterance("agent", 6, 8))
    assert row["agent_talk_seconds"] == 2.0


def test_turns_are_ordered_by_time():
    listed = metrics(utterance("agent", 5, 6), utterance("user", 1, 2))
    assert listed == metrics(utterance("user", 1, 2), utterance("agent", 5, 6))
    assert (listed["interruptions"], listed["first_response_seconds"]) == (0, 3.0)


def test_utterance_without_a_time_keeps_its_place():
    row = metrics(utterance("user", 1, 2), utterance("agent", None, None), utterance("user", 4, 5))
    assert (row["turns"], row["interruptions"]) == (3, 0)


SPOKEN = st.lists(
    st.tuples(st.sampled_from(["agent", "user"]), st.integers(0, 6), st.integers(0, 3)),
    unique_by=lambda spoken: spoken[1],
    min_size=1,
    max_size=6,
)


@given(spoken=SPOKEN, seed=st.randoms(use_true_random=False))
def test_metrics_do_not_depend_on_list_order(spoken, seed):
    shuffled = list(spoken)
    seed.shuffle(shuffled)
    row = metrics(*(utterance(role, start, start + length) for role, start, length in shuffled))
    turns, interruptions, first_response = by_the_clock(spoken)
    assert (row["turns"], row["interruptions"]) == (turns, interruptions)
    assert row["first_response_seconds"] == first_response


def by_the_clock(spoken):
    """Turns, interruptions and the first response, told second by second."""
    turns, interruptions, speaker, ends = 0, 0, None, {}
    waits_since, first_response, asked = None, None, False
    for second in range(7):
        for role, start, length in spoken:
            if start != second:
                continue
            if role != speaker:
                turns += 1
                interruptions += speaker is not None and start < ends[speaker]
                if role == "agent" and asked and first_response is None:
                    first_response = max(0.0, start - waits_since)
                ends[role] = 0
                speaker = role
            ends[role] = max(ends[role], start + length)
            if role == "user" and (not asked or (turns == asked)):
                asked = asked or turns
                waits_since = ends[role]
    return turns, interruptions, first_response
