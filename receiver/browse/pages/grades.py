"""/-/grades: what a model answered to the questions of callhouse.toml, by agent and version; how
often it agrees with people; and what it cost.

In: annotations of the kinds score and usage. Out: shares, or means of a scale, with intervals.
Answers to an earlier text of a question, or of another model, are not counted.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from datasette import Response

from receiver import clock
from receiver.browse.formatting import local_day
from receiver.browse.pages import Reader, fetch_rows, require_reader, timezone
from receiver.browse.pages.reviewing import grading_of
from receiver.clock import midnight_ms
from receiver.grading_settings import GradingSettings, Question
from receiver.store.reviewing import answer_id
from schema.sql.macros import plain
from schema.statistics import Estimate, mean, share

if TYPE_CHECKING:
    from datasette import Request
    from datasette.app import Datasette

# Days whose cost is listed.
COST_DAYS = 30
_ANSWERS = plain("""
SELECT 'call' AS kind, c.agent_id, c.agent_version AS version, max(c.agent_name) AS agent, n.value,
    count(*) AS calls
FROM annotations n JOIN calls c ON c.call_id = n.entity_id
WHERE n.kind = 'score' AND n.name = :name AND n.annotation_id = :id AND n.removed_at IS NULL
    AND n.value IS NOT NULL
GROUP BY c.agent_id, c.agent_version, n.value
UNION ALL
SELECT 'chat', c.agent_id, c.version, max(agent_of_chat(c)), n.value, count(*)
FROM annotations n JOIN chats c ON c.chat_id = n.entity_id
WHERE n.kind = 'score' AND n.name = :name AND n.annotation_id = :id AND n.removed_at IS NULL
    AND n.value IS NOT NULL
GROUP BY c.agent_id, c.version, n.value
""")
# The oldest first: a later answer of anybody replaces it.
_BOTH = """
SELECT p.entity_id, p.annotation_id, p.author, p.value AS people, m.value AS model
FROM annotations p
JOIN annotations m ON m.entity_id = p.entity_id AND m.annotation_id = :id
WHERE p.kind = 'score' AND p.name = :name AND p.author NOT GLOB 'model:*'
    AND p.removed_at IS NULL AND p.value IS NOT NULL
    AND m.removed_at IS NULL AND m.value IS NOT NULL
ORDER BY p.changed_at, p.annotation_id
"""
# In quarters of an hour: days of every time zone begin with one.
QUARTER_MS = 900_000
_USAGE = """
SELECT n.name, n.author, n.created_at / 900000 AS quarter, count(*) AS requests,
    sum(json_extract(n.value, '$.input_tokens')) AS input_tokens,
    sum(json_extract(n.value, '$.output_tokens')) AS output_tokens,
    sum(json_extract(n.value, '$.problem') IS NOT NULL) AS problems
FROM annotations n
WHERE n.kind = 'usage' AND n.created_at >= :since AND n.value IS NOT NULL
GROUP BY n.name, n.author, n.created_at / 900000
"""


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers about the calls, or the chats, of an agent's version: the share of yes, or the
    mean; and how many there are of each. `agent_id` is None if no filters of Calls select exactly
    these."""

    kind: str
    agent_id: str | None
    agent: str
    version: int | None
    estimate: Estimate
    counts: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The agreement on calls that people and the model answered: the share of equal answers, and
    how often the model's answer is higher or lower. Yes is higher than no."""

    estimate: Estimate
    higher: int
    lower: int


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a question on a day. `dollars` is None without prices, and for another model."""

    day: date
    question: str
    model: str
    requests: int
    problems: int
    input_tokens: int
    output_tokens: int
    dollars: float | None


@dataclass(frozen=True, slots=True)
class QuestionGrades:
    """The template's context of a question. `score_id` is the id of the answers that it counts."""

    question: Question
    score_id: str
    answers: list[Answers]
    comparison: Comparison | None


