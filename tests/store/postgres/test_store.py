"""What the store does when the server gives a transaction up, and with its connections."""

import socket
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress

import psycopg
import pytest

from receiver.addresses import PostgresUrl
from receiver.errors import StoreBusy, StoreUnavailable
from receiver.store import Outcome, open_store
from receiver.store.protocols import CONNECTIONS
from tests.support.postgres import execute, looking, name_of, pooler
from tests.support.running import wait_until
from tests.support.storing import ERASE, add
from tests.support.tables import dump


@pytest.fixture
def store(pg):
    store = open_store(pg, busy_seconds=20)
    yield store
    store.close()


def test_deadlock_is_resolved_by_a_retry(store, pg):
    both, tries = threading.Barrier(2), []

    def crossing(first, second):
        def unit(connection):
            tries.append(first)
            store.lock(connection, [first])
            connection.execute("SELECT 1").fetchone()
            if tries.count(first) == 1:
                both.wait(timeout=20)
            store.lock(connection, [second])
            connection.execute("SELECT 1").fetchone()

        return threading.Thread(target=store.run, args=(unit,))

    threads = [crossing("a", "b"), crossing("b", "a")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(tries) in (["a", "a", "b"], ["a", "b", "b"])


@pytest.mark.parametrize("state", ["40001", "40P01"])
def test_aborted_transaction_is_retried_as_a_whole(store, pg, state):
    tries = []

    def unit(connection):
        tries.append(1)
        connection.execute(ERASE, (f"try {len(tries)}", 1))
        if len(tries) < 3:
            connection.execute(f"DO $$ BEGIN RAISE EXCEPTION SQLSTATE '{state}'; END $$")
        return "done"

    assert store.run(unit) == "done"
    with looking(pg) as db:
        assert dump(db)["erasures"] == [("try 3", "all", 1, "asked for", None)]


def test_transaction_that_always_aborts_is_busy(pg):
    store = open_store(pg, busy_seconds=0.3)

    def unit(connection):
        connection.execute("DO $$ BEGIN RAISE EXCEPTION SQLSTATE '40001'; END $$")

    with pytest.raises(StoreBusy, match="40001"):
        store.run(unit)
    store.close()


def test_connections_are_reused_and_closed(store, pg):
    threads = [threading.Thread(target=add, args=(store, "call_ended", f"c{n}")) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    query = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with looking(pg) as db:
        assert 0 < db.execute(query).fetchone()[0] <= CONNECTIONS
        assert len(dump(db)["calls"]) == 40


# -- connections -----------------------------------------------------------------------------------

OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'callhouse'"


@pytest.fixture
def limited(pg):
    """The address of a user who may have two connections, and may not change tables."""
    execute(
        pg,
        "CREATE ROLE limited LOGIN CONNECTION LIMIT 2",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO limited",
    )
    yield PostgresUrl(pg.url.replace("callhouse@", "limited@"))
    execute(pg, "DROP OWNED BY limited", "DROP ROLE limited")


def all_at_once(*works):
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)


def test_idle_connections_are_left_to_other_processes(limited):
    """All that there are sit idle in one process, and events come to another one."""
    stores = [open_store(limited) for _ in range(3)]
    outcomes = []
    both = threading.Barrier(2)
    all_at_once(*[lambda: stores[0].run(lambda _: both.wait(10))] * 2)
    assert len(stores[0]._idle) == 2
    for store in stores[1:]:
        all_at_once(*[lambda s=store: outcomes.append(add(s, "call_ended", "c"))] * 3)
    assert Counter(outcomes) == {Outcome.STORED: 1, Outcome.DUPLICATE: 5}
    for store in stores:
        store.close()


def test_idle_connections_are_closed(store, pg):
    add(store, "call_ended")
    with looking(pg) as db:
        count = f"{OURS} AND datname = current_database() AND pid <> pg_backend_pid()"
        assert db.execute(count).fetchone() == (1,)
        wait_until(lambda: db.execute(count).fetchone() == (0,))
        assert add(store, "call_ended") is Outcome.DUPLICATE


def test_a_connection_refused_till_the_deadline_is_unavailable(limited, pg):
    with looking(limited), looking(limited):
        store = open_store(limited, busy_seconds=0.5)
        with pytest.raises(StoreUnavailable):
            add(store, "call_ended")
        store.close()


def test_query_waits_for_a_connection_within_its_time(pg):
    store = open_store(pg, busy_seconds=30, connections=1)
    is_held, is_over = threading.Event(), threading.Event()

    def unit(connection):
        is_held.set()
        is_over.wait(30)

    thread = threading.Thread(target=store.run, args=(unit,))
    thread.start()
    try:
        assert is_held.wait(30)
        began = time.monotonic()
        with pytest.raises(StoreBusy):
            store.first_row("SELECT 1", {}, seconds=0.2)
        assert time.monotonic() - began < 10
    finally:
        is_over.set()
        thread.join(30)
        store.close()


def test_process_stays_within_its_connection_limit(pg):
    store, peak = open_store(pg, busy_seconds=20, connections=2), []
    with looking(pg) as db:
        count = f"{OURS} AND datname = current_database() AND pid <> {db.raw.info.backend_pid}"

        def unit(connection):
            peak.append(connection.execute(count).fetchone()[0])

        all_at_once(*[lambda: store.run(unit)] * 12)
    assert max(peak) <= 2
    store.close()


@contextmanager
def over_tcp(postgres, where):
    """The same database by an address of TCP, and who has sent something, in turns."""
    listener, turns = socket.create_server(("127.0.0.1", 0)), [""]

    def forward(one, other, name):
        with one, suppress(OSError):
            while data := one.recv(65536):
                if turns[-1] != name:
                    turns.append(name)
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    def serve():
        while True:
            try:
                ours = listener.accept()[0]
            except OSError:
                return
            theirs = socket.socket(socket.AF_UNIX)
            theirs.connect(f"{postgres.folder}/.s.PGSQL.5432")
            for of in (ours, theirs, "store"), (theirs, ours, "server"):
                threading.Thread(target=forward, args=of, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        port = listener.getsockname()[1]
        yield PostgresUrl(f"postgresql://callhouse@127.0.0.1:{port}/{name_of(where)}"), turns
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_an_event_waits_for_few_answers(postgres, pg):
    with over_tcp(postgres, pg) as (where, turns):
        store = open_store(where)
        for n in range(4):
            add(store, "call_ended", f"c{n}", agent_id="a")
            add(store, "call_analyzed", f"c{n}", agent_id="a")
        del turns[1:]
        add(store, "call_ended", "d", agent_id="a")
        add(store, "call_analyzed", "d", agent_id="a")
        # Without a pipeline, once for each of 54 statements.
        assert turns.count("store") <= 10
        store.close()


def test_events_do_not_wait_for_a_ready_socket(store, pg, monkeypatch):
    waits, plain = [], psycopg.Connection.wait

    def counted(gen):
        try:
            wait = next(gen)
            while True:
                waits.append(wait)
                wait = gen.send((yield wait))
        except StopIteration as end:
            return end.value

    add(store, "call_ended", "c", agent_id="a")
    monkeypatch.setattr(
        psycopg.Connection,
        "wait",
        lambda self, gen, *arguments, **options: plain(self, counted(gen), *arguments, **options),
    )
    add(store, "call_ended", "d", agent_id="a")
    # Otherwise twice for each of 33 statements.
    assert 0 < len(waits) <= 10


# -- durable, whatever the connection --------------------------------------------------------------

HEAR = (
    "CREATE TABLE heard (setting text, value text)",
    "CREATE FUNCTION hear() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO heard "
    "SELECT name, setting FROM pg_settings "
    "WHERE name IN ('synchronous_commit', 'jit', 'lock_timeout'); RETURN NEW; END $$",
    "CREATE TRIGGER hear BEFORE INSERT ON observations FOR EACH ROW EXECUTE FUNCTION hear()",
)
WANTED = [("jit", "off"), ("lock_timeout", "20000"), ("synchronous_commit", "on")]


@contextmanager
def otherwise_set(where, holder):
    """The defaults of a role or database are other ones; what each event runs with is written."""
    name = name_of(where) if holder == "DATABASE" else "callhouse"
    settings = {"synchronous_commit": "off", "jit": "on"}
    execute(where, *HEAR)
    execute(where, *(f"ALTER {holder} {name} SET {s} = {to}" for s, to in settings.items()))
    try:
        yield
    finally:
        execute(where, *(f"ALTER {holder} {name} RESET {setting}" for setting in settings))


def heard(where):
    with looking(where) as db:
        return db.execute("SELECT DISTINCT setting, value FROM heard ORDER BY 1, 2").fetchall()


@pytest.mark.parametrize("holder", ["DATABASE", "ROLE"])
def test_each_transaction_is_made_durable_by_itself(store, pg, holder):
    with otherwise_set(pg, holder):
        for n in range(4):
            add(store, "call_ended", f"c{n}")
            # As if the next transaction was on another connection of the server's.
            for session in store._idle:
                session.raw.execute("RESET ALL")
        assert heard(pg) == WANTED


def test_transaction_without_durability_is_not_committed(store, pg):
    def unit(connection):
        connection.execute(ERASE, ("a", 1))

    overridden = (
        "CREATE FUNCTION public.set_config(text, text, boolean) RETURNS text LANGUAGE sql "
        "AS $$ SELECT CASE $1 WHEN 'synchronous_commit' THEN 'off' ELSE $2 END $$"
    )
    execute(
        pg,
        overridden,
        f"ALTER DATABASE {name_of(pg)} SET search_path = public, pg_catalog",
    )
    with pytest.raises(StoreUnavailable):
        store.run(unit)
    execute(pg, "DROP FUNCTION public.set_config(text, text, boolean)")
    with looking(pg) as db:
        assert dump(db)["erasures"] == []


@pytest.mark.slow
def test_events_are_durable_behind_a_transaction_pooler(postgres, pg):
    program = pooler()
    if program is None:
        pytest.skip("waits for PgBouncer 1.21 or newer")
    with otherwise_set(pg, "DATABASE"), postgres.pooled(pg, program) as where:
        store = open_store(where, busy_seconds=20)

        def some(thread):
            for n in range(20):
                add(store, "call_started", f"c{thread}.{n}", disconnection_reason="x" * (n % 3))
                add(store, "call_ended", f"c{thread}.{n}")
                with pytest.raises(StoreUnavailable):
                    store.run(lambda c: c.execute("SELECT ?::integer", ("words",)).fetchone())

        threads = [threading.Thread(target=some, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        store.close()
        assert heard(pg) == WANTED
    with looking(pg) as db:
        assert len(dump(db)["calls"]) == 80
