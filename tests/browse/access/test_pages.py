"""Every column is classified, and no page of a masked login has anything personal."""

import json
from urllib.parse import quote

import pytest

from receiver.browse.pages import DATABASE, MASKED
from schema.personal import OPEN, PERSONAL
from schema.sql.views import views
from schema.tables import ALL_TABLES
from tests.browse.access.roles import (
    CALL,
    NUMBER,
    PERSONAL_TEXTS,
    SECRET,
    START,
    pages,
)
from tests.support.days import day, deliver
from tests.support.storing import stored

# Datasette serves files.
pytestmark = pytest.mark.sqlite


# The classification


def test_every_column_is_either_open_or_personal():
    for table in ALL_TABLES:
        is_open, personal = OPEN.get(table.name, set()), set(PERSONAL.get(table.name, {}))
        assert not is_open & personal, table.name
        undecided = set(table.names) ^ (is_open | personal)
        assert not undecided, f"{table.name}: open or hidden? {undecided}"
    assert {*OPEN, *PERSONAL} == {table.name for table in ALL_TABLES}


def test_undecided_column_reads_as_null(served, visit, monkeypatch):
    monkeypatch.setitem(OPEN, "calls", OPEN["calls"] - {"agent_name"})
    [row] = visit("/retell_masked/calls.json?_shape=array", "max").json()
    assert row["agent_name"] is None


def test_fixture_fills_every_personal_column(served, db):
    """Else the tests below prove little."""
    for table, columns in PERSONAL.items():
        for column in columns:
            found = db.execute(f"SELECT 1 FROM {table} WHERE {column} IS NOT NULL").fetchone()
            never = {("chats", "retell_llm_dynamic_variables"), ("chat_messages", "arguments")}
            never |= {("chats", "collected_dynamic_variables"), ("chats", "custom_attributes")}
            never |= {("chats", "custom_analysis_data"), ("chat_messages", "extra")}
            assert (found is None) == ((table, column) in never), (table, column)


# No personal data, by page


@pytest.mark.slow
def test_masked_pages_have_no_personal_data(visit):
    asked = {f"number={NUMBER}", SECRET}
    for path in pages(MASKED):
        answer = visit(path, "max")
        text = answer.text
        assert answer.status_code in (200, 302, 400, 403, 404), path
        if path.startswith(f"/{MASKED}/") and "?" not in path and "fts" not in path:
            assert answer.status_code == 200, path
        # What the visitor typed themselves comes back in the page.
        if not any(part in path for part in asked) and "4155550" not in path:
            assert not [t for t in PERSONAL_TEXTS if t in text], path
        else:
            assert "I am" not in text, path
            assert '"count": 1' not in text, path


@pytest.mark.slow
def test_readers_pages_have_personal_data(visit):
    """So that the test above looks at the right places."""
    holding = [path for path in pages(DATABASE) if SECRET in visit(path, "jane").text]
    for path in (
        "analyses",
        "utterances",
        "tool_calls",
        "attributes",
        "media",
        "timeline",
        "words",
    ):
        assert f"/retell/{path}" in holding
    assert {"/-/call/call_1", "/-/call/call_1.json", "/-/chat/chat_1"} <= set(holding)


def test_masked_call_has_these_fields(visit):
    [line] = visit("/retell_masked/call_log.json?_shape=array", "max").json()
    assert (line["who"], line["agent"], line["summary"]) == ("•••23", "Dental", None)
    rows = visit("/retell_masked/utterances.json?_shape=array", "max").json()
    assert {row["track"]: row["content"] for row in rows} == {
        "session": None,
        "scrubbed_session": "I am [NAME]",
    }
    tools = visit("/retell_masked/tool_calls.json?_shape=array", "max").json()
    assert {row["track"]: (row["arguments"], row["result"]) for row in tools} == {
        "session": (None, '{"success": false}'),
        "scrubbed_session": ('{"name": "[NAME]"}', '{"success": false, "name": "[NAME]"}'),
    }


def test_masked_filters_confirm_no_guess(visit):
    through = {"table": "attributes", "column": "value", "value": SECRET}
    for path in (
        f"calls.json?_shape=array&_through={quote(json.dumps(through))}",
        f"calls.json?_shape=array&from_number={quote(NUMBER)}",
        f"attributes.json?_shape=array&value__contains={SECRET}",
        f"call_log.json?_shape=array&_where=who='{quote(NUMBER)}'",
        "media.json?_shape=array&url__notnull=1",
    ):
        assert visit(f"/{MASKED}/{path}", "max").json() == [], path
        assert visit(f"/{DATABASE}/{path}", "jane").json() != [], path


def test_masked_call_page_has_scrubbed_words_only(visit):
    page = visit("/-/call/call_1", "max").text
    assert "[NAME]" in page
    assert "As it was said" not in page
    assert "<audio" not in page
    assert "/retell/" not in page


def test_masked_call_without_scrubbed_copy_says_why(visit, store):
    call = {k: v for k, v in CALL.items() if not k.startswith("scrubbed")} | {"call_id": "call_2"}
    stored(store, {"event": "call_analyzed", "call": call}, at=START)
    page = visit("/-/call/call_2", "max")
    assert page.status_code == 200
    assert "words are left out" in page.text
    assert 'id="turn-0"' in page.text
    assert SECRET not in page.text


def test_masked_figures_equal_readers_figures(visit, store):
    deliver(store, day(5, day_start_ms=START, calls=60))
    texts = {"call_log", "timeline", "words", "drift"}
    for name in set(views()) - texts:
        path = f"{name}.json?_shape=array&_size=max"
        whole = visit(f"/{DATABASE}/{path}", "jane").json()
        assert whole
        assert visit(f"/{MASKED}/{path}", "max").json() == whole, name


@pytest.mark.parametrize(("name", "seen"), [("jane", DATABASE), ("max", MASKED)])
def test_tables_whose_content_is_withheld_have_empty_pages(visit, name, seen):
    for table in ("config", "data", "docsize", "idx"):
        answer = visit(f"/{seen}/transcripts_fts_{table}.json?_shape=array", name)
        assert (answer.status_code, answer.json()) == (200, []), table
        assert visit(f"/{seen}/transcripts_fts_{table}", name).status_code == 200, table
