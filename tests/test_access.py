"""Who may browse, and what each role sees: by page, by SQL and by every other way in."""

import asyncio
import importlib.util
import json
import os
import stat
from urllib.parse import quote

import httpx
import pytest
from click.testing import CliRunner
from datasette_auth_passwords.utils import hash_password

from receiver import access, config
from receiver.browse.pages import DATABASE, MASKED
from receiver.browse.server import serving
from receiver.cli import main
from receiver.errors import SettingsError
from receiver.sandbox.day import day
from receiver.store import receive
from receiver.store.connection import connect
from schema.dashboards import DASHBOARDS
from schema.personal import OPEN, PERSONAL
from schema.questions import questions
from schema.tables import ROLLUP_TABLES, TABLES
from schema.views import views
from tests.conftest import KEY
from tests.test_cli import stored
from tests.test_end_to_end import free_port, running

# Datasette serves files.
pytestmark = pytest.mark.sqlite
START = 1_778_544_000_000
NUMBER = "+14155550123"
SECRET = "sesame"
PASSWORD = "correct horse"
# As the command makes it, but quick.
HASH = hash_password(PASSWORD, iterations=1)


def entries(word):
    """A transcript in which everything personal is the word."""
    return [
        {
            "role": "user",
            "content": f"I am {word}",
            "words": [{"word": f"{word} ", "start": 0.5, "end": 1.0}],
            "metadata": {"said": word},
        },
        {
            "role": "tool_call_invocation",
            "tool_call_id": "t1",
            "name": "book",
            "arguments": json.dumps({"name": word}),
            "time_sec": 2.0,
        },
        {
            "role": "tool_call_result",
            "tool_call_id": "t1",
            "content": json.dumps({"success": False, "name": word}),
            "successful": True,
            "time_sec": 3.0,
        },
        {"role": "dtmf", "digit": word, "time_sec": 4.0},
        {"role": "sms", "content": word, "time_sec": 5.0},
    ]


CALL = {
    "call_id": "call_1",
    "call_type": "phone_call",
    "call_status": "ended",
    "direction": "inbound",
    "from_number": NUMBER,
    "to_number": "+14155550199",
    "transfer_destination": NUMBER,
    "agent_id": "agent_1",
    "agent_name": "Dental",
    "agent_version": 1,
    "start_timestamp": START,
    "end_timestamp": START + 20_000,
    "duration_ms": 20_000,
    "disconnection_reason": "user_hangup",
    "telephony_identifier": {"twilio_call_sid": SECRET},
    "metadata": {"customer": SECRET},
    "retell_llm_dynamic_variables": {"name": SECRET},
    "collected_dynamic_variables": {"name": SECRET},
    "custom_sip_headers": {"X-Name": SECRET},
    "not_known_yet": SECRET,
    "recording_url": f"https://recordings.example/{SECRET}.wav",
    "scrubbed_recording_url": f"https://recordings.example/{SECRET}-scrubbed.wav",
    "public_log_url": f"https://recordings.example/{SECRET}.txt",
    "transcript": f"User: I am {SECRET}\n",
    "transcript_with_tool_calls": entries(SECRET),
    "scrubbed_transcript_with_tool_calls": entries("[NAME]"),
    "call_cost": {"combined_cost": 12.5, "product_costs": [{"product": "llm", "cost": 12.5}]},
    "call_analysis": {
        "call_summary": f"{SECRET} called",
        "user_sentiment": "Positive",
        "call_successful": True,
        "custom_analysis_data": {"who": SECRET},
        "unknown_field": SECRET,
    },
}
CHAT = {
    "chat_id": "chat_1",
    "chat_type": "sms_chat",
    "chat_status": "ended",
    "agent_id": "agent_1",
    "start_timestamp": START,
    "transcript": f"User: I am {SECRET}\n",
    "metadata": {"customer": SECRET},
    "from_number": NUMBER,
    "message_with_tool_calls": [
        {"role": "user", "message_id": "m", "content": SECRET, "created_timestamp": START}
    ],
    "chat_analysis": {"chat_summary": SECRET, "user_sentiment": "Neutral"},
}
# Whatever of the call and chat is personal, however it is cut.
PERSONAL_TEXTS = (SECRET, NUMBER, "4155550123", "14155550199")


