"""What Datasette shows: every column explained, every page answers, nothing without a login."""

import asyncio
import json
import re
import subprocess
import sys
from contextlib import asynccontextmanager, closing

import pytest
from sqlite_utils.utils import sqlite3

from schema.describe import metadata, render_metadata
from schema.disconnection_reasons import REASONS
from schema.rows import Stamp, project
from schema.sql.views import views
from schema.tables import ALL_TABLES, ROLLUP_TABLES
from tests.support import ROOT
from tests.support.raw_fields import raw_fields

COMMITTED = ROOT / "datasette_metadata.json"
DESCRIBED = metadata()["databases"]["retell"]["tables"]
CALL = {
    "call_status": "ended",
    "direction": "inbound",
    "from_number": "+493012345",
    "agent_id": "agent_1",
    "agent_name": "Dental",
    "start_timestamp": 1778328000000,
    "duration_ms": 90_900,
    "disconnection_reason": "user_hangup",
    "transcript": "Agent: Hello.\nUser: A crown, please.",
    "transcript_object": [{"role": "user", "content": "A crown, please."}],
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A file as `callhouse migrate` makes it, with a call in it."""
    path = tmp_path_factory.mktemp("data") / "retell.db"
    with closing(sqlite3.connect(path)) as connection:
        for script in sorted((ROOT / "schema" / "sql" / "migrations").glob("*.sql")):
            connection.executescript(f"BEGIN; {script.read_text(encoding='utf-8')} COMMIT;")
        connection.execute("CREATE TABLE _sqlite_migrations (migration_set TEXT, name TEXT)")
        for statement in views("Europe/Berlin").values():
            connection.execute(statement)
        connection.executemany(
            "INSERT INTO disconnection_reasons VALUES (?, ?, ?)",
            [(reason, *meaning) for reason, meaning in REASONS.items()],
        )
        for (table, _), rows in project("call_1", raw_fields(CALL), Stamp(3, 1, 1)).items():
            for row in rows:
                marks = ", ".join("?" * len(row))
                connection.execute(f"INSERT INTO {table} VALUES ({marks})", row)
        connection.commit()
    return path


@asynccontextmanager
async def browsing(path):
    """A Datasette on the file, all its connections closed afterwards."""
    from datasette.app import Datasette

    datasette = Datasette([str(path)], metadata=json.loads(COMMITTED.read_text(encoding="utf-8")))
    try:
        await datasette.invoke_startup()
        yield datasette
    finally:
        for database in datasette.databases.values():
            database.close()
        datasette.executor.shutdown()


def get(path, *urls, anonymous=False):
    async def answers():
        async with browsing(path) as datasette:
            cookie = datasette.sign({"a": {"id": "admin"}}, "actor")
            cookies = {} if anonymous else {"ds_actor": cookie}
            return [await datasette.client.get(url, cookies=cookies) for url in urls]

    return asyncio.run(answers())


def columns_of(path):
    """Table or view -> its columns, without what SQLite's full-text index keeps for itself."""
    with closing(sqlite3.connect(path)) as connection:
        names = connection.execute(
            "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') "
            "AND name NOT LIKE '%\\_fts%' ESCAPE '\\' AND name NOT LIKE '\\_%' ESCAPE '\\' "
            "AND name <> 'characters_terms'"
        ).fetchall()
        return {
            name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")]
            for (name,) in names
        }


# The file


def test_the_committed_file_is_what_the_code_says():
    text = COMMITTED.read_text(encoding="utf-8")
    assert text == render_metadata(), "run: make describe"


def test_the_command_prints_the_file():
    command = [sys.executable, "-m", "schema.describe", "metadata"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    assert printed == COMMITTED.read_bytes()


def test_descriptions_match_the_tables_views_and_columns(path):
    described = {
        name: list(table["columns"]) for name, table in DESCRIBED.items() if "columns" in table
    }
    assert described == columns_of(path)
    assert [name for name, table in DESCRIBED.items() if "columns" not in table] == [
        "_sqlite_migrations"
    ]


def test_descriptions_of_tables_are_those_of_the_schema():
    for table in ALL_TABLES:
        assert DESCRIBED[table.name]["description"] == table.description
        assert DESCRIBED[table.name]["columns"] == table.columns


def test_descriptions_are_sentences():
    for name, table in DESCRIBED.items():
        if "columns" in table:
            for text in (table["description"], *table["columns"].values()):
                assert re.fullmatch(r"\S.*[.…]", text), (name, text)


def test_facets_and_sorts_name_sortable_columns(path):
    for name, columns in columns_of(path).items():
        table = DESCRIBED[name]
        sortable = table.get("sortable_columns", columns)
        assert {*table.get("facets", ()), *sortable} <= set(columns)
        assert table.get("sort_desc", next(iter(sortable), None)) in {*sortable, None}


# Datasette


@pytest.fixture(scope="module")
def pages(path):
    """Every page and its answer."""
    names = [*columns_of(path), "transcripts_fts", "_sqlite_migrations"]
    urls = ["/", "/retell", *(f"/retell/{name}" for name in names), "/retell/calls/call_1"]
    return dict(zip(urls, get(path, *urls), strict=True))


def test_every_page_answers(pages):
    assert {url: page.status_code for url, page in pages.items()} == dict.fromkeys(pages, 200)


def test_every_description_is_shown(pages):
    for name, table in DESCRIBED.items():
        if "columns" in table:
            # Quotes are escaped in the page.
            for text in (table["title"], table["description"], *table["columns"].values()):
                assert re.split(r"[\"'<>&]", text)[0] in pages[f"/retell/{name}"].text, name


def test_no_facet_of_a_page_fails(pages):
    for name, table in DESCRIBED.items():
        for facet in table.get("facets", ()):
            assert f'data-column="{facet}"' in pages[f"/retell/{name}"].text


def test_plumbing_is_hidden(path):
    [answer] = get(path, "/retell.json")
    hidden = {table["name"] for table in answer.json()["tables"] if table["hidden"]}
    assert hidden == {
        *(table.name for table in ROLLUP_TABLES),
        "_sqlite_migrations",
        *("transcripts_fts", "summaries_fts", "characters_fts", "characters_terms"),
        *(f"transcripts_fts_{part}" for part in ("config", "data", "docsize", "idx")),
        *(
            f"{name}_{part}"
            for name in ("summaries_fts", "characters_fts")
            for part in ("config", "data", "docsize", "idx")
        ),
    }


def test_transcripts_are_searched(path):
    found, not_found = get(
        path,
        "/retell/transcripts.json?_search=crown&_shape=array",
        "/retell/transcripts.json?_search=bridge&_shape=array",
    )
    assert [row["call_id"] for row in found.json()] == ["call_1"]
    assert not_found.json() == []


def test_nothing_is_seen_without_a_login(path):
    urls = (
        "/",
        "/retell",
        "/retell.json",
        "/retell/call_log",
        "/retell/calls.csv?_stream=1",
        "/retell/calls/call_1",
        "/retell.json?sql=select+*+from+calls",
        "/-/metadata.json",
        "/-/versions.json",
        "/-/settings.json",
    )
    answers = get(path, *urls, anonymous=True)
    assert dict(zip(urls, [a.status_code for a in answers], strict=True)) == dict.fromkeys(
        urls, 403
    )
    assert not [a for a in answers if "493012345" in a.text]
