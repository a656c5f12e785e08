"""Questions ready to ask: each answers on the demo's day, by an index, on a page of Datasette."""

import html
import json
import re
import subprocess
import sys
from collections import Counter
from contextlib import closing

import pytest

from receiver.config import load
from receiver.store import Store, migrate, receive
from receiver.store.connection import sqlite3
from schema.questions import parse, questions
from tests.support import ROOT
from tests.support.browsing import visiting
from tests.support.days import day, deliver
from tests.support.webhooks import KEY

QUESTIONS = list(questions().values())
# A row for every call or for many things in it: at a million calls nothing may read one whole.
LARGE = (
    "calls",
    "analyses",
    "transcripts",
    "utterances",
    "utterance_words",
    "tool_calls",
    "attributes",
    "latencies",
    "call_metrics",
    "observations",
)

each = pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The demo's day."""
    path = tmp_path_factory.mktemp("day") / "retell.db"
    migrate(path, timezone="Europe/Berlin")
    with closing(Store(path)) as store:
        deliver(store, day(1, day_start_ms=1_778_544_000_000, calls=120))
    return path


@pytest.fixture(scope="module")
def ask(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row

        def ask(question, explain=False, **values):
            bound = {p.name: "" for p in question.parameters} | values
            sql = f"{'EXPLAIN QUERY PLAN ' if explain else ''}{question.sql}"
            return [dict(row) for row in connection.execute(sql, bound)]

        yield ask


@pytest.fixture
def get(path):
    """Pages of Datasette, as admin."""
    settings = load({"RETELL_API_KEY": KEY, "CALLHOUSE_DATABASE_URL": f"sqlite:///{path}"})
    with visiting(settings) as get:
        yield get


def test_there_are_at_least_twelve_questions():
    assert len(QUESTIONS) >= 12


@each
def test_questions_have_rows_without_parameters(ask, question):
    assert ask(question)


def test_every_link_of_the_page_has_answers(get):
    links = re.findall(r'<dt><a href="([^"]+)"', get("/-/questions").text)
    assert len(links) == len(QUESTIONS)
    for link in links:
        assert "<tbody>" in get(html.unescape(link)).text, link


@each
def test_questions_scan_no_large_table(ask, question):
    for step in ask(question, explain=True):
        # An automatic index reads everything once to save reading it again.
        assert not re.match(rf"SCAN (\w+ )?({'|'.join(LARGE)})\b", step["detail"]), step
        alias = re.match(r"SCAN (\w+)", step["detail"])
        tables = re.findall(rf"(?:FROM|JOIN) (\w+) {alias[1]}\b", question.sql) if alias else []
        assert not set(tables) & {*LARGE, "call_log"}, step


@each
def test_documented_defaults_match_the_sql(ask, question):
    assert question.parameters
    assert {p.name for p in question.parameters} == set(re.findall(r":([a-z]+)", question.sql))
    told = {p.name: p.default for p in question.parameters if p.name != "field"}
    assert ask(question, **told) == ask(question)
    for parameter in told:
        assert told[parameter] in re.findall(
            rf"coalesce\(nullif\(:{parameter}, ''\), (\w+)\)", question.sql
        )


@each
def test_question_page_has_title_and_rows(get, question):
    page = get(f"/retell/{question.name}").text
    assert question.title in page
    assert re.split("[\"'<>&]", question.explained)[0] in page
    for parameter in question.parameters:
        assert f'name="{parameter.name}"' in page
    assert get(f"/retell/{question.name}.json?_shape=array").json()


def test_database_page_links_to_every_question(get):
    page = get("/retell").text
    for question in QUESTIONS:
        assert f'href="/retell/{question.name}"' in page
        assert question.title in page


def test_a_parameter_changes_the_answer(ask):
    longer = questions()["calls_longer_than"]
    assert len(ask(longer, minutes="1")) > len(ask(longer)) > len(ask(longer, minutes="60")) == 0
    field = questions()["analysis_field_by_week"]
    assert {row["field"] for row in ask(field, field="claim_opened")} == {"claim_opened"}


def test_early_hang_ups_list_soonest_first(ask, path):
    rows = ask(questions()["early_hang_ups"], seconds="25")
    assert sum(row["hung_up_early"] for row in rows) > 0
    with closing(sqlite3.connect(path)) as connection:
        for row in rows:
            if row["call_id"]:
                found = connection.execute(
                    "SELECT disconnection_reason, round(duration_ms / 1000.0, 1) FROM calls "
                    "WHERE call_id = ?",
                    [row["call_id"]],
                ).fetchone()
                assert found == ("user_hangup", row["soonest_seconds"])


def test_tool_results_with_failures_report_one(ask):
    rows = ask(questions()["tool_results_with_failures"])
    assert rows
    for row in rows:
        assert re.search(r'"(success|ok)":false|"error":|"status":"(error|fail)', row["result"])


def test_repeat_callers_are_found_within_the_time(ask):
    rows = ask(questions()["called_again"])
    assert rows
    assert all(row["who"].startswith("+") and 0 <= row["hours_later"] <= 24 for row in rows)
    assert not any(row["call_id"] == row["next_call_id"] for row in rows)


def test_chats_of_agents_equal_their_objects(path, ask):
    with closing(Store(path)) as store:
        for n in range(4):
            analysis = {"chat_successful": n > 1, "user_sentiment": ("Positive", "negative")[n % 2]}
            chat = {"chat_id": f"chat_{n}", "agent_id": "a", "version": 1, "user_number": "+1"}
            chat |= {"start_timestamp": 1_778_544_000_000 + n, "chat_analysis": analysis}
            chat |= {"chat_cost": {"combined_cost": 50 + n}, "agent_name": "Of chats"}
            body = json.dumps({"event": "chat_analyzed", "chat": chat}).encode()
            store.add(receive(body, source="webhook", observed_at=1, received_at=1))
    [row] = [r for r in ask(questions()["chats_by_agent"]) if r["agent"] == "Of chats"]
    assert row == {
        "agent": "Of chats", "version": 1, "chats": 4, "by_sms": 4, "success": 0.5, "negative": 2,
        "cost_dollars": 2.06, "chat_id": "chat_3",
    }  # fmt: skip


def test_times_of_a_field_are_read_from_index(ask):
    steps = [s["detail"] for s in ask(questions()["analysis_field_by_week"], explain=True)]
    assert any("COVERING INDEX calls_figures (call_id=?" in step for step in steps)


def test_chats_of_agents_are_read_from_index(ask):
    steps = [s["detail"] for s in ask(questions()["chats_by_agent"], explain=True)]
    assert "SCAN c USING COVERING INDEX chats_figures" in steps


def test_weeks_begin_on_monday(ask):
    assert {row["week"] for row in ask(questions()["analysis_field_by_week"])} == {"2026-05-11"}


def test_answers_of_a_field_are_counted_once_each(ask, path):
    rows = ask(questions()["analysis_field_by_week"], field="claim_opened")
    with closing(sqlite3.connect(path)) as connection:
        values = connection.execute(
            "SELECT value FROM attributes WHERE source = 'custom_analysis_data' "
            "AND name = 'claim_opened'"
        ).fetchall()
    counts = Counter(value for (value,) in values)
    assert {row["value"]: row["calls"] for row in rows} == counts
    assert [row["share"] for row in rows] == [
        round(count / len(values), 4) for _, count in counts.most_common()
    ]


def test_question_head_may_continue_on_next_line():
    text = "-- title: T\n-- description: One\n--   two.\n-- :n = 5. Many.\n\nSELECT :n;\n"
    question = parse("q", text)
    assert (question.description, question.sql) == ("One two.", "SELECT :n")
    assert question.explained == "One two. n: Many. 5 if empty."


def test_questions_page_matches_the_files():
    command = [sys.executable, "-m", "schema.describe", "questions"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    assert printed == (ROOT / "docs/reference/questions.md").read_bytes(), "run `make describe`"
    for question in QUESTIONS:
        assert f"\n## {question.title}\n" in printed.decode()