@pytest.fixture
def settings(db_path):
    return config.load({"RETELL_API_KEY": KEY, "CALLHOUSE_DATABASE_URL": f"sqlite:///{db_path}"})


@pytest.fixture
def known(db_path):
    """Jane reads, Max sees no personal data; each with a token of the name. Returns the tokens."""
    tokens = {}
    everybody = access.Known()
    for name, role in (("jane", "reader"), ("max", "masked")):
        everybody.users[name] = access.User(role, HASH)
        everybody.tokens[name], tokens[name] = access.new_token(role)
    access.save(access.path_beside(db_path), everybody)
    return tokens


@pytest.fixture
def served(settings, known, store, db):
    stored(store, {"event": "call_analyzed", "call": CALL}, at=START)
    stored(store, {"event": "chat_analyzed", "chat": CHAT}, at=START)
    step = {"transfer_destination": {"number": NUMBER}, "transfer_option": {"to": SECRET}}
    stored(store, {"event": "transfer_started", "call": {"call_id": "call_1"}, **step})
    db.execute("INSERT INTO erasures VALUES ('call_gone', 1, ?)", [f"{SECRET} asked"])
    served = serving(settings, password_hash=HASH)
    yield served
    for database in served.databases.values():
        database.close()
    served.executor.shutdown()


@pytest.fixture
def visit(served, known):
    """Get a path by the token of a name, or as nobody."""

    def get(path, name=None, **headers):
        if name:
            headers["Authorization"] = f"Bearer {known[name]}"
        return asyncio.run(served.client.get(path, headers=headers))

    return get


def ask(visit, sql, name, database):
    return visit(f"/{database}.json?_shape=arrays&sql={quote(sql)}", name)


# The classification


def test_every_column_is_either_open_or_personal():
    for table in (*TABLES, *ROLLUP_TABLES):
        is_open, personal = OPEN.get(table.name, set()), set(PERSONAL.get(table.name, {}))
        assert not is_open & personal, table.name
        undecided = set(table.names) ^ (is_open | personal)
        assert not undecided, f"{table.name}: decide in schema/personal.py about {undecided}"
    assert {*OPEN, *PERSONAL} == {table.name for table in (*TABLES, *ROLLUP_TABLES)}


def test_a_column_that_nobody_decided_about_reads_as_null(served, visit, monkeypatch):
    monkeypatch.setitem(OPEN, "calls", OPEN["calls"] - {"agent_name"})
    [row] = visit("/retell_masked/calls.json?_shape=array", "max").json()
    assert row["agent_name"] is None


def test_the_fixture_has_something_personal_in_every_personal_column(served, db):
    """Else the tests below prove little."""
    for table, columns in PERSONAL.items():
        for column in columns:
            found = db.execute(f"SELECT 1 FROM {table} WHERE {column} IS NOT NULL").fetchone()
            never = {("chats", "retell_llm_dynamic_variables"), ("chat_messages", "arguments")}
            never |= {("chats", "collected_dynamic_variables"), ("chats", "custom_attributes")}
            never |= {("chats", "custom_analysis_data"), ("chat_messages", "extra")}
            assert found or (table, column) in never, (table, column)


# No personal data, by page


