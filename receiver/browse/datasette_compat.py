"""Everything that depends on Datasette's internals, so that a new version touches one file.

Written for Datasette 0.65 and datasette-dashboards 0.8. The rest of callhouse uses only the
documented API: plugin hooks, Response, Request, the exceptions, the client, tilde encoding.
Templates named as Datasette's replace or extend those, and use the same context.
"""

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import datasette_dashboards
from datasette import Request
from datasette.database import Database, Results, connections
from datasette.database import QueryInterrupted as QueryInterrupted
from datasette.filters import Filters
from datasette.utils import (
    detect_fts,
    detect_primary_keys,
    get_all_foreign_keys,
    sqlite_timelimit,
    table_columns,
)
from datasette.views.base import DatasetteError as DatasetteError
from jinja2 import Environment
from jinja2.ext import Extension

from receiver.browse import request_state
from receiver.browse.formatting import CsvWriter, filter_parameter, parse_filter
from receiver.browse.functions import (
    MAX_VALUE_BYTES,
    MAX_VALUES,
    is_past_deadline,
    read_rows,
    set_deadline,
    set_own_sql,
)
from receiver.browse.limits import INDEXES, Limits
from receiver.browse.pool import QueryPool, TooManyQueries
from receiver.browse.privacy import bypasses_views, guard, has_statistics
from receiver.store.connection import Connection, Identity, connect_readonly, identity, sqlite3
from receiver.store.limits import connect_bounded
from receiver.store.sql import quoted
from schema.tables import ALL_TABLES, CALL_TABLES, OBSERVATIONS

if TYPE_CHECKING:
    from datasette import Response
    from datasette.app import Datasette

# Datasette's own cookies: the form token and messages shown once.
COOKIES = ("ds_csrftoken", "ds_messages")
# Connections of a thread to databases of limited logins.
_MAX_LIMITED_CONNECTIONS = 8
_NO_LIMITS = Limits()
# Datasette counts the rows of every table on its pages; beyond this file size, that takes too long.
MAX_COUNTED_FILE_BYTES = 500_000_000
_INDEX_TABLES = tuple(INDEXES)
_COUNT_SECONDS = 0.06  # for all tables of a page
# Waiting for a thread, and the time limit of the query.
ANSWERED_SECONDS = 25.0

# The count on the page of a table, as Datasette writes it; SQL of a person ends differently.
_COUNT = re.compile(r"select count\(\*\) from (\w+) ")
_NAMES = "select name from sqlite_master where type in ('table', 'view')"
# The exact name of a table, which Datasette queries for each permission check.
_SPELLING = f"{_NAMES} and name = ? collate nocase"
# The order of a first page by one column. Later pages are ordered by the key too: see `execute`.
_ORDER = re.compile(r"(order by (?:\[[^]]+\]|\w+)(?: desc)?)( limit \d+)$")
_MANY_ROWS_PER_CALL = {t.name for t in (OBSERVATIONS, *CALL_TABLES) if len(t.key) > 1}
_KEYS = {table.name: list(table.key) for table in ALL_TABLES}
# The beginning of SQL that Datasette runs. Its own expressions are slow with many spaces.
_SELECT = re.compile(
    r"(?:--[^\n]*\n|/\*(?s:.*?)\*/|\s)*+(?:explain\s+(?:query\s+plan\s+)?)?(?:select|with)\b"
)


class _Schema(NamedTuple):
    """What Datasette asks about tables, by name; `names` has lower-case names as keys."""

    names: dict[str, str]
    columns: dict[str, list[str]]
    keys: dict[str, list[str]]
    indexes: dict[str, str | None]
    foreign_keys: dict[str, Any]


