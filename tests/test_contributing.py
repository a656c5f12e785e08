"""The worked examples of CONTRIBUTING.md, applied to a copy of the code, do what they say."""

import os
import re
import shutil
import subprocess
import sys
import textwrap

import pytest

from tests.support import ROOT

pytestmark = pytest.mark.sqlite
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = [
    textwrap.dedent(block)
    for block in re.findall(r"^ *```(?:python|sql)\n(.*?)^ *```", CONTRIBUTING, re.M | re.S)
]
USE = """
import json
from pathlib import Path
from click.testing import CliRunner
from receiver.browse.charts import DASHBOARDS, sql
from receiver.cli import main
from receiver.store import migrate, open_store, receive
from receiver.store.connection import connect
from schema import personal, tables

path = Path("retell.db")
migrate(path, timezone="UTC")
store = open_store(path)
call = {"call_id": "c", "call_status": "ended", "language": "en-US"}
for event in ("call_ended", "call_paused"):
    body = json.dumps({"event": event, "call": call}).encode()
    store.add(receive(body, source="webhook", observed_at=1, received_at=1))
store.close()
connection = connect(path, busy_timeout_ms=1000)
print(*connection.execute("SELECT language, extra FROM calls").fetchone())
print(connection.execute("SELECT count(*) FROM drift").fetchone()[0])
print("language" in personal.shown(tables.CALLS))
chart = DASHBOARDS["quality"].charts["voicemail"]
print(chart.title, sql(chart.query).startswith("SELECT"))
print(CliRunner().invoke(main, ["state", "c"]).output)
"""


def block(beginning):
    [found] = (each for each in BLOCKS if each.startswith(beginning))
    return found


@pytest.fixture
def copy(tmp_path):
    for package in ("receiver", "schema"):
        shutil.copytree(ROOT / package, tmp_path / package)
    return tmp_path


def insert(path, before, lines, indent):
    """Add lines before the first line that begins so."""
    text = path.read_text(encoding="utf-8")
    assert before in text, before
    added = textwrap.indent(lines, " " * indent)
    path.write_text(text.replace(before, added + before, 1), encoding="utf-8")


def test_worked_examples_take_the_named_places_only(copy):
    schema, receiver = copy / "schema", copy / "receiver"
    insert(schema / "models.py", "    batch_call_id: Text = None\n", block("language: Text"), 4)
    insert(
        schema / "tables.py",
        '    },\n    open=(\n        "call_id call_type',
        block('"language":'),
        8,
    )
    insert(schema / "tables.py", "call_id call_type", "language ", 0)
    insert(schema / "events.py", '    "chat_started"', block('"call_paused"'), 4)
    migration = schema / "sql/migrations/9998_language_compatible.sql"
    migration.write_text(block("ALTER TABLE"), encoding="utf-8")
    charts = receiver / "browse/charts"
    (charts / "voicemails_by_day.sql").write_text(block("SELECT\n    period"), encoding="utf-8")
    insert(charts / "__init__.py", '            "sentiment": Chart(', block('"voicemail"'), 12)
    (receiver / "cli/state.py").write_text(block('"""The state'), encoding="utf-8")
    environ = os.environ | {
        "PYTHONPATH": str(copy),
        "CALLHOUSE_DATABASE_URL": "sqlite:///retell.db",
    }
    done = subprocess.run(
        [sys.executable, "-c", USE], cwd=copy, env=environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["en-US", "None", "0", "True", "Voicemail", "True", "ended"]


def test_examples_import_every_name_they_use():
    examples = [each for each in BLOCKS if "\ndef " in each]
    assert len(examples) == 2
    for example in examples:
        check = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F", "-"]
        done = subprocess.run(check, input=example, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
