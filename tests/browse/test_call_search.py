"""Words people type -> FTS5, and the turns in which they were found."""

import pytest

from receiver.browse.pages.call_search import CLOSE, OPEN, hits, marked_text, parse_query
from receiver.errors import QueryNotUnderstood
from receiver.store.connection import sqlite3


def fts5(tokens):
    return " ".join(token.quoted for token in tokens)


@pytest.mark.parametrize(
    ("typed", "query"),
    [
        ("crown", '"crown"'),
        ("crown tomorrow", '"crown" AND "tomorrow"'),
        ('"next week" crown', '"next week" AND "crown"'),
        ("“next week”", '"next week"'),
        ("resched*", '"resched"*'),
        ('"next we"*', '"next we"*'),
        ("(a OR b) c", '( "a" OR "b" ) AND "c"'),
        ("a NOT b", '"a" NOT "b"'),
        ("refund OR complaint", '"refund" OR "complaint"'),
        ("(a OR b) AND c", '( "a" OR "b" ) AND "c"'),
        ("ORDER", '"ORDER"'),
        ("don't well-known 10:30", '"don\'t" AND "well-known" AND "10:30"'),
        ("crown ? -", '"crown"'),
        ("", ""),
        ("?", ""),
        ("transcript:crown", '"transcript:crown"'),
    ],
)
def test_words_become_a_query(typed, query):
    assert fts5(parse_query(typed).words) == query


@pytest.mark.parametrize(
    ("typed", "words", "without"),
    [
        ("crown -voicemail", '"crown"', '"voicemail"'),
        ('crown -"no thanks" -later', '"crown"', '"no thanks" OR "later"'),
    ],
)
def test_excluded_words_are_apart(typed, words, without):
    query = parse_query(typed)
    assert (fts5(query.words), fts5(query.without_words)) == (words, without)


def test_scripts_without_spaces_are_apart():
    query = parse_query("crown 予約 -変更 iPhoneを")
    assert fts5(query.words) == '"crown"'
    assert fts5(query.characters) == '"予約" AND "iPhoneを"'
    assert fts5(query.without_characters) == '"変更"'
    assert fts5(parse_query("予約 OR 変更").characters) == '"予約" OR "変更"'


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("crown", "A <crown> for Crowne."),
        ("crown*", "A <crown> for <Crowne>."),
        ('"for crowne"', "A crown <for Crowne>."),
        ("absent", "A crown for Crowne."),
    ],
)
def test_words_are_marked_in_a_summary(typed, shown):
    parts = marked_text("A crown for Crowne.", parse_query(typed))
    assert "".join(f"<{text}>" if is_hit else text for text, is_hit in parts) == shown


@pytest.mark.parametrize("typed", ['"open', 'a "b" "', "-only", '-"only this"'])
def test_invalid_query_raises_with_hint(typed):
    with pytest.raises(QueryNotUnderstood) as raised:
        parse_query(typed)
    assert '"a phrase"' in raised.value.hint


def test_any_text_is_valid_or_named_error():
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE t USING fts5 (x)")
    for typed in (
        "a'b",
        "a:b",
        "^a",
        "a+b",
        "a*b",
        "*",
        "{a}",
        "a, b",
        "-a b",
        "NEAR",
        "ñ é",
        "a\x00b",
    ):
        query = fts5(parse_query(typed).words)
        if query:
            connection.execute("SELECT * FROM t WHERE t MATCH ?", [query])
    connection.close()


TURNS = [
    (0, "agent", "Hello, hello.", 0.0),
    (2, "user", "A crown.", 3.0),
    (5, "agent", "Hello.", 5.0),
]


def marked(text):
    return text.replace("[", OPEN).replace("]", CLOSE)


def test_a_hit_leads_to_its_turn():
    text = marked("Agent: Hello, hello.\nUser: A [crown].\nAgent: Hello.\n")
    [hit] = hits(text, TURNS)
    assert (hit.position, hit.role, hit.seconds) == (2, "user", 3.0)
    assert hit.parts == [("A ", False), ("crown", True), (".", False)]


def test_spaces_around_utterances_keep_hits():
    [hit] = hits(marked("User: A [crown].\n"), [(0, "user", " A crown. ", 3.0)])
    assert hit.parts == [("A ", False), ("crown", True), (".", False)]


def test_equal_words_in_turns_are_distinct_hits():
    text = marked("Agent: [Hello], [hello].\nUser: A crown.\nAgent: [Hello].\n")
    assert [hit.position for hit in hits(text, TURNS)] == [0, 5]


def test_transcript_without_utterances_has_no_hits():
    assert hits(marked("User: [crown]"), []) == []
    assert hits(marked("User: [crown]"), [(0, "user", "something else", 0.0)]) == []


def test_long_turn_is_cut_around_first_hit():
    content = "one two " * 60 + "crown " + "three four " * 60
    [hit] = hits(marked(content.replace("crown", "[crown]")), [(0, "user", content, None)])
    assert hit.parts[0] == ("…", False)
    assert ("crown", True) in hit.parts
    shown = "".join(text for text, _ in hit.parts)
    assert len(shown) < 260
    assert shown.startswith("…two one") or shown.startswith("…one two")
    assert shown.endswith("…")
