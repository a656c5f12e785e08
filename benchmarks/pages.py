"""Every page of the browser on a large file, and the export of a month of it."""

import html
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import KEY
from benchmarks.bodies import EVERYWHERE, IN_SOME
from receiver import config
from receiver.browse.charts import DASHBOARDS
from receiver.browse.server import serving
from receiver.store.reading import connect_readonly
from receiver.transfer import Export, export
from schema.questions import questions
from schema.sql.views import views
from schema.tables import TABLES

_SLOW_MS = 1000


async def measure(path: Path, console: Console) -> None:
    """Time every page twice: as a first visitor and as a second."""
    os.environ["CALLHOUSE_DATABASE_URL"] = f"sqlite:///{path}"
    os.environ["RETELL_API_KEY"] = KEY
    served = serving(config.load(), password_hash="unused")
    session = served.callhouse_authentication.sessions.start(
        served.callhouse_authentication.access.admin_actor
    )
    cookies = {"ds_actor": session}
    table = Table(title="Pages of the browser")
    for column in ("page", "status", "first ms", "second ms", "peak MB"):
        table.add_column(column, justify="left" if column == "page" else "right")
    for page in (queue := [*pages(path)]):
        peak_mb = peak()
        times = []
        for _ in range(2):
            began = time.perf_counter()
            answer = await served.client.get(page, cookies=cookies)
            times.append((time.perf_counter() - began) * 1000)
        queue += map(html.unescape, re.findall(r'data-source="([^"]+)"', answer.text))
        style = "red" if max(times) > _SLOW_MS or answer.status_code != 200 else None
        shown = (str(answer.status_code), *(f"{t:,.0f}" for t in times), f"{peak_mb():,.0f}")
        # Of a chart's answer, what it asks: its SQL is long.
        table.add_row(page.split("?_shape=objects")[0] + chart(page), *shown, style=style)
    console.print(table)


def chart(page: str) -> str:
    """The view that a chart's query reads, of an address that asks it."""
    found = re.search(r"_shape=objects.*?(?:daily|hourly)_\w+", page)
    return f" {found[0].split('+')[-1]}" if found else ""


def export_month(path: Path, console: Console) -> None:
    """Time the export of all that the file holds, which is a month at a million calls."""
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
    """Start over counting the most memory of this process; what it was since then, in MB."""
    Path("/proc/self/clear_refs").write_text("5")

    def megabytes() -> float:
        status = Path("/proc/self/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) / 1024

    return megabytes


def pages(path: Path) -> Iterator[str]:
    with closing(connect_readonly(path)) as connection:
        answered = (
            "SELECT call_id FROM calls WHERE duration_ms > 0 ORDER BY start_timestamp LIMIT 1"
        )
        [(call_id,)] = connection.execute(answered)
    yield "/"
    yield f"/-/call/{call_id}"
    yield "/-/calls"
    yield "/-/calls?sort=-cost"
    yield "/-/calls?success=no&sentiment=negative"
    yield "/-/calls?number=0123"
    yield f"/-/calls?q={EVERYWHERE}"
    yield f"/-/calls?q={EVERYWHERE}&outcome=user_hangup"
    yield f"/-/calls?q={IN_SOME}+-{EVERYWHERE}"
    yield f"/-/calls?q={IN_SOME}&sentiment=negative"
    yield "/retell"
    for name in [table.name for table in TABLES] + list(views()):
        if name not in {"timeline", "words"}:
            yield f"/retell/{name}"
    yield f"/retell/timeline?call_id={call_id}"
    yield f"/retell/words?call_id={call_id}"
    yield f"/retell/calls/{call_id}"
    yield f"/retell/transcripts?_search={IN_SOME}"
    yield "/retell/call_log?outcome=user_hangup"
    yield "/retell/attributes?source=metadata&name=campaign&value=spring"
    for name in DASHBOARDS:
        yield f"/-/dashboards/{name}"
    for name in questions():
        yield f"/retell/{name}"
