"""/-/statement: a month's cost on a page, as CSV, and beside an invoice."""

import html
import re

import pytest

from receiver import config
from receiver.browse.pages import statement
from tests.support.billing import SINCE, ZONE, call, chat
from tests.support.browsing import browsing, fetched
from tests.support.posting import posted
from tests.support.storing import count, stored

pytestmark = pytest.mark.sqlite


@pytest.fixture
def served(db_path, store):
    acme = {"metadata": {"client": "Acme <1>"}}
    stored(store, call("a", SINCE, {"platform_tts": 100.5, "gpt_4_1": 20.25}, **acme))
    stored(store, call("b", SINCE, {"platform_tts": 50.25}))
    environ = {"CALLHOUSE_DATABASE_URL": f"sqlite:///{db_path}", "CALLHOUSE_TIMEZONE": ZONE}
    with browsing(config.load(environ), {"reader": "reader", "masked": "masked"}) as served:
        yield served


@pytest.fixture
def get(served):
    """Get the page with a query as a user."""

    def get(query, user="reader"):
        return fetched(served, f"/-/statement?{query}", user)

    return get


def row_of(page, name):
    """The cells of a row of the page."""
    [row] = [row for row in re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL) if f">{name}<" in row]
    return re.findall(r">([^<]*)</td>", row)


def test_page_has_a_line_for_each_client(get, db):
    page = get("month=2026-10&name=client&markup=20").text
    assert row_of(page, "Acme &lt;1&gt;")[1:] == ["1", "1.5", "1.01", "0.20", "1.21", "1.45"]
    assert row_of(page, "no client")[1:] == ["1", "1.5", "0.50", "", "0.50", "0.60"]
    assert row_of(page, "Total")[1:] == ["2", "3.0", "1.51", "0.20", "1.71", "2.05"]
    assert count(db, "statements") == 0


def test_lines_by_metadata_of_many_calls_are_postponed(get, monkeypatch):
    monkeypatch.setattr(statement, "_MAX_BY_METADATA", 1)
    page = get("month=2026-10&name=client").text
    assert "Lines by client of 2 calls take some seconds." in page
    assert row_of(page, "2026-10")[-1] == "1.71"
    assert "Acme" not in page
    [link] = re.findall(r'<a href="/-/statement[?]([^"]*)">Compute them', page)
    assert row_of(get(html.unescape(link)).text, "Acme &lt;1&gt;")[-1] == "1.21"
    assert "Acme" in get("month=2026-10&name=client&csv=1").text
    assert "Compute them" not in get("month=2026-10&by=agent").text


def test_chats_count_for_postponed_lines(get, store, monkeypatch):
    monkeypatch.setattr(statement, "_MAX_BY_METADATA", 2)
    assert "Compute them" not in get("month=2026-10&name=client").text
    stored(store, chat("c", SINCE, {"chat": 100.0}))
    page = get("month=2026-10&name=client").text
    assert "Lines by client of 2 calls and 1 chats take some seconds." in page


def test_masked_reader_sees_no_values_of_metadata(get):
    page = get("month=2026-10&name=client", "masked").text
    assert "Your role sees no values of metadata." in page
    assert "Acme" not in page
    assert row_of(get("month=2026-10&by=agent", "masked").text, "no agent")[-1] == "1.71"


@pytest.mark.parametrize("query", ["month=x", "month=2026-13", "by=number", "markup=much"])
def test_invalid_request_is_explained(get, query):
    answer = get(query)
    assert answer.status_code == 200
    assert 'class="message-error"' in answer.text


def test_csv_link_gives_the_same_lines(get):
    answer = get("month=2026-10&csv=1")
    assert answer.headers["content-disposition"].endswith('"statement-2026-10.csv"')
    assert answer.text.splitlines()[-1] == "2026-10,,Total,2,0,3.0,1.51,0.20,1.71,1.71"


def test_pasted_invoice_is_compared(served):
    invoice = "product,amount\nplatform_tts,1.51\nsms_message,0.10\n"
    page = posted(served, "reader", "/-/statement", month="2026-10", invoice=invoice).text
    assert row_of(page, "Platform TTS")[1:] == ["1.51", "1.51", "0.00", "agrees"]
    assert row_of(page, "GPT 4.1")[1:] == ["0.20", "", "0.20", "not on the invoice"]
    assert row_of(page, "SMS message")[1:] == ["", "0.10", "-0.10", "not in calls"]
    assert "Numbers and subscriptions are billed without a call." in page


def test_unreadable_invoice_is_explained(served):
    page = posted(served, "reader", "/-/statement", month="2026-10", invoice="a,b").text
    assert "The invoice cannot be read: the first row must name" in page