class GuardedDatabase(Database):
    """The calls database in Datasette: read-only, for everybody or for a role, within limits."""

    def __init__(
        self,
        datasette: "Datasette",
        path: str,
        pool: QueryPool,
        *,
        is_masked: bool,
        limits: Limits = _NO_LIMITS,
    ) -> None:
        super().__init__(datasette, path=path, is_mutable=True)
        self.is_masked, self.limits = is_masked, limits
        self._pool = pool
        self._known_schema: tuple[object, _Schema] | None = None

    def add_limited(self, limits: Limits, name: str) -> None:
        """Add the same database with fewer calls to Datasette, with the same descriptions."""
        limited = GuardedDatabase(
            self.ds, self.path, self._pool, is_masked=self.is_masked, limits=limits
        )
        self.ds.add_database(limited, name=name)
        described = self.ds._metadata_local["databases"]
        described[name] = described[self.name]

    def close(self) -> None:
        """Close every connection and let the threads end."""
        self._pool.close()
        super().close()

    def connect(self, **_: bool) -> Any:
        """Open a guarded read-only connection, even if Datasette asks for a writable one."""
        connection = connect_bounded(Path(self.path), max_value_bytes=MAX_VALUE_BYTES)
        self._all_file_connections.append(connection)
        guard(connection, is_masked=self.is_masked, limits=self.limits)
        return connection

    async def execute_fn(self, fn: Callable[[Connection], Any]) -> Any:
        """Run a function with a connection, in a thread of the login that asks.

        Raises QueryInterrupted if there is no result in time.
        """
        is_own = request_state.is_own_query.get()

        def in_thread() -> Any:
            set_own_sql(is_own)
            return fn(self._connection())

        try:
            future = self._pool.submit(request_state.login_of_request.get(), in_thread)
            return await asyncio.wait_for(asyncio.wrap_future(future), ANSWERED_SECONDS)
        except (TimeoutError, TooManyQueries):
            raise QueryInterrupted(None, "", None) from None

    def _connection(self) -> Connection:
        """This thread's connection to the current file."""
        files = self._files()
        connection: Connection | None
        connection, opened = getattr(connections, self.name, (None, None))
        if connection is not None and opened != files:
            # The file was replaced: this connection would read the old one.
            self._close(connection)
            connection = None
        if connection is None:
            connection = self.connect()
            self.ds._prepare_connection(connection, self.name)
            setattr(connections, self.name, (connection, files))
            self._close_oldest()
        if self.limits and has_statistics(connection):
            raise DatasetteError(
                "This login sees some calls only, which needs a file without statistics. "
                "Run DROP TABLE sqlite_stat1 on it, and do not run ANALYZE.",
                title="Not available",
                status=403,
            )
        return connection

    def _close(self, connection: Connection) -> None:
        # Another thread's close() may have removed it.
        with suppress(ValueError):
            self._all_file_connections.remove(connection)
        connection.close()

    def _close_oldest(self) -> None:
        """Close the oldest connections of this thread to limited databases if there are many."""
        if not self.limits:
            return
        opened: deque[GuardedDatabase] = connections.__dict__.setdefault("limited", deque())
        opened.append(self)
        while len(opened) > _MAX_LIMITED_CONNECTIONS:
            oldest = opened.popleft()
            found = connections.__dict__.pop(oldest.name, None)
            if found is not None:
                oldest._close(found[0])

    def _files(self) -> tuple[Identity, Identity]:
        path = Path(self.path)
        return identity(path), identity(path.with_name(path.name + "-wal"))

    async def execute(
        self, sql: str, params: Any = None, truncate: bool = False, **options: Any
    ) -> Any:
        """Run a query as Datasette does, with limits, and without logging SQL that fails: it may
        contain phone numbers and names.

        Raises OperationalError, which Datasette shows as an error of the query.
        """
        if bypasses_views(sql):
            raise sqlite3.OperationalError(
                "name tables without a schema: calls, not main.calls; "
                "where a text has the word main, write the text as a parameter, :text"
            )
        if sql == _SPELLING:
            name = (await self._schema()).names.get(params[0].lower())
            return Results([(name,)] if name and params[0].isascii() else [], False, None)
        counted = _COUNT.fullmatch(sql)
        if counted and counted[1] in _MANY_ROWS_PER_CALL and self.size > MAX_COUNTED_FILE_BYTES:
            # SQLite cannot be interrupted while it counts, and reads the whole table for it.
            raise QueryInterrupted(None, sql, None)
        if table := request_state.table_of_page.get():
            # Otherwise rows with equal values would be lost or repeated between the pages.
            key = ", ".join(await self.primary_keys(table))
            sql = _ORDER.sub(rf"\1, {key}\2", sql) if key else sql
        limit_ms = self.ds.sql_time_limit_ms
        limit_ms = min(options.get("custom_time_limit") or limit_ms, limit_ms)
        max_rows = None
        page_size = options.get("page_size") or self.ds.page_size
        # A CSV file has all rows or is an error, because it cannot say that it was truncated.
        if truncate and self.ds.max_returned_rows and not request_state.is_csv_request.get():
            # One row beyond the page shows whether there are more.
            max_rows = self.ds.max_returned_rows + (self.ds.max_returned_rows == page_size)
        try:
            return await self.execute_fn(
                lambda connection: _run_query(
                    connection, sql, params, limit_ms, max_rows, page_size
                )
            )
        except sqlite3.OperationalError as error:
            if request_state.is_csv_request.get():
                # Datasette would respond 200 with an empty body.
                raise DatasetteError(str(error), title="Invalid SQL", status=400) from None
            raise

    async def primary_keys(self, table: str) -> list[str]:
        """The table's key, even if a temporary view hides it."""
        return list((await self._schema()).keys.get(table, []))

    async def table_columns(self, table: str) -> list[str]:
        """The columns that this reader sees."""
        return list((await self._schema()).columns.get(table, []))

    async def foreign_keys_for_table(self, table: str) -> list[dict[str, str]]:
        """The table's foreign keys, even if a temporary view hides them."""
        found = (await self._schema()).foreign_keys.get(table)
        return list(found["outgoing"]) if found else []

    async def get_all_foreign_keys(self) -> dict[str, Any]:
        """Incoming and outgoing foreign keys of every table."""
        return (await self._schema()).foreign_keys

    async def _schema(self) -> _Schema:
        """The schema, read once per request, because Datasette may ask for it a hundred times."""
        asked = request_state.schema_of_request.get({})
        if (found := asked.get(self.name)) is None:
            found = asked[self.name] = await self.execute_fn(self._read_schema)
        schema: _Schema = found
        return schema

    def _read_schema(self, connection: Connection) -> _Schema:
        """The schema; it is read again only after it has changed."""
        version = (connection.execute("PRAGMA schema_version").fetchone()[0], self._files())
        if self._known_schema is None or self._known_schema[0] != version:
            # Temporary views hide keys and foreign keys.
            with closing(connect_readonly(Path(self.path))) as unguarded:
                foreign_keys = get_all_foreign_keys(unguarded)
            names = [n for (n,) in connection.execute(_NAMES)]
            found = _Schema(
                {name.lower(): name for name in names},
                {name: table_columns(connection, name) for name in names},
                {name: _KEYS.get(name) or detect_primary_keys(connection, name) for name in names},
                {name: detect_fts(connection, name) for name in names},
                foreign_keys,
            )
            self._known_schema = version, found
        return self._known_schema[1]

    async def fts_table(self, table: str) -> str | None:
        """The full-text index of a table. Masked and limited readers have none: the index contains
        every spoken word. Limited readers can search on the page of calls."""
        if self.is_masked or self.limits:
            return None
        return (await self._schema()).indexes.get(table)

    async def table_counts(self, limit: int = 10) -> dict[str, int | None]:
        """Rows per table, as far as they can be counted within the time of a page; None for every
        table of a large file, because SQLite cannot be interrupted while it counts."""
        names = await self.table_names()
        if self.size > MAX_COUNTED_FILE_BYTES:
            return dict.fromkeys(names)

        def count(connection: Connection) -> dict[str, int | None]:
            """In one function: a separate query per table would need a thread each time."""
            until = time.perf_counter() + _COUNT_SECONDS
            found: dict[str, int | None] = dict.fromkeys(names)
            for name in names:
                if name.startswith(_INDEX_TABLES):
                    # Counting one reads all of it and cannot be interrupted.
                    continue
                left_ms = (until - time.perf_counter()) * 1000
                if left_ms <= 0:
                    break
                with (
                    suppress(sqlite3.DatabaseError),
                    sqlite_timelimit(connection, min(limit, left_ms)),
                ):
                    sql = f"SELECT count(*) FROM {quoted(name)}"
                    [found[name]] = connection.execute(sql).fetchone()
            return found

        counted: dict[str, int | None] = await self.execute_fn(count)
        return counted


