"""Logins that are limited to a client's calls: everything of that client, nothing of another."""

import csv
import io
import json
import re
from contextlib import closing, contextmanager
from dataclasses import replace
from types import SimpleNamespace
from urllib.parse import quote

import pytest

from receiver import config
from receiver.browse import access
from receiver.browse.charts import DASHBOARDS
from receiver.browse.limits import Limits, stored_limits
from receiver.browse.pages import DATABASE, MASKED, database_of, is_admin, reviewer
from receiver.store import migrate, open_store, receive, roll_up
from receiver.store.connection import connect
from schema.questions import questions
from schema.sql.views import views
from schema.tables import CALL_TABLES, CHAT_TABLES, ROLLUP_TABLES
from tests.browse.access.roles import (
    ATTACKS,
    CALL,
    CHAT,
    GUESSES,
    PERSONAL_TEXTS,
    SECRET,
    START,
    pages,
)
from tests.support.browsing import HASH, add_tokens, browsing, visitor
from tests.support.days import day

# Datasette serves files.
pytestmark = pytest.mark.sqlite


def owned(deliveries):
    """Two agents of the client acme, one with a flow of nodes, and the ids of their calls."""
    objects = [json.loads(d.body) if d.body.startswith(b"{") else {} for d in deliveries]
    agents = [(b.get("call") or b.get("chat") or {}).get("agent_id") for b in objects]
    pairs = list(zip(deliveries, agents, strict=True))
    flowing = next(agent for d, agent in pairs if agent and b'"node_transition"' in d.body)
    known = [agent for agent in agents if agent and agent != flowing]
    chosen = (flowing, max(sorted(set(known)), key=known.count))
    return chosen, {d.entity_id for d, agent in pairs if agent in chosen}


def fill(path, deliveries, ids, *, only_acme):
    """Store the deliveries, those of acme's calls with its key and metadata."""
    migrate(path, timezone="UTC")
    with closing(connect(path, busy_timeout_ms=1000)) as db:
        keys = [("k1", "acme"), ("k2", "other")][: 1 if only_acme else 2]
        db.executemany("INSERT INTO account_keys VALUES (?, ?)", keys)
    store = open_store(path)
    for delivery in deliveries:
        is_acme, body = delivery.entity_id in ids, delivery.body
        if only_acme and not is_acme:
            continue
        if is_acme:
            value = json.loads(body)
            for entity in (value.get("call"), value.get("chat")):
                if entity:
                    metadata = entity.get("metadata")
                    entity["metadata"] = (metadata if isinstance(metadata, dict) else {}) | {
                        "client": "acme"
                    }
            body = json.dumps(value).encode()
        at, key = delivery.at_ms, "k1" if is_acme else "k2"
        store.add(receive(body, source="webhook", observed_at=at, received_at=at, key_id=key))
    if not only_acme:
        for body in (
            {"event": "call_analyzed", "call": CALL | {"agent_id": "agent_other"}},
            {"event": "chat_analyzed", "chat": CHAT | {"agent_id": "agent_other"}},
        ):
            text = json.dumps(body).encode()
            store.add(
                receive(text, source="webhook", observed_at=START, received_at=START, key_id="k2")
            )
    assert [*roll_up(store, timezone="UTC", now_ms=START + 2 * 86_400_000)]
    store.close()


@contextmanager
def serve(path, grants):
    """Yield get(path, name) of Datasette for tokens with these roles and limits."""
    tokens = add_tokens(path, grants)
    environ = {"RETELL_API_KEY": "key", "CALLHOUSE_DATABASE_URL": f"sqlite:///{path}"}
    with browsing(config.load(environ), grants, password_hash=HASH) as served:
        get = visitor(served, tokens)
        get.served = served
        get.database = lambda name: database_of(served, {"id": f"token:{name}"})
        yield get


