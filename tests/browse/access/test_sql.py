"""What SQL reads: nothing personal for a masked login, no raw body for any."""

import hashlib
import json
import re
from urllib.parse import quote

import pytest

from receiver.browse.pages import DATABASE, MASKED
from receiver.store.connection import connect
from tests.browse.access.roles import (
    ATTACKS,
    GUESSES,
    NUMBER,
    PERSONAL_TEXTS,
    SECRET,
    SECRET_HASH,
    ask,
)
from tests.support.storing import stored

# Datasette serves files.
pytestmark = pytest.mark.sqlite


# No personal data, by SQL


def test_masked_sql_reads_no_personal_data(visit):
    for sql in ATTACKS:
        answer = ask(visit, sql, "max", MASKED)
        assert answer.status_code in (200, 400), sql
        text = answer.text if answer.status_code == 400 else json.dumps(answer.json()["rows"])
        # An error repeats the query.
        output = text.replace(json.dumps(sql)[1:-1], "")
        assert not [t for t in PERSONAL_TEXTS if t in output], (sql, output)


def test_unguarded_sql_reads_personal_data(db, served):
    """So that the attacks are some."""
    read = []
    for sql in ATTACKS:
        try:
            rows = db.execute(sql).fetchall() if sql.startswith(("select", "with")) else []
        except Exception:  # some are no SQL for this file
            continue
        output = json.dumps([tuple(map(str, row)) for row in rows])
        read += [sql for t in PERSONAL_TEXTS if t in output]
    assert len(set(read)) > 25


def test_no_guess_of_a_masked_login_is_confirmed(visit):
    for sql in GUESSES:
        answer = ask(visit, sql.replace(":it", f"'{NUMBER}'"), "max", MASKED)
        assert answer.json()["rows"] == [[0]], sql


def test_no_hash_confirms_a_guess_when_masked(visit, store, db):
    """The body of an inbound call contains nothing unknown but the number: ten digits are soon
    tried."""
    body = {
        "event": "call_inbound",
        "call_inbound": {"agent_id": "agent_1", "from_number": NUMBER, "to_number": NUMBER},
    }
    stored(store, body)
    digest = hashlib.sha256(json.dumps(body).encode()).hexdigest()
    [(known,)] = db.execute("SELECT body_sha256 FROM observations WHERE event = 'call_inbound'")
    assert known == digest
    hashes = {h for (h,) in db.execute("SELECT body_sha256 FROM observations")} | {SECRET_HASH}
    for table in ("observations", "outbox", "transfers", "statements"):
        rows = ask(visit, f"select * from {table}", "max", MASKED).json()["rows"]
        assert rows, table
        assert not [h for h in hashes if h in json.dumps(rows)], table
        assert visit(f"/{MASKED}/{table}", "max").status_code == 200, table
        assert not [h for h in hashes if h in visit(f"/{MASKED}/{table}.csv", "max").text], table
        of_reader = ask(visit, f"select * from {table}", "jane", DATABASE).text
        assert [h for h in hashes if h in of_reader] or table == "outbox", table


def test_pages_of_rows_without_hashes_are_complete(visit, store):
    for number in range(5):
        stored(store, {"event": "call_inbound", "call_inbound": {"from_number": f"+1{number}"}})
        stored(store, {"event": "call_started", "call": {"call_id": "call_1", "n": number}})
    query = "_size=2&_stream=on"
    lines = {
        name: visit(f"/{database}/observations.csv?{query}", name).text.splitlines()
        for name, database in (("max", MASKED), ("jane", DATABASE))
    }
    assert len(lines["max"]) == len(lines["jane"]) > 12
    page = visit(f"/{MASKED}/observations?entity_id=call_1", "max").text
    [row, *_] = re.findall(rf'href="(/{MASKED}/observations/call_1[^"]+)"', page)
    assert visit(row, "max").status_code == 200


def test_operators_own_tables_are_empty_when_masked(visit, db, settings, known):
    db.execute("CREATE TABLE customers (name TEXT)")
    db.execute("INSERT INTO customers VALUES (?)", [SECRET])
    db.execute("CREATE VIEW regulars AS SELECT name, from_number FROM customers, calls")
    for sql in (
        "select * from customers",
        "select name from customers full join (select null as name) using (name)",
        "select * from regulars",
    ):
        assert SECRET not in ask(visit, sql, "max", MASKED).text.replace(sql, ""), sql
        assert NUMBER not in ask(visit, sql, "max", MASKED).text, sql
    assert SECRET in ask(visit, "select * from customers", "jane", DATABASE).text


# Raw bodies, by nobody


BODIES = [
    "select count(body) from observations",
    "select count(body) from observations full join (select null as body) using (body)",
    "select count(body) from main.observations full join (select null body) using (body)",
    "with observations as (select body from main.observations) select count(body) "
    "from observations",
    "select count(length(body)) from (select * from observations)",
    "select count(block) from transcripts_fts_data",
    "select count(block) from transcripts_fts_data full join (select null block) using (block)",
]


@pytest.mark.parametrize(("name", "seen"), [("jane", DATABASE), ("max", MASKED)])
def test_sql_reads_no_raw_bodies_or_index_tables(visit, name, seen):
    for sql in BODIES:
        answer = ask(visit, sql, name, seen)
        assert answer.status_code == 400 or answer.json()["rows"] == [[0]], sql


def test_a_reader_still_searches_and_sees_observations(visit):
    sql = "select snippet(transcripts_fts, 0, '', '', '', 9) from transcripts_fts('sesame')"
    assert SECRET in ask(visit, sql, "jane", DATABASE).text
    assert visit("/retell/observations", "jane").status_code == 200
    row = visit("/retell/observations.json?_shape=array", "jane").json()[0]
    assert row["body"] is None
    assert row["body_bytes"] > 0


def test_the_guard_refuses_to_write(served, db_path):
    connection = served.databases[DATABASE].connect(write=True)
    with pytest.raises(Exception, match="not authorized"):
        connection.execute("DELETE FROM calls")
    whole = connect(db_path, busy_timeout_ms=1000)
    assert whole.execute("SELECT count(*) FROM calls").fetchone()[0] == 1
    whole.close()


@pytest.mark.parametrize("stream", ["", "&_stream=on"])
def test_csv_of_failed_query_is_400(visit, stream):
    """Instead of a file without rows."""
    for path in (f"/{DATABASE}.csv?sql=", f"/{DATABASE}?_format=csv&sql="):
        answer = visit(f"{path}select+nothing{stream}", "jane")
        assert answer.status_code == 400
        assert "Invalid SQL" in answer.text
    assert visit(f"/{DATABASE}.csv?sql=select+7+a{stream}", "jane").text.split() == ["a", "7"]


def test_csv_ends_at_its_limit(visit, served):
    served._settings["max_csv_mb"] = 1
    long = "printf('%.*c', 600000, 'a')"
    sql = quote(f"select {long} union all select {long} union all select {long}")
    assert len(visit(f"/{DATABASE}.csv?_stream=on&sql={sql}", "jane").text) < 1_100_000