async def grades_page(datasette: "Datasette", request: "Request") -> Response:
    """The page. Raises Forbidden."""
    reader = await require_reader(datasette, request)
    grading, zone = grading_of(datasette), timezone(datasette)
    today = local_day(clock.now_ms(), zone)
    since = midnight_ms(today - timedelta(days=COST_DAYS - 1), zone)
    usage = await fetch_rows(reader, _USAGE, {"since": since})
    costs = costs_of(usage, grading, zone)
    context = {
        "grading": grading,
        "questions": [await _fetch(reader, grading, each) for each in grading.questions],
        "costs": costs,
        "total": {
            name: sum(getattr(cost, name) for cost in costs)
            for name in ("requests", "problems", "input_tokens", "output_tokens")
        },
        "dollars": sum(cost.dollars or 0.0 for cost in costs),
        "days": COST_DAYS,
    }
    page = await datasette.render_template("grades.html", context, request=request)
    return Response.html(page)


async def _fetch(reader: Reader, grading: GradingSettings, question: Question) -> QuestionGrades:
    bound = {"name": question.name, "id": answer_id("score", grading.author, question)}
    answers = answers_of(await fetch_rows(reader, _ANSWERS, bound), question)
    both = await fetch_rows(reader, _BOTH, bound)
    return QuestionGrades(question, bound["id"], answers, comparison_of(both, question))


def answers_of(rows: Iterable[Mapping[str, Any]], question: Question) -> list[Answers]:
    """By kind, agent and version, the most calls first."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["kind"], row["agent_id"], row["version"]].append(row)
    found = []
    for (kind, agent_id, version), of in groups.items():
        calls = sum(row["calls"] for row in of)
        values = [(_number(question, row["value"]), row["calls"]) for row in of]
        total = sum(value * count for value, count in values)
        squares = sum(value * value * count for value, count in values)
        estimate = mean(total, squares, calls) if question.is_scale else share(total, calls)
        if estimate:
            agent = max(row["agent"] or "" for row in of) or agent_id or "Unknown agent"
            # The list of calls has no filter for those without an agent or a version.
            is_listed = agent_id is not None and version is not None and 0 <= version < 10**9
            counts = {row["value"]: row["calls"] for row in of}
            found.append(
                Answers(
                    kind,
                    agent_id if is_listed else None,
                    agent,
                    version,
                    estimate,
                    tuple((each, counts[each]) for each in question.answers if each in counts),
                )
            )
    return sorted(found, key=lambda each: (-each.estimate.count, each.agent, each.version or 0))


def comparison_of(rows: Iterable[Mapping[str, Any]], question: Question) -> Comparison | None:
    """How the model's answers compare with the newest answer of a person about each call."""
    pairs = {
        row["entity_id"]: (_number(question, row["model"]), _number(question, row["people"]))
        for row in rows
        # An answer to an earlier text of the question has another id.
        if row["annotation_id"] == answer_id("score", row["author"], question)
    }
    estimate = share(sum(model == people for model, people in pairs.values()), len(pairs))
    if estimate is None:
        return None
    higher = sum(model > people for model, people in pairs.values())
    return Comparison(estimate, higher, sum(model < people for model, people in pairs.values()))


def _number(question: Question, answer: str) -> int:
    return int(answer) if question.is_scale else int(answer == question.answers[0])


def costs_of(
    rows: Iterable[Mapping[str, Any]], grading: GradingSettings, zone: ZoneInfo
) -> list[Cost]:
    """By day, question and model, the newest day first."""
    names = ("requests", "problems", "input_tokens", "output_tokens")
    sums: dict[tuple[date, str, str], list[int]] = defaultdict(lambda: [0] * len(names))
    for row in rows:
        key = (local_day(row["quarter"] * QUARTER_MS, zone), row["name"] or "", row["author"])
        sums[key] = [old + (row[name] or 0) for old, name in zip(sums[key], names, strict=True)]
    found = []
    for (day, name, author), (requests, problems, tokens_in, tokens_out) in sorted(sums.items()):
        dollars = grading.dollars(tokens_in, tokens_out) if author == grading.author else None
        model = author.removeprefix("model:")
        found.append(Cost(day, name, model, requests, problems, tokens_in, tokens_out, dollars))
    return sorted(found, key=lambda cost: cost.day, reverse=True)