@pytest.fixture(scope="module")
def clients(tmp_path_factory):
    """Two files: of everybody, and of acme alone; and the limits that mean acme."""
    folder = tmp_path_factory.mktemp("limits")
    deliveries = day(5, day_start_ms=START, calls=40)
    chosen, ids = owned(deliveries)
    fill(folder / "all.db", deliveries, ids, only_acme=False)
    fill(folder / "acme.db", deliveries, ids, only_acme=True)
    limits = {
        "agent": Limits(agents=chosen),
        "account": Limits(accounts=("acme",)),
        "metadata": Limits(metadata=(("client", "acme"), ("client", "o'neill"))),
    }
    return folder, limits, ids


@pytest.fixture(scope="module")
def limited(clients):
    folder, limits, _ = clients
    grants = {name: ("reader", found) for name, found in limits.items()}
    grants["masked"] = ("masked", limits["agent"])
    grants["reader"] = ("reader", Limits())
    with serve(folder / "all.db", grants) as get:
        yield get


@pytest.fixture(scope="module")
def alone(clients):
    grants = {"reader": ("reader", Limits()), "masked": ("masked", Limits())}
    with serve(clients[0] / "acme.db", grants) as get:
        yield get


LIMITED = ("agent", "account", "metadata")
# Of which the day may have none.
RARE = (
    "chats",
    "chat_messages",
    "chat_unknowns",
    "unknowns",
    "transfers",
    "markers",
    "drift",
    "needs_attention",
)
# With more rows than a page has.
STREAMED = ("words",)


def rows(get, name, table):
    answer = get(f"/{get.database(name)}/{table}.csv?_size=max", name)
    assert answer.status_code == 200, (name, table, answer.text)
    if table in STREAMED:
        answer = get(f"/{get.database(name)}/{table}.csv?_stream=on", name)
    found = [
        {k: v for k, v in row.items() if k != "rowid"}
        for row in csv.DictReader(io.StringIO(answer.text))
    ]
    return sorted(found, key=lambda row: json.dumps(row, sort_keys=True))


def test_limited_login_sees_exactly_its_clients_rows(limited, alone):
    tables = [*CALL_TABLES, *CHAT_TABLES]
    names = [table.name for table in tables] + ["observations", *views()]
    for number, table in enumerate(names):
        expected = rows(alone, "reader", table)
        # Each kind of limits with every third table. Days have several rows until they are rolled
        # up, which they are not for limits by metadata.
        name = "account" if table.startswith("daily_") else LIMITED[number % 3]
        assert rows(limited, name, table) == expected, (name, table)
        assert expected or table in RARE, table
    assert rows(limited, "agent", "calls") == rows(limited, "metadata", "calls")
    assert rows(limited, "account", "calls") == rows(limited, "metadata", "calls")


def test_limited_login_reads_sums_of_its_client(limited, alone):
    def sums(get, name, table):
        return [row | {"position": ""} for row in rows(get, name, table.name)]

    for table in ROLLUP_TABLES:
        if "account" not in table.columns:
            assert rows(limited, "account", table.name) == []
            continue
        expected = sums(alone, "reader", table)
        assert expected
        for name in LIMITED:
            # Waits are not counted by agent, and nothing by metadata.
            has_sums = name == "account" or (name == "agent" and "agent_id" in table.columns)
            found = sums(limited, name, table)
            assert sorted(found, key=str) == (sorted(expected, key=str) if has_sums else [])


def test_masked_and_limited_login_has_both_limits(limited, alone):
    for table in ("calls", "utterances", "call_log", "daily_summary", "transcripts"):
        assert rows(limited, "masked", table) == rows(alone, "masked", table), table


def figures(get, name, path):
    """The text of a page without what differs from file to file."""
    answer = get(path, name)
    assert answer.status_code == 200, (name, path)
    text = re.sub(r'nonce="[^"]*"', "", answer.text.split("<main", 1)[1])
    # Pages about everybody are not listed, and what everybody's month cost is not shown.
    everybody = r'<section class="(?:doors|month)".*?</section>'
    text = re.sub(everybody, "", text, flags=re.DOTALL)
    for noise in (get.database(name), DATABASE):
        text = text.replace(f"/{noise}", "/db")
    return re.sub(r"\s+", " ", text)


