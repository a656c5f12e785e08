"""Every page of the browser, and the export of a month, on a file with many calls."""

import asyncio
import html
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from rich.console import Console
from rich.table import Table

from benchmarks import KEY
from benchmarks.bodies import EVERYWHERE, IN_SOME
from receiver import config
from receiver.browse.charts import DASHBOARDS
from receiver.browse.pages.call_list import SORTS
from receiver.browse.pages.call_sources import CHATS, CHOICES
from receiver.browse.pages.periods import PERIODS
from receiver.browse.server import serving, warm_up
from receiver.store.connection import connect_readonly
from receiver.transfer import Export, export
from schema.questions import questions
from schema.sql.views import views
from schema.tables import TABLES

# Routes without a page to measure.
NOT_MEASURED = frozenset(
    {
        "/-/views", "/-/share",  # a form posts to them
        "/-/search", "/-/versions",  # redirects
        "/-/allow-debug", "/-/password-tool", "/-/messages",  # not served
    }
)  # fmt: skip
# What these contain for all calls is too long for a page.
_OF_ONE_CALL = frozenset({"timeline", "words"})
_OF_CHAT = ("chat_id", "agent_id", "version", "account", "agent_number", "number", "tool")
_OPEN = frozenset({"/-/login", "/-/logout"})


async def measure(path: Path, console: Console, *, limit_ms: int = 500, only: str = "") -> None:
    """Time every page twice: as a first visitor and as a second, after the server has started.

    Processor time is that of all threads; on a busy machine, other times say little.
    """
    os.environ["CALLHOUSE_DATABASE_URL"] = f"sqlite:///{path}"
    os.environ["RETELL_API_KEY"] = KEY
    served = serving(config.load(), password_hash="unused")
    await served.invoke_startup()
    await asyncio.to_thread(warm_up, served)
    session = served.callhouse_authentication.sessions.start(
        served.callhouse_authentication.access.admin_actor
    )
    table = Table(title=f"Pages of the browser; over {limit_ms} ms is red")
    for column in ("page", "status", "first cpu", "ms", "second cpu", "ms", "peak MB"):
        table.add_column(column, justify="left" if column == "page" else "right", no_wrap=True)
    for page in (queue := [page for page in pages(path) if re.search(only, page)]):
        peak_mb, times = peak(), []
        cookies = {} if page in _OPEN else {"ds_actor": session}
        for _ in range(2):
            began, worked = time.perf_counter(), time.process_time()
            answer = await served.client.get(page, cookies=cookies)
            times += [time.process_time() - worked, time.perf_counter() - began]
        queue += map(html.unescape, re.findall(r'data-source="([^"]+)"', answer.text))
        is_slow = 1000 * max(times[0], times[2]) > limit_ms
        shown = (str(answer.status_code), *(f"{1000 * t:,.0f}" for t in times))
        # The name of a chart instead of its long SQL.
        table.add_row(
            page.split("?_shape=objects")[0] + chart(page), *shown, f"{peak_mb():,.0f}",
            style="red" if is_slow or answer.status_code >= 400 else None,
        )  # fmt: skip
    console.print(table)


def chart(page: str) -> str:
    """The view that a chart's query reads."""
    found = re.search(r"_shape=objects.*?(?:daily|hourly)_\w+", page)
    return f" {found[0].split('+')[-1]}" if found else ""