def pages(database):
    names = [*(table.name for table in (*TABLES, *ROLLUP_TABLES)), *views()]
    yield from ("/", f"/{database}", f"/{database}.json", "/.json")
    for name in names:
        yield from (f"/{database}/{name}", f"/{database}/{name}.json?_shape=array")
        yield from (f"/{database}/{name}.csv?_stream=1", f"/{database}/{name}.json?_shape=objects")
    for name in questions():
        yield f"/{database}/{name}"
        yield f"/{database}/{name}.json?_shape=array&tool=book&seconds=1&field=who"
    for table in ("calls", "analyses", "transcripts", "call_metrics"):
        yield f"/{database}/{table}/call_1"
        yield f"/{database}/{table}/call_1.json"
    yield f"/{database}/utterances/call_1,session,0"
    yield f"/{database}/attributes/call_1,metadata,customer.json"
    for column in ("from_number", "to_number", "transfer_destination", "extra"):
        yield f"/{database}/calls.json?_facet={column}&_facet_size=max"
        yield f"/{database}/calls?_sort={column}"
        yield f"/{database}/calls.json?{column}__contains=4155550"
    yield f"/{database}/attributes.json?_facet=value"
    yield f"/{database}/transcripts.json?_search={SECRET}"
    yield f"/{database}/transcripts.json?_search_transcript={SECRET}&_searchmode=raw"
    yield f"/{database}/calls.json?_fts_table=transcripts_fts&_search={SECRET}"
    yield f"/{database}/calls.json?_where=from_number='{quote(NUMBER)}'&_extra=query"
    yield f"/{database}/calls.json?_labels=on&_trace=1&_col=from_number"
    through = {"table": "attributes", "column": "value", "value": SECRET}
    yield f"/{database}/calls.json?_shape=array&_through={quote(json.dumps(through))}"
    yield from ("/-/call/call_1", "/-/call/call_1?scrubbed", "/-/call/call_1.json")
    yield from ("/-/chat/chat_1", "/-/chat/chat_1?scrubbed")
    yield from ("/-/dashboards", *(f"/-/dashboards/{name}" for name in DASHBOARDS))
    yield from (f"/-/search?q={SECRET}", "/-/search?agent=Dental", f"/-/search?number={NUMBER}")
    for name in ("databases", "plugins", "metadata", "settings", "versions", "threads", "actor"):
        yield f"/-/{name}.json"
    yield from ("/_memory", "/_internal", "/_internal.json?sql=select+*+from+columns")
    yield f"/{database}/transcripts_fts_data"
    yield f"/{database}/transcripts_fts"
    yield f"/{database}.db"


def test_no_page_of_a_masked_login_holds_personal_data(visit):
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
def test_the_same_pages_of_a_reader_do(visit):
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


def test_what_is_left_of_a_call_without_personal_data(visit):
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


def test_no_filter_of_a_masked_login_confirms_a_guess(visit):
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


def test_the_page_of_a_call_shows_the_scrubbed_words_and_no_way_to_the_others(visit):
    page = visit("/-/call/call_1", "max").text
    assert "[NAME]" in page
    assert "As it was said" not in page
    assert "<audio" not in page
    assert "/retell/" not in page


def test_a_call_without_a_scrubbed_copy_says_why_there_are_no_words(visit, store):
    call = {k: v for k, v in CALL.items() if not k.startswith("scrubbed")} | {"call_id": "call_2"}
    stored(store, {"event": "call_analyzed", "call": call}, at=START)
    page = visit("/-/call/call_2", "max")
    assert page.status_code == 200
    assert "words are left out" in page.text
    assert 'id="turn-0"' in page.text
    assert SECRET not in page.text


def test_figures_are_the_same_with_and_without_personal_data(visit, store):
    for delivery in day(5, day_start_ms=START, calls=60):
        at = delivery.at_ms
        store.add(receive(delivery.body, source="webhook", observed_at=at, received_at=at))
    texts = {"call_log", "timeline", "words", "drift"}
    for name in set(views()) - texts:
        path = f"{name}.json?_shape=array&_size=max"
        whole = visit(f"/{DATABASE}/{path}", "jane").json()
        assert whole
        assert visit(f"/{MASKED}/{path}", "max").json() == whole, name


# No personal data, by SQL

