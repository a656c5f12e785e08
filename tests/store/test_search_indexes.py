"""What full-text indexes find is what the tables have, whatever is written and erased."""

import pytest

from receiver.store import sql
from tests.support.erasing import erased, rebuilt
from tests.support.storing import add, stored

# Pages search a file.
pytestmark = pytest.mark.sqlite

WORDS, CHARACTERS = "summaries_fts", "characters_fts"


def found(db, index, words):
    matches = db.execute(f"SELECT rowid FROM {index} WHERE {index} MATCH ? ORDER BY 1", (words,))
    return [row[0] for row in matches]


def add_call(store, call_id, transcript, summary, at):
    analysis = {"call_summary": summary}
    add(store, "call_analyzed", call_id, at=at, transcript=transcript, call_analysis=analysis)


def add_chat(store, chat_id, transcript, summary):
    chat = {"chat_id": chat_id, "chat_status": "ended", "transcript": transcript}
    chat["chat_analysis"] = {"chat_summary": summary}
    stored(store, {"event": "chat_analyzed", "chat": chat})


@pytest.fixture
def several(store, db):
    add_call(store, "call_1", "User: 明日の予約", "They booked a crown.", 1)
    add_call(store, "call_2", "User: Grüße.", "予約の変更", 2)
    add_chat(store, "chat_1", "User: 예약을 하고", "A chat about a crown.")
    rowids = {
        row["id"]: row["rowid"]
        for row in db.execute(
            "SELECT call_id AS id, rowid FROM analyses UNION ALL SELECT chat_id, rowid FROM chats"
        )
    }
    return store, db, rowids


def test_words_of_summaries_and_chats_are_indexed(several):
    _, db, rowids = several
    expected = sorted([2 * rowids["call_1"], 2 * rowids["chat_1"] + 1])
    assert found(db, WORDS, "crown") == expected
    assert found(db, WORDS, "booked") == [2 * rowids["call_1"]]


def test_only_text_without_spaces_is_indexed_by_character(several):
    _, db, rowids = several
    terms = {row["term"] for row in db.execute("SELECT term FROM characters_terms")}
    assert {"の予約", "予約 ", "予約の", "예약을"} <= terms
    assert not {term for term in terms if term in ("grü", "boo")}
    assert found(db, CHARACTERS, '"の変更"') == [3 * rowids["call_2"] + 1]
    assert found(db, CHARACTERS, '"예약을"') == [3 * rowids["chat_1"] + 2]


def test_replaced_text_is_no_longer_found(several):
    store, db, _ = several
    add_call(store, "call_1", "User: 変更なし", "They called again.", 9)
    assert found(db, CHARACTERS, '"明日の"') == []
    assert found(db, WORDS, "booked") == []
    assert len(found(db, WORDS, "again")) == 1


def test_erased_text_is_no_longer_found(settings, several):
    store, db, rowids = several
    erased(settings, store, "call_1", "chat_1")
    assert found(db, WORDS, "crown") == []
    assert found(db, CHARACTERS, '"予約の" OR "明日の" OR "예약을"') == [3 * rowids["call_2"] + 1]


@pytest.mark.parametrize("index", sql.SEARCH_INDEXES)
def test_rebuild_repairs_each_index(several, index):
    store, db, _ = several
    words = '"予約の" OR "crown" OR "grüße"'
    before = found(db, index, words)
    assert before
    db.execute(f"INSERT INTO {index} ({index}) VALUES ('delete-all')")
    assert found(db, index, words) == []
    rebuilt(store)
    assert found(db, index, words) == before