def export_month(path: Path, console: Console) -> None:
    """Time the export of the whole file, which is a month at a million calls."""
    table = Table(title="Export of a month")
    for column in ("what", "rows", "seconds", "MB", "peak MB"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for name in ("call_log", "utterances"):
        to, peak_mb = path.with_name(f"{name}.csv"), peak()
        began = time.perf_counter()
        rows = export(config.load(), Export(name, to), progress=lambda *_: None)
        seconds = time.perf_counter() - began
        megabytes = to.stat().st_size / 1e6
        table.add_row(
            name, f"{rows:,}", f"{seconds:,.1f}", f"{megabytes:,.0f}", f"{peak_mb():,.0f}"
        )
        to.unlink()
    console.print(table)


def peak() -> Callable[[], float]:
    """Reset the peak memory of this process; return the peak until then, in MB."""
    Path("/proc/self/clear_refs").write_text("5")

    def megabytes() -> float:
        status = Path("/proc/self/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) / 1024

    return megabytes


def pages(path: Path) -> Iterator[str]:
    """Every page, with values of the file: of each route, and of each filter, order, dashboard,
    question, table and view."""
    call, chat = _examples(path)
    call_id, chat_id = call["call_id"], chat["chat_id"]
    for period in PERIODS:
        yield f"/?period={period}"
    yield f"/-/call/{call_id}"
    yield f"/-/call/{call_id}.json"
    yield f"/-/call/{call_id}?list=success%3Dno"
    yield f"/-/chat/{chat_id}"
    yield f"/-/media/{call_id}/recording"
    yield "/-/shared/unknown"
    yield "/-/shared/unknown/media/recording"
    yield f"/-/chat/{chat_id}?list=kind%3Dchat%26success%3Dno"
    yield from _lists_of_calls(call)
    yield from _lists_of_chats(chat)
    yield from ("/-/login", "/-/logout", "/-/questions", "/-/status", "/-/alerts", "/-/retention")
    yield "/-/grades"
    yield from ("/-/review", f"/-/review?day={call['day']}")
    for query in ("", "by=account", "by=agent", "name=campaign", "name=campaign&csv=1"):
        yield f"/-/statement?{query}"
    yield "/-/dashboards"
    for name in DASHBOARDS:
        yield f"/-/dashboards/{name}"
    yield from _tables(call_id)
    for name in questions():
        yield f"/retell/{name}"


def _examples(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values of an answered call and of a chat with a number."""

    def first(sql: str) -> dict[str, Any] | None:
        found = connection.execute(sql)
        names = [column[0] for column in found.description]
        row = found.fetchone()
        return row and dict(zip(names, row, strict=True))

    with closing(connect_readonly(path)) as connection:
        call = first(
            "SELECT call_id, agent_id, agent_version, agent_name, account, "
            "date(start_timestamp / 1000, 'unixepoch') AS day, "
            "coalesce(CASE direction WHEN 'inbound' THEN from_number ELSE to_number END, '') "
            "AS number, coalesce((SELECT name FROM tool_calls LIMIT 1), '') AS tool "
            "FROM calls WHERE duration_ms > 0 ORDER BY start_timestamp DESC LIMIT 1"
        )
        chat = first(
            "SELECT chat_id, agent_id, coalesce(version, 0) AS version, account, agent_number, "
            "user_number AS number, "
            "(SELECT name FROM chat_messages WHERE name <> '' LIMIT 1) AS tool "
            "FROM chats ORDER BY user_number IS NULL, chat_id DESC LIMIT 1"
        )
    chat = chat or {**dict.fromkeys(_OF_CHAT), "version": 0}
    return call or {}, {n: "unknown" if v is None else v for n, v in chat.items()}


def _lists_of_calls(call: dict[str, Any]) -> Iterator[str]:
    """The page of calls: without a filter, with each filter, in each order, with words."""

    def page(**query: str) -> str:
        return f"/-/calls?{urlencode(query)}"

    yield "/-/calls"
    for name, choices in CHOICES.items():
        for value in choices:
            yield page(**{name: value})
    for filters in (
        {"since": call["day"], "until": call["day"]},
        {"account": call["account"]},
        {"agent": call["agent_id"]},
        {"agent": call["agent_name"] or ""},
        {"agent": call["agent_id"], "version": call["agent_version"]},
        {"outcome": "user_hangup"},
        {"outcome": "category:not_connected"},
        {"outcome": "category:error"},
        {"number": call["number"]},
        {"number": call["number"][-4:]},
        {"tool": call["tool"] or "unknown"},
        {"hour": "9"},
        {"node": "Greeting"},
        {"node": "Greeting", "next_node": "Look it up"},
        {"product": "gpt_4o_mini"},
        {"product": "family:LLM"},
        {"min_duration": "0:20"},
        {"max_duration": "0:05"},
        {"min_cost": "0.01"},
        {"max_cost": "0.001"},
        {"tag": "unknown"},
        {"grade": "unknown:yes"},
        {"success": "no", "sentiment": "negative"},
        {"success": "no", "agent": call["agent_id"], "period": "7-days"},
        {"success": "no", "connected": "yes", "period": "7-days"},
    ):
        yield page(**{name: str(value) for name, value in filters.items()})
    for name in SORTS:
        for sort in (name, f"-{name}"):
            yield page(sort=sort)
    yield page(sort="-duration", success="no")
    for words in (
        EVERYWHERE,
        IN_SOME,
        "unheardofword",
        f"{EVERYWHERE} {IN_SOME}",
        f"{IN_SOME} -{EVERYWHERE}",
        f'"{EVERYWHERE} {EVERYWHERE}"',
        f"{EVERYWHERE[:2]}*",
        "the",
        "予約",
        call["number"][-4:],
    ):
        yield page(q=words)
    yield page(q=EVERYWHERE, outcome="user_hangup")
    yield page(q=IN_SOME, sentiment="negative")
    yield page(q=EVERYWHERE, sort="-duration")
    yield page(q=EVERYWHERE, kind="chat")
    yield f"/-/calls.csv?since={call['day']}&until={call['day']}&agent={call['agent_id']}"


def _lists_of_chats(chat: dict[str, Any]) -> Iterator[str]:
    """The same page of chats."""

    def page(**query: Any) -> str:
        return f"/-/calls?{urlencode({'kind': 'chat', **query})}"

    yield page()
    for name, choices in CHATS.choices.items():
        if name in CHATS.fields and name != "kind":
            yield from (page(**{name: value}) for value in choices)
    for filters in (
        {"account": chat["account"]},
        {"agent": chat["agent_id"]},
        {"agent": "Front desk"},
        {"agent": chat["agent_id"], "version": chat["version"]},
        {"agent": chat["agent_id"], "success": "no", "period": "7-days"},
        {"outcome": "error"},
        {"outcome": "category:error"},
        {"number": chat["number"]},
        {"number": chat["number"][-4:]},
        {"agent_number": chat["agent_number"]},
        {"tool": chat["tool"]},
        {"tool": "unknown"},
        {"hour": "9"},
        {"product": "gpt_4o_mini"},
        {"min_duration": "5:00"},
        {"min_cost": "0.02"},
        {"tag": "unknown"},
        {"success": "no", "sentiment": "negative"},
    ):
        yield page(**filters)
    for name in SORTS:
        yield from (page(sort=sort) for sort in (name, f"-{name}"))
    for words in (EVERYWHERE, IN_SOME, "unheardofword", f"{EVERYWHERE[:2]}*", chat["number"][-4:]):
        yield page(q=words)


def _tables(call_id: str) -> Iterator[str]:
    """The page of the database, and of each table and view."""
    yield "/retell"
    for name in [table.name for table in TABLES] + list(views()):
        query = f"?call_id={call_id}" if name in _OF_ONE_CALL else ""
        yield f"/retell/{name}{query}"
    yield f"/retell/calls/{call_id}"
    yield f"/retell/transcripts?_search={IN_SOME}"
    yield "/retell/call_log?outcome=user_hangup"
    yield "/retell/attributes?source=metadata&name=campaign&value=spring"
