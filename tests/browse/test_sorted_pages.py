"""Sorted tables and views over several pages: each row is on one of them."""

import csv
import html
import io
import re

import pytest

from schema.sql.views import views
from tests.support.browsing import browsing, fetched, simple
from tests.support.storing import stored

# Datasette serves files.
pytestmark = pytest.mark.sqlite

# Table or view -> a column with equal values and nulls, and the columns that identify a row.
SORTED = {
    "calls": ("disconnection_reason", ("call_id",)),
    "utterances": ("end_seconds", ("call_id", "track", "position")),
    "observations": ("problem", ("entity_id", "body_sha256", "source")),
    "call_log": ("outcome", ("call_id",)),
}


def fill(store, count):
    """Calls with two turns, in another order than that of their ids, with two values or null."""
    for n in range(count):
        turns = [{"role": "user", "content": f"{turn}"} for turn in range(2)]
        if n % 3:
            turns[0]["words"] = [{"word": "0", "start": 0, "end": n % 3}]
        fields = {
            "disconnection_reason": (None, "user_hangup", "agent_hangup")[n % 3],
            "transcript_with_tool_calls": turns,
        }
        stored(store, simple(f"call_{n * 1009 % 2503:04}", **fields))


def get(served, url):
    answer = fetched(served, url.removeprefix("http://localhost"))
    assert answer.status_code == 200, answer.text
    return answer


def html_rows(served, url, key):
    """The keys of the rows of each page, by its links to the next one."""
    while url:
        page = get(served, url).text
        # Of an id, its link; not the one to its row.
        cells = (
            re.findall(rf'<td class="col-{name} [^>]*>(?:<[^>]+>)?([^<]*)<', page) for name in key
        )
        yield from zip(*cells, strict=True)
        found = re.search(r'<p class="more"><a href="([^"]+)">Next page', page)
        url = html.unescape(found[1]) if found else None


def json_rows(served, url, key):
    while url:
        page = get(served, url.replace("?", ".json?", 1) if ".json" not in url else url).json()
        rows = [dict(zip(page["columns"], row, strict=True)) for row in page["rows"]]
        yield from (tuple(str(row[name]) for name in key) for row in rows)
        url = page["next_url"]


def csv_rows(served, url, key):
    text = get(served, url.replace("?", ".csv?_stream=on&", 1)).text
    for row in csv.DictReader(io.StringIO(text)):
        yield tuple(row[name] for name in key)


def assert_each_row_once(served, db, size, tables):
    for table in tables:
        column, key = SORTED[table]
        expected = sorted(
            tuple(map(str, row)) for row in db.execute(f"SELECT {', '.join(key)} FROM {table}")
        )
        for order in (f"_sort={column}", f"_sort_desc={column}"):
            for rows in (html_rows, json_rows, csv_rows):
                # Columns of a key are shown anyway; a view has none.
                shown = (*key, column) if table in views() else (column,)
                columns = "&".join(f"_col={name}" for name in shown)
                url = f"/retell/{table}?_size={size}&_labels=off&{columns}&{order}"
                assert sorted(rows(served, url, key)) == expected, (table, order, rows)


def test_each_row_is_on_one_page(settings, store, db):
    fill(store, 8)
    with browsing(settings) as served:
        served.max_returned_rows = 5
        assert_each_row_once(served, db, 5, ["calls", "utterances"])


@pytest.mark.slow
def test_each_of_many_rows_is_on_one_page(settings, store, db):
    fill(store, 2500)
    with browsing(settings) as served:
        assert_each_row_once(served, db, 500, SORTED)