def test_limited_figures_equal_those_of_the_client_alone(limited, alone):
    for path in ("/", *(f"/-/dashboards/{slug}" for slug in DASHBOARDS)):
        expected = figures(alone, "reader", path)
        for name in LIMITED:
            if name == "account" or "dashboards" not in path:
                assert figures(limited, name, path) == expected, (name, path)


@pytest.mark.slow
def test_limited_pages_show_no_other_clients_data(limited, clients):
    with closing(connect(clients[0] / "all.db", busy_timeout_ms=1000)) as db:
        found = db.execute("SELECT call_id FROM calls UNION SELECT chat_id FROM chats").fetchall()
    others = {entity for (entity,) in found if len(entity) > 20} - clients[2]
    assert len(others) > 20
    for name in (*LIMITED, "masked"):
        for path in list(pages(limited.database(name)))[:: 1 if name == "metadata" else 9]:
            answer = limited(path, name)
            assert answer.status_code in (200, 302, 400, 403, 404), path
            text = answer.text
            assert not [entity for entity in others if entity in text and entity not in path], path
            # The form of the page of calls has an example of a number.
            personal = [SECRET] if path.startswith("/-/") else PERSONAL_TEXTS
            if SECRET not in path and "4155550" not in path:
                assert not [t for t in personal if t in text], path
            else:
                assert "I am" not in text, path


def test_limited_login_reaches_no_other_database(limited, clients):
    for name in (*LIMITED, "masked"):
        own = limited.database(name)
        assert list(limited("/.json", name).json()) == [own]
        for other in (DATABASE, MASKED, *(limited.database(n) for n in LIMITED if n != name)):
            for path in ("", ".json?sql=select+1", "/calls.csv", "/call_log.json"):
                assert limited(f"/{other}{path}", name).status_code in (403, 404), (name, other)
        for path in ("/-/status", "/-/retention", "/-/alerts"):
            assert limited(path, name).status_code == 403
            assert limited(path, "reader").status_code == 200


def test_database_name_does_not_tell_its_limits(clients):
    """Otherwise, whoever sees a name could find out which clients there are."""
    names = set()
    for secret in ("a", "b"):
        environ = {
            "CALLHOUSE_DATABASE_URL": f"sqlite:///{clients[0] / 'acme.db'}",
            "CALLHOUSE_SECRET": secret * 32,
        }
        grants = {"someone": ("reader", clients[1]["agent"])}
        with browsing(config.load(environ), grants, password_hash=HASH) as served:
            known = access.load(access.path_beside(clients[0] / "acme.db")).users["someone"]
            session = served.callhouse_authentication.access._session("someone", known)
            names.add(database_of(served, {"id": "someone", "session": session}))
    assert len(names) == 2


def ask(get, sql, name):
    return get(f"/{get.database(name)}.json?_shape=arrays&sql={quote(sql)}", name)


def test_limited_sql_reads_nothing_of_others(limited):
    for name in (*LIMITED, "masked"):
        for sql in ATTACKS:
            answer = ask(limited, sql, name)
            assert answer.status_code in (200, 400), sql
            text = answer.text if answer.status_code == 400 else json.dumps(answer.json()["rows"])
            output = text.replace(json.dumps(sql)[1:-1], "")
            assert not [t for t in PERSONAL_TEXTS if t in output], (name, sql)
        for sql in GUESSES[:-1]:
            answer = ask(limited, sql.replace(":it", "'+14155550123'"), name)
            assert answer.json()["rows"] == [[0]], (name, sql)


