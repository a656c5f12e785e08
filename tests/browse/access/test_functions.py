"""Which functions SQL may call, and that the replaced ones give what SQLite's give."""

import random
import subprocess
import sys

import pytest

from receiver.browse import functions
from receiver.browse.pages import DATABASE, MASKED
from receiver.browse.privacy import guard
from receiver.store.connection import sqlite3
from tests.browse.access.roles import ask

# Datasette serves files.
pytestmark = pytest.mark.sqlite


@pytest.fixture(params=[DATABASE, MASKED])
def guarded(request, db_path):
    connection = sqlite3.connect(f"file:{db_path}?mode=ro", uri=True)
    guard(connection, is_masked=request.param == MASKED)
    yield connection
    connection.close()


def listed(what):
    """What this build of SQLite has: functions with their number of arguments, or modules."""
    connection = sqlite3.connect(":memory:")
    rows = connection.execute(f"select * from pragma_{what}_list").fetchall()
    connection.close()
    return rows


def test_functions_that_are_not_listed_are_refused(guarded):
    refused = 0
    for name, _, _, _, arguments, _ in listed("function"):
        if name not in functions.FUNCTIONS:
            values = ", ".join(["'1'"] * (arguments if arguments >= 0 else 1))
            with pytest.raises(sqlite3.DatabaseError, match="not authorized to use function"):
                guarded.execute(f'select "{name}"({values})')
            refused += 1
    assert refused > 30


def test_listed_functions_can_be_called(guarded):
    known = {row[0]: row[4] for row in listed("function")}
    for name in functions.FUNCTIONS & set(known):
        values = ", ".join(["'1'"] * max(known[name], 0))
        message = ""
        try:
            guarded.execute(f'select "{name}"({values})')
        except sqlite3.DatabaseError as error:
            message = str(error)
        assert "authorized" not in message, name


def test_modules_that_are_not_listed_are_refused(guarded):
    names = {row[0] for row in listed("module")} | {"dbstat", "sqlite_stmt", "generate_series"}
    names |= {f"pragma_{row[0]}" for row in listed("pragma")}
    for name in names - functions.TABLE_FUNCTIONS:
        for call in (name, f"{name}()", f"{name}('1')", f"{name}('simple', 'a b')"):
            for columns in ("*", "count(*)"):
                with pytest.raises(sqlite3.DatabaseError):
                    guarded.execute(f"select {columns} from {call}").fetchall()


def test_pragmas_that_are_not_listed_are_refused(guarded):
    for (name,) in listed("pragma"):
        if name not in functions.PRAGMAS:
            with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
                guarded.execute(f"pragma {name}")


def test_allowed_functions_and_tables_work(visit):
    for name, database in (("jane", DATABASE), ("max", MASKED)):
        for sql in (
            "select value from json_each('[1, 2]')",
            "select name from pragma_table_info('calls')",
            "select name from pragma_function_list limit 1",
            "select date('now'), round(sqrt(2), 2), group_concat(agent_id) from calls",
            "select escape_fts('a b') from calls",
            "select row_number() over (order by call_id), json_extract('{}', '$.a') from calls",
            "select call_id from calls where agent_name like '%ental' and agent_name glob 'D*'",
            "with recursive n(x) as (select 1 union select x + 1 from n limit 3) select x from n",
        ):
            answer = ask(visit, sql, name, database)
            assert (answer.status_code, bool(answer.json()["rows"])) == (200, True), sql


_CRASH = """
import sys
from receiver.browse.privacy import guard
from receiver.store.connection import sqlite3
connection = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
if sys.argv[2] != "bare":
    guard(connection, is_masked=sys.argv[2] == "masked")
for sql, given in (
    ("select fts3_tokenizer('simple', ?)", (b"AAAAAAAA",)),
    ("select * from fts3tokenize('simple', 'a b')", ()),
):
    try:
        connection.execute(sql, given).fetchall()
    except sqlite3.DatabaseError as error:
        print("refused", error)
"""


def test_no_login_installs_a_pointer_through_fts3(db_path):
    """In a process of its own: without the guard it dies of a signal."""
    for role in ("reader", "masked"):
        command = [sys.executable, "-c", _CRASH, str(db_path), role]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.count("refused") == 2, ended.stdout


CALLS = (
    "select :x like :y",
    "select :x like :y escape '%'",
    "select :x like :y escape 'b'",
    "select :x glob :y",
    "select instr(:x, substr(:y, 1, 2))",
    "select replace(:x, substr(:y, 1, 1), :z)",
    "select trim(:x, :y), ltrim(:x, :y), rtrim(:x, :y)",
)


def test_replaced_functions_equal_sqlites():
    own, replaced = sqlite3.connect(":memory:"), sqlite3.connect(":memory:")
    functions.replace_slow_functions(replaced)
    chance = random.Random(3)
    odd = [None, 0, 12, -1.5, 1e300, 2.0, b"ab", b"", "Äö", "aé", "a\nb"]
    for _ in range(4_000):
        given = {
            name: chance.choice(odd)
            if chance.random() < 0.1
            else "".join(chance.choices("aAbB%_*?[]^-é", k=chance.randrange(7)))
            for name in "xyz"
        }
        for sql in CALLS:
            expected = own.execute(sql, given).fetchone()
            assert replaced.execute(sql, given).fetchone() == expected, (sql, given)
    own.close()
    replaced.close()


def test_costly_functions_are_linear_and_bounded():
    """SQLite's own take minutes for each of these, or gigabytes."""
    connection = sqlite3.connect(":memory:")
    functions.replace_slow_functions(connection)
    long, half = "a" * 10_000_000, "a" * 5_000_000 + "b"
    given = {"x": long, "y": half}
    assert connection.execute("select instr(:x, :y)", given).fetchone() == (0,)
    assert connection.execute("select length(replace(:x, :y, ''))", given).fetchone()[0] > 0
    given["y"] = "%" + "a" * 900 + "b%"
    assert connection.execute("select :x like :y", given).fetchone() == (0,)
    for sql in (
        "select replace(:x, 'a', 'aaaaaaaa')",
        "select :x like :x",
        "select :x glob '*" + "a?" * 400 + "b*'",
    ):
        with pytest.raises(sqlite3.OperationalError, match="user-defined function raised"):
            connection.execute(sql, given).fetchone()
    connection.close()
