"""The sources of the page of calls: calls and chats, their filters, and the SQL of their
columns."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from schema.sql.macros import plain

# Parameter -> label.
FIELDS = {
    "kind": "Kind",
    "q": "Search",
    "period": "Time",
    "since": "From",
    "until": "To",
    "weekday": "Weekday",
    "hour": "Hour",
    "account": "Account",
    "agent": "Agent",
    "version": "Version",
    "outcome": "Outcome",
    "connected": "Connected",
    "success": "Success",
    "sentiment": "Sentiment",
    "direction": "Direction",
    "number": "Number",
    "agent_number": "Agent's number",
    "transferred": "Transferred",
    "tool": "Tool",
    "tool_result": "Tool result",
    "node": "Node",
    "next_node": "Next node",
    "product": "Product",
    "min_duration": "At least",
    "max_duration": "At most",
    "min_cost": "At least",
    "max_cost": "At most",
    "tag": "Tag",
    "verdict": "Verdict",
    "reviewed": "Reviewed",
    "grade": "Grade",
}
PERIODS = {
    "today": "Today",
    "yesterday": "Yesterday",
    "7-days": "7 days",
    "30-days": "30 days",
    "90-days": "90 days",
    "this-week": "This week",
    "last-week": "Last week",
    "this-month": "This month",
    "last-month": "Last month",
    "this-year": "This year",
}
CHOICES: dict[str, dict[str, str]] = {
    "kind": {"chat": "Chats"},
    "period": PERIODS,
    "weekday": {
        "mon": "Mondays",
        "tue": "Tuesdays",
        "wed": "Wednesdays",
        "thu": "Thursdays",
        "fri": "Fridays",
        "sat": "Saturdays",
        "sun": "Sundays",
    },
    "connected": {"yes": "Connected", "no": "Not connected"},
    "success": {
        "yes": "Successful",
        "no": "Not successful",
        "judged": "Judged",
        "unknown": "Not judged",
    },
    "sentiment": {
        "positive": "Positive",
        "neutral": "Neutral",
        "negative": "Negative",
        "unknown": "Unknown",
        "none": "No sentiment",
    },
    "direction": {"inbound": "Inbound", "outbound": "Outbound", "web": "Web call"},
    "transferred": {"yes": "Transferred"},
    "tool_result": {
        "any": "Used a tool",
        "failed": "Tool did not run",
        "no-success": "Tool ran without success",
    },
    "verdict": {"good": "Good", "bad": "Bad", "unsure": "Unsure"},
    "reviewed": {"yes": "Reviewed", "no": "Not reviewed"},
}


@dataclass(frozen=True, slots=True)
class Source:
    """Calls or chats: the table, and expressions over a row `c` of it by their names in
    conditions."""

    kind: str
    table: str
    columns: Mapping[str, str]
    # Filters without a column in its rows.
    lacks: frozenset[str] = frozenset()
    # Choices whose labels differ from those of calls.
    names: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def fields(self) -> tuple[str, ...]:
        """The filters that apply."""
        return tuple(name for name in FIELDS if name not in self.lacks)

    @property
    def choices(self) -> dict[str, Mapping[str, str]]:
        """The choices of each filter, with their labels."""
        return {**CHOICES, **self.names}


_OF_ANALYSIS = "(SELECT a.{} FROM analyses a WHERE a.call_id = c.call_id)"
CALLS = Source(
    "call",
    "calls",
    {
        "key": "c.call_id",
        # Time and number are the expressions of indexes.
        "at": plain("call_time(c)"),
        "customer": plain("customer(c)"),
        "customer_of_n": plain("customer(n)"),
        "agent_name": "c.agent_name",
        "outcome": "c.disconnection_reason",
        "is_in_category": """c.disconnection_reason IN (
            SELECT r.reason FROM disconnection_reasons r WHERE r.category = :outcome
        )""",
        "has_no_end": "c.disconnection_reason IS NULL",
        "products": plain("""
            (
                SELECT p.product AS spelled, product_of(p) AS product
                FROM product_costs p WHERE p.call_id = c.call_id
            )
        """),
        "uses_tool": "c.call_id IN (SELECT t.call_id FROM tool_calls t WHERE t.name = :tool)",
        "agent_version": "c.agent_version",
        "duration_ms": "c.duration_ms",
        "sentiment": _OF_ANALYSIS.format("user_sentiment"),
        "success": _OF_ANALYSIS.format("call_successful"),
    },
    lacks=frozenset({"agent_number"}),
)
CHATS = Source(
    "chat",
    "chats",
    {
        "key": "c.chat_id",
        "at": plain("call_time(c)"),
        "customer": "c.user_number",
        "customer_of_n": "n.user_number",
        "agent_name": plain("agent_of_chat(c)"),
        # Some chats have no reason.
        "outcome": "coalesce(c.disconnection_reason, c.chat_status)",
        "is_in_category": plain("chat_outcome(c) = :outcome"),
        "has_no_end": plain("chat_outcome(c) = 'no end yet'"),
        "products": """(
            SELECT
                json_extract(j.value, '$.product') AS spelled,
                replace(json_extract(j.value, '$.product'), '-', '_') AS product
            FROM json_each(
                CASE WHEN json_valid(c.product_costs) THEN c.product_costs ELSE '[]' END
            ) j
            WHERE j.type = 'object'
        )""",
        "uses_tool": """EXISTS (
            SELECT 1 FROM chat_messages t
            WHERE t.chat_id = c.chat_id AND t.role = 'tool_call_invocation' AND t.name = :tool
        )""",
        "agent_version": "c.version",
        "duration_ms": "coalesce(c.duration_ms, c.end_timestamp - c.start_timestamp)",
        "sentiment": "c.user_sentiment",
        "success": "c.chat_successful",
    },
    lacks=frozenset({"connected", "transferred", "tool_result", "node", "next_node"}),
    names={"direction": CHOICES["direction"] | {"web": "No direction"}},
)


def row_columns(source: Source, *, has_rowid: bool) -> dict[str, str]:
    """The values of the templates of conditions: expressions, and the table with the key of its
    rows."""
    key = source.columns["key"].removeprefix("c.")
    return {**source.columns, "table": source.table, "row": "rowid" if has_rowid else key}