# A condition that fails on a row of another client would say that there is one.
CONFESSIONS = [
    "select 1 from {t} where case when {c} glob '*{s}*' then json('{{') else 1 end",
    "select 1 from {t} where {c} > '' and case when {c} glob '*{s}*' then json('{{') else 1 end",
    "select count(*) from {t} left join calls c using (call_id) "
    "where case when {c} glob '*{s}*' then json('{{') else 1 end",
    "select 1 from {t} where {k} = 'ID_1' "
    "and case when {c} glob '*{s}*' then json('{{') else 1 end",
    "select 1 from {t} where {k} in ('ID_1', 'x') "
    "and case when {c} glob '*{s}*' then json('{{') else 1 end",
    "select 1 from {t} where {k} >= 'ID_1' and {k} < 'ID_2' "
    "and case when {c} glob '*{s}*' then json('{{') else 1 end",
    "select 1 from {t} where {i} and case when {c} glob '*{s}*' then json('{{') else 1 end",
    "select 1 from {t} where unlikely({i}) "
    "and likely(case when {c} glob '*{s}*' then json('{{') else 1 end)",
]
# Table, column, a part of its value, the key, a condition on an index.
COLUMNS = [
    (
        *("attributes", "value", SECRET, "call_id"),
        "source = 'metadata' and name = 'customer' and value > ''",
    ),
    ("attributes", "value", SECRET, "call_id", "source = 'metadata' and name = 'customer'"),
    ("tool_calls", "arguments", SECRET, "call_id", "name = 'book'"),
    ("calls", "from_number", "4155550123", "call_id", "from_number = '+14155550123'"),
    ("calls", "call_id", "call_1", "call_id", "agent_id = 'agent_other'"),
    ("transcripts", "transcript", SECRET, "call_id", "rowid > 0"),
    ("utterances", "content", SECRET, "call_id", "track = 'session'"),
    ("call_log", "who", "4155550123", "call_id", "started_at_ms > 0"),
    ("call_log", "summary", SECRET, "call_id", "agent = 'Dental'"),
    ("analyses", "call_summary", SECRET, "call_id", "call_id > ''"),
    ("chats", "transcript", SECRET, "chat_id", "start_timestamp > 0"),
    ("observations", "entity_id", "call_1", "entity_id", "problem is null"),
    ("hourly_calls", "agent_id", "agent_other", "agent_id", "hour > 0"),
    ("hourly_costs", "agent_id", "agent_other", "agent_id", "product > ''"),
    ("hourly_calls", "agent_name", "Dental", "agent_name", "agent_id = 'agent_other'"),
]
SEARCHES = [
    "select 1 from transcripts_fts where transcripts_fts match 'sesame' "
    "and case when rowid > 0 then json('{') else 1 end",
    "select 1 from transcripts_fts where transcripts_fts match 'sesame' "
    "and case when transcript > '' then json('{') else 1 end",
    "select 1 from transcripts_fts where transcripts_fts match 'sesame' "
    "and case when highlight(transcripts_fts, 0, '', '') > '' then json('{') else 1 end",
    "select bm25(transcripts_fts) from transcripts_fts where transcripts_fts match 'sesame'",
    "select rank from transcripts_fts where transcripts_fts match 'the'",
    "select rowid from transcripts_fts where transcripts_fts match 'sesame'",
    "select count(*) from transcripts_fts where transcripts_fts match 'sesame'",
    "select 1 from transcripts_fts where transcripts_fts match 'sesame' "
    "and case when transcripts_fts is null then json('{') else 1 end",
    "select 1 from transcripts t join transcripts_fts f on f.rowid = t.rowid "
    "where transcripts_fts match 'the'",
    "select * from transcripts_fts_data",
    "select rowid from summaries_fts where summaries_fts match 'sesame'",
    "select rowid from characters_fts where characters_fts match 'ses'",
    "select term from characters_terms",
    "select * from summaries_fts_data",
]


def test_errors_reveal_no_other_clients_rows(limited, alone):
    def outcome(get, sql, name):
        answer = ask(get, sql, name)
        return answer.status_code, answer.json().get("error"), answer.json().get("rows")

    confessed = 0
    for table, column, secret, key, condition in COLUMNS:
        for attack in CONFESSIONS:
            if "left join" in attack and key != "call_id":
                continue
            sql = attack.format(t=table, c=column, s=secret, k=key, i=condition)
            sql = sql.replace("ID_", "chat_" if key == "chat_id" else "call_")
            if table == "calls" and "left join" in attack:
                sql = sql.replace(column, f"calls.{column}")
            confessed += "malformed JSON" in ask(limited, sql, "reader").text
            expected = outcome(alone, sql, "reader")
            for name in LIMITED:
                assert outcome(limited, sql, name) == expected, (name, sql)
    # So that the attacks are some.
    assert confessed > 50
    for sql in SEARCHES:
        for name in LIMITED:
            answer = ask(limited, sql, name)
            assert "malformed" not in answer.text, (name, sql)
            assert answer.status_code == 400 or answer.json()["rows"] == [], sql