ATTACKS = (
    "select * from calls",
    "select group_concat(from_number || to_number) from calls",
    "select * from main.calls",
    'select * from "main".calls',
    "select * from main/**/.calls",
    "select * from [MAIN] . calls",
    "with calls as (select from_number, extra from main.calls) select * from calls",
    "with calls as (select from_number from calls) select * from calls",
    "with calls as (select value as from_number from attributes) select * from calls",
    "with attributes as (select value from main.attributes) select * from attributes",
    "with utterances as materialized (select transcript from transcripts) select * from utterances",
    "select from_number from calls full join (select null as from_number) using (from_number)",
    "select value from attributes full join (select null as value) using (value)",
    "select value from attributes natural full join (select null as value)",
    "select url from media right join (select null as url) using (url)",
    "select transcript from transcripts_fts full join (select null as transcript) "
    "using (transcript)",
    "select block from transcripts_fts_data full join (select null as block) using (block)",
    "select cast(block as text) from transcripts_fts_data",
    "select transcript from transcripts_fts where transcripts_fts match 'sesame'",
    "select highlight(transcripts_fts, 0, '', '') from transcripts_fts('sesame')",
    "select snippet(transcripts_fts, 0, '', '', '', 9) from transcripts_fts "
    "where transcripts_fts match 'sesame'",
    "select * from sqlite_stat1 natural join calls",
    "select * from sqlite_stat4",
    "select j.value from calls, json_each(json_array(calls.extra, from_number)) j",
    "select value from json_each((select extra from calls))",
    "select * from call_log",
    "select * from timeline",
    "select * from words",
    "select * from calls indexed by calls_from_number where from_number > ''",
    "select rowid, * from calls",
    "select _rowid_, * from transcripts where rowid = 1",
    "select a.value from attributes a join attributes b using (call_id, source, name, value)",
    "select (select value from attributes limit 1) union select max(from_number) from calls",
    "select from_number, row_number() over (order by from_number) from calls",
    "select * from (select * from calls where from_number glob '+1415*')",
    "select transcript from chats union select content from chat_messages",
    "select option, destination from transfers union select reason, '' from erasures",
    "select * from calls where call_id in (select call_id from attributes where value > '')",
    "explain select from_number from calls",
    "select sql from sqlite_master union select sql from sqlite_temp_master",
    "select * from pragma_table_info('calls')",
    "select * from pragma_function_list",
    "select * from pragma_database_list",
    "select * from retell.calls",
    "select * from temp.calls",
    "select load_extension('x')",
    "select readfile('/etc/passwd')",
    "attach 'retell.db' as other",
    "select 1; select * from calls",
    "create temp table t as select 1",
    "vacuum into '/tmp/x.db'",
)


def test_no_sql_of_a_masked_login_reads_personal_data(visit):
    for sql in ATTACKS:
        answer = ask(visit, sql, "max", MASKED)
        assert answer.status_code in (200, 400), sql
        text = answer.text if answer.status_code == 400 else json.dumps(answer.json()["rows"])
        # An error repeats the query.
        said = text.replace(json.dumps(sql)[1:-1], "")
        assert not [t for t in PERSONAL_TEXTS if t in said], (sql, said)


def test_the_same_sql_reads_it_where_nothing_stands_in_front(db, served):
    """So that the attacks are some."""
    read = []
    for sql in ATTACKS:
        try:
            rows = db.execute(sql).fetchall() if sql.startswith(("select", "with")) else []
        except Exception:  # some are no SQL for this file
            continue
        said = json.dumps([tuple(map(str, row)) for row in rows])
        read += [sql for t in PERSONAL_TEXTS if t in said]
    assert len(set(read)) > 25


GUESSES = [
    "select count(*) from calls where from_number = :it",
    "select count(*) from calls join (select :it as from_number) using (from_number)",
    "select count(*) from attributes join (select 'sesame' as value) using (value)",
    "select count(*) from attributes where value in ('sesame', :it)",
    "select count(*) from transcripts where transcript like '%sesame%'",
    "select count(*) from utterances where content like '%sesame%'",
    "select count(*) from call_log where who = :it",
    "select count(*) from media where url is not null",
]


def test_no_guess_of_a_masked_login_is_confirmed(visit):
    for sql in GUESSES:
        answer = ask(visit, sql.replace(":it", f"'{NUMBER}'"), "max", MASKED)
        assert answer.json()["rows"] == [[0]], sql


def test_tables_of_the_operators_own_are_nothing_to_a_masked_login(visit, db, settings, known):
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
def test_no_sql_reads_raw_bodies_or_the_indexs_own_tables(visit, name, seen):
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


# Who gets where


def test_each_role_sees_its_database_and_no_other(visit):
    for name, own, other in (("jane", DATABASE, MASKED), ("max", MASKED, DATABASE)):
        assert list(visit("/.json", name).json()) == [own]
        for path in ("", ".json?sql=select+1", "/calls", "/calls/call_1.json", "/calls.csv", ".db"):
            assert visit(f"/{other}{path}", name).status_code in (403, 404), path
        assert visit(f"/{own}/calls.csv", name).status_code == 200
        assert visit("/_internal", name).status_code == 403
        assert visit("/_memory", name).status_code == 404
        assert visit("/-/permissions", name).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer callhouse_guess"},
        {"Authorization": "Basic amFuZTpjb3JyZWN0IGhvcnNl"},
        {"Authorization": "Bearer \xe9"},
        {"Cookie": "ds_actor=forged"},
    ],
)
def test_without_a_login_nothing_is_there(served, headers):
    open_ = {"/-/actor.json"}
    for path in [*list(pages(DATABASE))[::5], f"/{MASKED}/calls.csv", "/-/call/call_1.json"]:
        raw = [(k, v.encode("latin-1")) for k, v in headers.items()]
        answer = asyncio.run(served.client.get(path, headers=raw))
        assert path in open_ or answer.status_code in (403, 404), path
        assert SECRET not in answer.text.replace(path.split("=")[-1], ""), path


