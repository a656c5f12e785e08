"""The download of calls: everything that the page would list, or nothing."""

import csv
import io
import re
import zipfile
from datetime import datetime
from xml.etree import ElementTree

import pytest

from receiver.browse.pages import call_download
from tests.support.browsing import START, simple
from tests.support.storing import stored

# Datasette serves files.
pytestmark = pytest.mark.sqlite
CELLS = {"s": "http://schemas.openxmlformats.org/spreadsheetml/2006/main"}
FORMULA = "=HYPERLINK(A1)"


@pytest.fixture
def five(store):
    for n in range(5):
        analysis = {"call_summary": FORMULA, "call_successful": n % 2 == 0}
        cost = {"combined_cost": 10 * n}
        at = {"start_timestamp": START + 1000 * (n // 2)}
        event = simple(f"call_{n}", call_analysis=analysis, call_cost=cost, **at)
        stored(store, event | {"event": "call_analyzed"})


def sheet(content):
    """The rows of a spreadsheet."""
    with zipfile.ZipFile(io.BytesIO(content)) as book:
        root = ElementTree.fromstring(book.read("xl/worksheets/sheet1.xml"))
    assert root.findall(".//s:f", CELLS) == []
    return [
        {
            re.sub(r"\d", "", cell.get("r")): "".join(cell.itertext())
            for cell in row.findall("s:c", CELLS)
        }
        for row in root.findall(".//s:row", CELLS)
    ]


def test_each_format_has_every_call_in_order(browse, five, monkeypatch):
    monkeypatch.setattr(call_download, "_BATCH", 2)
    ids = [f"call_{n}" for n in (4, 3, 2, 1, 0)]
    assert [call["call_id"] for call in browse("/-/calls.json").json()] == ids
    lines = list(csv.DictReader(io.StringIO(browse("/-/calls.csv").text)))
    assert [line["call_id"] for line in lines] == ids
    assert [row["A"] for row in sheet(browse("/-/calls.xlsx").content)] == ["call_id", *ids]
    ids = [f"call_{n}" for n in range(5)]
    assert [call["call_id"] for call in browse("/-/calls.json?sort=cost").json()] == ids


def test_carriage_return_begins_no_row(browse, store):
    """Spreadsheets begin a row at an unquoted one, and would run its first cell."""
    text = f"She called.\r{FORMULA}"
    event = simple("call_1", call_analysis={"call_summary": text})
    stored(store, event | {"event": "call_analyzed"})
    content = browse("/-/calls.csv").content.decode()
    assert f'"{text}"' in content
    assert [row["call_summary"] for row in csv.DictReader(io.StringIO(content, ""))] == [text]


def test_values_are_exact_and_times_local(browse, five):
    [call] = browse("/-/calls.json?min_cost=0.40").json()
    assert call["started_at"] == "2026-05-12T02:00:02.000+02:00"
    assert (call["duration_seconds"], call["cost_dollars"]) == (20.0, 0.4)
    assert (call["call_successful"], call["disconnection_reason"]) == (1, "user_hangup")
    names, cells = sheet(browse("/-/calls.xlsx?min_cost=0.40").content)
    row = {name: cells.get(column) for column, name in names.items()}
    at = datetime(2026, 5, 12, 2, 0, 2) - datetime(1899, 12, 30)
    assert float(row["started_at"]) == pytest.approx(at.total_seconds() / 86_400, abs=1e-6)


def test_formulas_are_defused(browse, five):
    lines = list(csv.DictReader(io.StringIO(browse("/-/calls.csv").text)))
    assert {line["call_summary"] for line in lines} == {f"'{FORMULA}"}
    assert browse("/-/calls.json").json()[0]["call_summary"] == FORMULA
    assert FORMULA in sheet(browse("/-/calls.xlsx").content)[1].values()


def test_filters_apply_to_the_download(browse, five):
    found = browse("/-/calls.json?success=no&since=2026-05-12").json()
    assert [call["call_id"] for call in found] == ["call_3", "call_1"]
    assert browse("/-/calls.json?agent=nobody").json() == []
    assert len(sheet(browse("/-/calls.xlsx?agent=nobody").content)) == 1


def test_page_offers_the_download_with_its_count(browse, five):
    page = browse("/-/calls?success=no").text
    assert re.search(
        r'Download 2: <a href="/-/calls.csv\?success=no" download>CSV</a> '
        r'<a href="/-/calls.xlsx\?success=no" download>XLSX</a>',
        page,
    )


def test_chats_are_downloaded_too(browse, store):
    chat = {"chat_id": "chat_1", "chat_status": "ended", "start_timestamp": START}
    stored(store, {"event": "chat_ended", "chat": chat})
    [found] = browse("/-/calls.json?kind=chat").json()
    assert (found["chat_id"], found["chat_status"]) == ("chat_1", "ended")


def test_slow_download_is_an_error(browse, five, monkeypatch):
    monkeypatch.setattr(call_download, "SECONDS", -1.0)
    for name in ("csv", "xlsx", "json"):
        answer = browse(f"/-/calls.{name}")
        assert answer.status_code == 503
        assert "There is no file" in answer.text


def test_sheet_of_too_many_rows_is_an_error(browse, five, monkeypatch):
    monkeypatch.setattr(call_download, "MAX_XLSX_ROWS", 4)
    assert "Download CSV, or add a filter" in browse("/-/calls.xlsx").text
    assert browse("/-/calls.csv").status_code == 200


def test_invalid_filter_downloads_nothing(browse, five):
    answer = browse("/-/calls.csv?since=soon")
    assert answer.status_code == 400
    assert "not a valid date" in answer.text


def test_download_needs_a_login(browse, five):
    assert browse("/-/calls.csv", actor=False).status_code == 403
    assert browse("/-/calls.xlsx", actor=False).status_code == 302


def test_characters_that_no_xml_has_are_replaced(browse, store):
    stored(store, simple("call_1", call_analysis={"call_summary": "a\x01b\ud800"}))
    assert any("a\ufffdb\ufffd" in row.values() for row in sheet(browse("/-/calls.xlsx").content))
