"""Datasette's CSV of tables, views and queries: no cell of it is a formula to a spreadsheet."""

import csv
import html
import io
import re
from urllib.parse import urlencode

import duckdb
import pytest

from tests.support.browsing import visiting
from tests.support.storing import stored

# Datasette serves files.
pytestmark = pytest.mark.sqlite

FORMULAS = ['=HYPERLINK("http://x.example","a")', "+SUM(1)", "-1+1", "@x", "\t=1", "\r=1+1\n@b"]
NUMBERS = {"+14155550123": "+14155550123", "-7": "-7"}


@pytest.fixture
def browse(settings, store):
    for n, name in enumerate([*FORMULAS, *NUMBERS]):
        call = {
            "call_id": f"call_{n}",
            "agent_name": name,
            "start_timestamp": 1_778_284_800_000 + n,
        }
        stored(store, {"event": "call_ended", "call": call})
    with visiting(settings) as get:
        yield get


PAGES = {
    "table": "/retell/calls.csv?_sort=call_id",
    "whole table": "/retell/calls.csv?_stream=on&_size=2",
    "view": "/retell/call_log.csv?_stream=on",
    "labels": "/retell/calls.csv?_labels=on",
    "query": "/retell.csv?sql=select+*+from+calls",
    "row": "/retell/calls/call_0.csv",
}


def _read_by_duckdb(text, tmp_path):
    (tmp_path / "t.csv").write_bytes(text)
    with duckdb.connect() as connection:
        query = "SELECT * FROM read_csv(?, header=true, all_varchar=true)"
        found = connection.execute(query, [str(tmp_path / "t.csv")])
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def _read_by_python(text, _tmp_path):
    return list(csv.DictReader(io.StringIO(text.decode(), newline="")))


@pytest.mark.parametrize("read", [_read_by_python, _read_by_duckdb])
@pytest.mark.parametrize("page", PAGES)
def test_no_cell_of_datasettes_csv_is_a_formula(page, read, browse, tmp_path):
    answer = browse(PAGES[page])
    assert answer.status_code == 200
    rows = read(answer.content, tmp_path)
    [name] = {"agent_name", "agent"} & set(rows[0])
    found = {row[name] for row in rows}
    expected = {f"'{text}" for text in FORMULAS} | set(NUMBERS)
    if page == "row":
        expected = {f"'{FORMULAS[0]}"}
    assert found == expected


def test_no_heading_of_datasettes_csv_is_a_formula(browse):
    answer = browse('/retell.csv?sql=select+1+as+"%3D1%2B1"')
    assert answer.text == "'=1+1\r\n1\r\n"


def test_csv_of_many_rows_is_not_cut(settings, store):
    for n in range(3):
        stored(store, {"event": "call_ended", "call": {"call_id": f"call_{n}"}})
    many = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 1500) "
    with visiting(settings) as get:
        page = get("/retell/calls?_size=2").text
        link = re.search(r'href="([^"]+)">CSV</a>', page)[1]
        assert len(get(html.unescape(link)).text.splitlines()) == 4
        assert '<input type="hidden" name="_stream" value="on">' in page
        csv_of_sql = get("/retell.csv?" + urlencode({"sql": f"{many} select i from n"}))
        assert len(csv_of_sql.text.splitlines()) == 1501