def test_file_with_statistics_is_closed_to_limited_logins(clients):
    """SQLite builds a Bloom filter with conditions of the reader there."""
    folder, limits, _ = clients
    path = folder / "analyzed.db"
    with closing(connect(folder / "all.db", busy_timeout_ms=1000)) as db:
        db.execute("VACUUM INTO ?", [str(path)])
    grants = {"agent": ("reader", limits["agent"]), "reader": ("reader", Limits())}
    with serve(path, grants) as get, closing(connect(path, busy_timeout_ms=1000)) as db:
        assert ask(get, "select 1", "agent").status_code == 200
        db.execute("ANALYZE")
        answer = ask(get, "select 1", "agent")
        assert answer.status_code == 403
        assert "without statistics" in answer.text
        assert ask(get, "select 1", "reader").status_code == 200


def test_limited_login_searches_its_own_words(limited, alone, clients):
    with closing(connect(clients[0] / "acme.db", busy_timeout_ms=1000)) as db:
        words = " ".join(t or "" for (t,) in db.execute("SELECT transcript FROM transcripts"))
    word = max(set(words.split()), key=lambda w: len(w) if w.isalpha() and w.islower() else 0)
    expected = figures(alone, "reader", f"/-/calls?q={word}")
    assert "/-/call/" in expected
    for name in LIMITED:
        assert figures(limited, name, f"/-/calls?q={word}") == expected
        assert limited(f"/-/calls?q={SECRET}", name).text.count("/-/call/") == 0
    for query in ("q=予約", "q=thank*&kind=chat", "number=12"):
        expected = figures(alone, "reader", f"/-/calls?{query}")
        assert figures(limited, "agent", f"/-/calls?{query}") == expected


def test_limited_login_writes_nothing(limited, clients):
    path = access.path_beside(clients[0] / "all.db")
    known = access.load(path)
    user = known.users["agent"]
    actor = {"id": "agent", "session": known.session("agent", user.password_hash)}
    request = SimpleNamespace(actor=actor)
    with access.edit(path) as changed:
        changed.users["agent"] = replace(user, role="admin")
    try:
        assert limited.served.callhouse_authentication.access.role(actor) == "admin"
        assert reviewer(limited.served, request) is None
        assert not is_admin(limited.served, request)
    finally:
        with access.edit(path) as changed:
            changed.users["agent"] = user


def test_questions_run_for_limited_logins(limited):
    for slug in questions():
        path = f"/{limited.database('metadata')}/{slug}.json?_shape=array"
        answer = limited(f"{path}&tool=book&seconds=1&field=who&words=refund", "metadata")
        assert answer.status_code in (200, 400), slug


def test_limits_change_at_once(limited, clients):
    path = access.path_beside(clients[0] / "all.db")
    own = limited.database("agent")
    with access.edit(path) as known:
        before = known.tokens["agent"]
        known.tokens["agent"] = access.Token(
            "reader", before.token_sha256, Limits(agents=("agent_nobody",))
        )
    try:
        assert limited(f"/{own}/calls.json", "agent").status_code == 403
        assert rows(limited, "agent", "calls") == []
    finally:
        with access.edit(path) as known:
            known.tokens["agent"] = before


def test_stored_limits_are_read_or_refused():
    limits = Limits(("a",), ("b", "c"), (("client", "x"),))
    stored = {"accounts": ["a"], "agents": ["b", "c"], "metadata": [["client", "x"]]}
    assert stored_limits(stored) == limits
    assert not stored_limits(None)
    for damaged in ({"agents": "agent_1"}, {"agentz": ["a"]}, {"metadata": ["ab", "abc"]}):
        with pytest.raises((TypeError, ValueError)):
            stored_limits(damaged)
