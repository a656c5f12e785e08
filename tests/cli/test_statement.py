"""`callhouse statement`: what it prints in each format, and what it refuses."""

import csv
import io
import json

import pytest
from click.testing import CliRunner

from receiver.cli import main
from tests.support.billing import SINCE, ZONE, call, chat
from tests.support.engines import url_of
from tests.support.storing import stored


@pytest.fixture
def run(monkeypatch, database, store):
    """`callhouse statement` of October 2026, in which two clients have calls."""
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", url_of(database))
    monkeypatch.setenv("CALLHOUSE_TIMEZONE", ZONE)
    acme = {"metadata": {"client": "=Acme"}}
    stored(store, call("a", SINCE, {"platform_tts": 100.5, "gpt_4_1": 20.25}, **acme))
    stored(store, call("b", SINCE, {"platform_tts": 50.25}, metadata={"client": "Beta & <Co>"}))
    stored(store, chat("h", SINCE, {"gpt_4_1": 4.0}, **acme))
    month = ["statement", "--month", "2026-10"]
    return lambda *args: CliRunner().invoke(main, [*month, *map(str, args)])


def test_table_has_a_line_for_each_client(run):
    lines = run("--by", "metadata.client", "--markup", "20%").output.splitlines()
    assert lines[0] == "2026-10, US dollars, days in Europe/Berlin"
    cells = [line.split() for line in lines[3:6]]
    assert cells == [
        ["=Acme", "1", "1", "1.5", "1.01", "0.24", "1.25", "1.50"],
        ["Beta", "&", "<Co>", "1", "0", "1.5", "0.50", "0.00", "0.50", "0.60"],
        ["Total", "2", "1", "3.0", "1.51", "0.24", "1.75", "2.10"],
    ]
    assert lines[6] == "Not closed: the month is not over." or lines[6].startswith("Closed on ")


def test_csv_defuses_formulas(run):
    found = list(
        csv.DictReader(io.StringIO(run("--by", "metadata.client", "--format", "csv").output))
    )
    assert [(row["name"], row["voice"], row["cost"]) for row in found] == [
        ("'=Acme", "1.01", "1.25"),
        ("Beta & <Co>", "0.50", "0.50"),
        ("Total", "1.51", "1.75"),
    ]


def test_html_escapes_names(run):
    page = run("--by", "metadata.client", "--format", "html").output
    assert "Beta &amp; &lt;Co&gt;" in page
    assert "<Co>" not in page
    assert "1.75" in page


def test_json_has_cents(run):
    found = json.loads(run("--json").output)
    assert found["statement"]["total"]["total"] == 175
    assert found["products"] == {"platform_tts": 150.75, "gpt_4_1": 24.25}


@pytest.fixture
def invoice(tmp_path):
    def write(text):
        path = tmp_path / "invoice.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_agreeing_invoice_ends_with_0(run, invoice):
    done = run("--invoice", invoice("product,amount\nPlatform TTS,1.51\ngpt-4.1,0.24\n"))
    assert (done.exit_code, done.output.splitlines()[-1]) == (0, "Every product agrees.")


def test_differing_invoice_ends_with_1(run, invoice):
    done = run("--invoice", invoice("product,amount\nplatform_tts,1.60\nsms_message,0.10\n"))
    assert done.exit_code == 1
    assert [line.split() for line in done.output.splitlines()[1:4]] == [
        ["Platform", "TTS", "1.51", "1.60", "-0.09", "differs"],
        ["GPT", "4.1", "0.24", "0.24", "not", "on", "the", "invoice"],
        ["SMS", "message", "0.10", "-0.10", "not", "in", "calls"],
    ]
    assert "- 1 chat, which are counted here" in done.output


@pytest.mark.parametrize("text", ["", "a,b\n", "product,amount\nx,secret\n", b"\xff\xfe"])
def test_unreadable_invoice_is_refused(run, invoice, text):
    done = run("--invoice", invoice(text))
    assert done.exit_code == 2
    assert "secret" not in done.output


@pytest.mark.parametrize(
    "arguments",
    [["--month", "October"], ["--by", "metadata."], ["--by", "number"], ["--markup", "much"],
     ["--markup", "-5%"], ["--invoice", "/nowhere"], ["--json", "--format", "csv"],
     ["--invoice", __file__, "--by", "agent"]],
)  # fmt: skip
def test_unusable_arguments_are_refused(run, arguments):
    done = run(*arguments)
    assert done.exit_code == 2
    assert "Traceback" not in done.output