def cookie(served, name, password):
    """The login's cookies, as the form gets them; empty if it is refused."""

    async def post():
        form = await served.client.get("/-/login")
        token = form.cookies["ds_csrftoken"]
        posted = {"username": name, "password": password, "csrftoken": token}
        answer = await served.client.post(
            "/-/login", data=posted, cookies={"ds_csrftoken": token}, follow_redirects=False
        )
        return {k: v for k, v in answer.cookies.items() if k == "ds_actor"}

    return asyncio.run(post())


def home(served, cookies):
    return asyncio.run(served.client.get("/.json", cookies=cookies))


def test_users_log_in_by_password_into_their_database(served):
    for name, database in (("jane", DATABASE), ("max", MASKED), ("admin", DATABASE)):
        assert list(home(served, cookie(served, name, PASSWORD)).json()) == [database]
    for name, password in (("jane", "wrong"), ("nobody", PASSWORD), ("admin", ""), ("", "")):
        assert cookie(served, name, password) == {}


def test_who_is_removed_or_gets_another_password_is_out_at_once(served, settings):
    path = access.path_beside(settings.database_path)
    jane, max_ = (cookie(served, name, PASSWORD) for name in ("jane", "max"))
    known = access.load(path)
    del known.users["jane"]
    known.users["max"] = access.User("masked", hash_password("another", iterations=1))
    access.save(path, known)
    assert [home(served, cookies).status_code for cookies in (jane, max_)] == [403, 403]
    assert home(served, cookie(served, "max", "another")).status_code == 200


def test_a_role_changes_at_once(served, settings):
    path = access.path_beside(settings.database_path)
    known = access.load(path)
    cookies = cookie(served, "jane", PASSWORD)
    known.users["jane"] = access.User("masked", known.users["jane"].password_hash)
    access.save(path, known)
    assert list(home(served, cookies).json()) == [MASKED]


def test_a_revoked_token_opens_nothing(visit, settings):
    path = access.path_beside(settings.database_path)
    known = access.load(path)
    del known.tokens["jane"]
    access.save(path, known)
    assert visit("/retell/calls.json", "jane").status_code == 403
    assert visit("/retell_masked/calls.json", "max").status_code == 200


# The command line


@pytest.fixture
def run(monkeypatch, db_path):
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", f"sqlite:///{db_path}")
    return lambda *args: CliRunner().invoke(main, [str(arg) for arg in args])


def test_a_user_added_without_a_terminal_gets_a_password_made(run, db_path):
    result = run("user", "add", "jane", "--role", "reader")
    assert result.exit_code == 0
    password = result.output.split("Password: ")[1].strip()
    path = access.path_beside(db_path)
    who = access.Access(path, admin_password_hash=None)
    assert who.log_in("jane", password) == {
        "id": "jane",
        "session": who.known.users["jane"].session,
    }
    assert password not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_token_is_told_once_and_kept_as_a_hash(run, db_path):
    token = run("token", "add", "sheet", "--role", "masked").output.strip()
    path = access.path_beside(db_path)
    assert token.startswith("callhouse_")
    assert token not in path.read_text()
    who = access.Access(path, admin_password_hash=None)
    assert who.role(who.actor_of_token(token)) == "masked"
    assert run("token", "list").output.splitlines()[1].split()[:2] == ["sheet", "masked"]
    assert run("token", "add", "sheet", "--role", "reader").exit_code == 2
    assert run("token", "remove", "sheet").exit_code == 0
    assert who.actor_of_token(token) is None
    assert run("token", "remove", "sheet").exit_code == 2