def _run_query(
    connection: Connection, sql: str, params: Any, limit_ms: int, max_rows: int | None, page: int
) -> Results:
    """The rows of a query, at most `max_rows`, or fewer with many columns, but `page` rows.

    Raises QueryInterrupted after the time limit, OperationalError for every other failure.
    """
    set_deadline(time.perf_counter() + limit_ms / 1000)
    try:
        with sqlite_timelimit(connection, limit_ms):
            cursor = connection.cursor()
            cursor.execute(sql, params if params is not None else {})
            if max_rows is not None:
                max_rows = min(max_rows, max(page + 1, MAX_VALUES // len(cursor.description)))
            return Results(*read_rows(cursor, max_rows), cursor.description)
    except MemoryError:
        raise sqlite3.OperationalError(
            "the query needs more memory than there is for all queries: narrow it down"
        ) from None
    except (sqlite3.DatabaseError, sqlite3.Warning) as error:
        if error.args == ("interrupted",) or is_past_deadline():
            raise QueryInterrupted(error, sql, params) from error
        if not isinstance(error, sqlite3.OperationalError):
            # Datasette shows an OperationalError as an error of the query, others as a 500.
            raise sqlite3.OperationalError(str(error)) from error
        raise
    finally:
        set_deadline(None)


@cache
def static_folders() -> dict[str, Path]:
    """The folders of static files, by the beginning of their URLs."""
    import datasette.app

    found = {"/-/static/": Path(datasette.app.__file__).parent / "static"}
    for plugin in datasette.app.get_plugins():
        if plugin["static_path"]:
            for name in {plugin["name"], plugin["name"].replace("-", "_")}:
                found[f"/-/static-plugins/{name}/"] = Path(plugin["static_path"])
    return found


def patch_datasette(zone: ZoneInfo, *, static_url: Callable[[str], str]) -> None:
    """Replace functions for which Datasette has no hook: error output, the check of SQL, CSV cells,
    values of filters, URLs of static files."""
    # Imported here: these modules load the plugins, and callhouse's may be half imported now.
    import datasette.handle_exception
    import datasette.url_builder
    import datasette.utils
    import datasette.views.base
    import datasette.views.table

    # Datasette prints a failed page's variables: call records. callhouse logs type and line.
    datasette.handle_exception.rich = None
    datasette.handle_exception.traceback = SimpleNamespace(print_exc=lambda: None)
    datasette.utils.allowed_sql_res[:] = [_SELECT]
    datasette.views.base.csv = SimpleNamespace(writer=CsvWriter)
    datasette.views.table.Filters = type("Filters", (_DisplayFilters,), {"zone": zone})
    urls = datasette.url_builder.Urls
    if not hasattr(urls, "unhashed_path"):
        urls.unhashed_path = urls.path
        urls.path = lambda self, path, format=None: datasette.url_builder.PrefixedUrlString(
            static_url(str(self.unhashed_path(path, format)))
        )


def skip_unused_work(datasette: "Datasette") -> None:
    """Remove work that Datasette does for each request or table and callhouse does not need."""

    async def skip_catalog() -> None:
        """Before each request, list all tables in `_internal`, which nobody may read."""

    def skip_metadata_permissions(_database: str, _table: str) -> list[Any]:
        """Search a copy of all metadata for permissions; datasette_metadata.json has none."""
        return []

    datasette.refresh_schemas = skip_catalog
    datasette._table_permission_allows = skip_metadata_permissions


class _DisplayFilters(Filters):
    """Filters of a table's page that accept values in the format of its cells."""

    zone: ZoneInfo

    def build_where_clauses(self, table: str) -> tuple[list[str], dict[str, Any]]:
        """The conditions and their parameters."""
        request_state.table_of_page.set(table)
        clauses: list[str] = []
        params: dict[str, Any] = {}
        for column, shown_lookup, shown in self.selections():
            for lookup, value in parse_filter(column, shown_lookup, shown, self.zone):
                if (found := self._filters_by_key.get(lookup)) is None:
                    continue
                clause, given = found.where_clause(table, column, value, len(params))
                clauses.append(clause)
                for one in given if isinstance(given, list) else [given]:
                    if one is not None:
                        params[f"p{len(params)}"] = filter_parameter(column, one)
        return clauses, params


# The style element that Datasette's SQL editor (cm-resize) adds: empty, then with its rules.
EDITOR_STYLE_HASHES = (
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' "
    "'sha256-38xqj8N9cygggde3AvM+xVgS15DUXTOhM9fjk0hLOS0='"
)
_INLINE = re.compile(r"<(script|style)(?=[\s>{])")
# URLs of static files in Datasette's templates.
_STATIC = re.compile(r"\{\{ base_url \}\}-/static/([\w.-]+)")
_STYLE_ATTRIBUTE = re.compile(r'\sstyle="(?:\{\{.*?\}\}|[^"{])*"')


class TemplateNonces(Extension):
    """Lets Datasette's templates work under a strict Content-Security-Policy.

    Inline scripts and styles get the nonce. It is added to the source of templates and never to
    rendered pages, so that markup in a transcript gets none. Style attributes are removed:
    callhouse.css replaces them.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        environment.globals["csp_nonce"] = request_state.csp_nonce.get

    def preprocess(self, source: str, *_: object, **__: object) -> str:
        """Called by Jinja with each template before it is compiled."""
        source = _STATIC.sub(r"{{ urls.static('\1') }}", source)
        source = _INLINE.sub(r'<\1 nonce="{{ csp_nonce() }}"', source)
        return _STYLE_ATTRIBUTE.sub("", source)


class _WithDashboards:
    """A Datasette with dashboards configured for one reader, and callhouse's templates for them.

    Where two plugins have a template of one name, Datasette may choose either.
    """

    def __init__(self, datasette: "Datasette", dashboards: dict[str, Any]) -> None:
        self._datasette, self._dashboards = datasette, dashboards

    def plugin_config(self, _: str) -> dict[str, Any]:
        """The dashboards."""
        return self._dashboards

    async def render_template(self, template: str, *context: Any, **request: Any) -> str:
        """Render callhouse's template of the same name."""
        page: str = await self._datasette.render_template(
            f"dashboards/{template}", *context, **request
        )
        return page

    def __getattr__(self, name: str) -> Any:
        return getattr(self._datasette, name)


async def dashboard_list(
    datasette: "Datasette", request: "Request", dashboards: dict[str, Any]
) -> "Response":
    """The page of datasette-dashboards that lists dashboards."""
    return await datasette_dashboards.dashboard_list(
        request, _WithDashboards(datasette, dashboards)
    )


async def dashboard_view(
    datasette: "Datasette", request: "Request", dashboards: dict[str, Any], filters: dict[str, str]
) -> "Response":
    """The page of datasette-dashboards for the dashboard that the request names."""
    # With every filter in the address, the view does not redirect to add its defaults.
    query = urlencode(filters).encode()
    request = Request(request.scope | {"query_string": query}, request.receive)
    return await datasette_dashboards.dashboard_view(
        request, _WithDashboards(datasette, dashboards)
    )


def filtered_query(sql: str, filters: dict[str, str]) -> str:
    """The SQL of a chart without the [[ ]] whose filter has no value."""
    return str(datasette_dashboards.replace_opts_in_query(sql, filters))