def test_users_are_listed_and_removed(run):
    assert "No users" in run("user", "list").output
    run("user", "add", "max", "--role", "masked")
    assert "no personal data" in run("user", "list").output
    assert run("user", "remove", "max").exit_code == 0
    assert run("user", "remove", "max").exit_code == 2


@pytest.mark.parametrize("name", ["admin", "", "Jane Doe", "token:x", "../x", "a" * 65])
def test_some_names_are_refused(run, name):
    assert run("user", "add", name, "--role", "reader").exit_code == 2


def test_every_command_of_a_group_has_help_with_an_example():
    for group in ("user", "token"):
        for name, command in main.commands[group].commands.items():
            text = CliRunner().invoke(main, [group, name, "--help"]).output
            assert f"callhouse {group} {name}" in text.split("Example", 1)[1]
            assert command.get_short_help_str()


def test_a_damaged_file_is_an_error_and_lets_nobody_in(db_path):
    path = access.path_beside(db_path)
    for text in ("", "{", "[]", '{"users": {"jane": {}}, "tokens": {}}'):
        path.write_text(text)
        with pytest.raises(SettingsError, match="damaged"):
            access.Access(path, admin_password_hash=None).role({"id": "jane"})


def test_browse_needs_no_password_of_its_own_where_users_are_known(settings, known, monkeypatch):
    from receiver.browse import server

    assert server._login(settings) == (None, None)
    who = access.Access(access.path_beside(settings.database_path), admin_password_hash=None)
    assert who.role({"id": "admin"}) is None
    assert who.log_in("admin", "") is None


def test_the_guard_refuses_to_write(served, db_path):
    connection = served.databases[DATABASE].connect(write=True)
    with pytest.raises(Exception, match="not authorized"):
        connection.execute("DELETE FROM calls")
    whole = connect(db_path, busy_timeout_ms=1000)
    assert whole.execute("SELECT count(*) FROM calls").fetchone()[0] == 1
    whole.close()


# Assistants

HAS_MCP = importlib.util.find_spec("datasette_mcp") is not None


HELLO = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}


def tool(name, **arguments):
    return ("tools/call", {"name": name, "arguments": arguments})


@pytest.mark.skipif(not HAS_MCP, reason="waits for datasette-mcp: pip install '.[mcp]'")
def test_an_assistant_asks_the_database_of_its_token(served, known, db_path):
    address = f"127.0.0.1:{free_port()}"
    environ = os.environ | {
        "CALLHOUSE_DATABASE_URL": f"sqlite:///{db_path}",
        "CALLHOUSE_BROWSE_BIND": address,
    }
    sql = "select from_number from calls"
    with running("browse", environ, address) as process, httpx.Client() as client:
        for name, own, other in (("jane", DATABASE, MASKED), ("max", MASKED, DATABASE)):
            headers = {
                "accept": "application/json, text/event-stream",
                "authorization": f"Bearer {known[name]}",
            }
            answers = []
            for method, params in (
                ("initialize", HELLO),
                tool("list_databases"),
                tool("execute_sql", database=own, sql=sql),
                tool("execute_sql", database=other, sql=sql),
                tool("execute_sql", database=own, sql=f"select * from main.calls -- {NUMBER}"),
                tool("execute_sql", database=own, sql=f"select * from calls where [{NUMBER}]"),
            ):
                body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
                url = f"http://{address}/-/mcp"
                answers.append(client.post(url, json=body, headers=headers, timeout=30))
                headers["mcp-session-id"] = answers[0].headers["mcp-session-id"]
            _, databases, found, *refused = (answer.json()["result"] for answer in answers)
            assert databases["structuredContent"] == {"databases": [own]}
            shown = NUMBER if name == "jane" else "•••23"
            assert found["structuredContent"]["rows"] == [{"from_number": shown}]
            assert [answer["isError"] for answer in refused] == [True, True, True]
    assert NUMBER not in process.said


def test_no_assistant_gets_in_without_a_token(served, known):
    cookies = cookie(served, "jane", PASSWORD)
    for path in ("/-/mcp", "/-/mcp/"):
        for headers in ({}, {"Authorization": "Bearer guess"}):
            answer = asyncio.run(
                served.client.post(path, json={}, headers=headers, cookies=cookies)
            )
            assert answer.status_code == 401
