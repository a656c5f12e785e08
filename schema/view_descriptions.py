"""The description of every view and its columns, as Datasette shows them."""

from dataclasses import dataclass

from schema.products import FAMILIES, OTHER
from schema.tables import (
    ROLLUP_CALLS,
    ROLLUP_COSTS,
    ROLLUP_LATENCIES,
    ROLLUP_TOOLS,
    ROLLUP_TRANSITIONS,
    ROLLUP_WAITS,
    Table,
)


@dataclass(frozen=True, slots=True)
class View:
    """A view: its title, its description, and that of every column."""

    title: str
    description: str
    columns: dict[str, str]


_CALL_ID = "Retell's id of the call."
_TRACK = "The list it came from: session, or one of its pre_, post_ and scrubbed_ variants."
_AGENT = {
    "agent_id": "Retell's id of the agent.",
    "agent_version": "The agent's version; 0 is a version.",
    "agent_name": "The agent's name; one of them if it was renamed within a version.",
}
_DAY = "The day, in the configured time zone."


def _hourly(title: str, description: str, table: Table) -> View:
    columns = {name: words for name, words in table.columns.items() if name != "position"}
    group = "A row for each local hour, agent, version and direction, and for each"
    return View(title, f"{group} {description} Filter by hour.", columns)


def _daily(hourly: View) -> View:
    """The description of a daily view: a day that is not rolled up yet has several rows."""
    columns = {"day": _DAY} | {n: words for n, words in hourly.columns.items() if n != "hour"}
    description = hourly.description.replace("hour", "day")
    return View(
        hourly.title.replace("hour", "day"),
        f"{description} A day that is not over has several rows of a kind: add them up.",
        columns,
    )


VIEWS = {
    "call_log": View(
        "Call log",
        "One row per call: who called whom, how long, and the outcome. Pages and exports "
        "show the newest first; in SQL, ORDER BY started_at_ms DESC.",
        {
            "call_id": _CALL_ID,
            "started_at": "Start in the configured time zone; for a call that never connected, "
            "when Retell reported it. A filter accepts a local day or time.",
            "agent": "Name of the agent.",
            "direction": "inbound or outbound; null for web calls.",
            "who": "The number at the other end: the caller's if inbound, else the one called.",
            "duration": "Length as h:mm:ss. Filter by it as 2:05 or 0:02:05.",
            "status": "registered, not_connected, ongoing, ended or error.",
            "outcome": "Why it ended; see disconnection_reasons.",
            "success": "1 if the agent reached its goal, 0 if not. Filters accept yes and no.",
            "sentiment": "Positive, Neutral, Negative or Unknown.",
            "cost_dollars": "Cost in US dollars, without your own carrier's charges.",
            "summary": "The first 120 characters of the summary; analyses has all of it.",
            "account": "The account; null for calls that an older version stored.",
            "duration_seconds": "Length in seconds, to sort and filter by.",
            "started_at_ms": "started_at in milliseconds since the epoch, to sort and filter by.",
        },
    ),
    "timeline": View(
        "Timeline",
        "All entries of a call's transcript in order. Filter by call_id, and by track if "
        "there are scrubbed copies.",
        {
            "call_id": _CALL_ID,
            "track": _TRACK,
            "position": "Index in that list.",
            "seconds": "When, in seconds from the call's start.",
            "kind": "utterance, tool_call, tool_result, node_transition, or another entry's role: "
            "dtmf, sms, injected, ….",
            "who": "Who spoke, or the name of the tool.",
            "text": "The spoken text, the tool's arguments or result, or what happened.",
        },
    ),
    "words": View(
        "Words",
        "Every spoken word with its time. Filter by call_id.",
        {
            "call_id": _CALL_ID,
            "track": _TRACK,
            "position": "Index of its utterance in that list.",
            "word_index": "Index in its utterance, from 0.",
            "word": "The word, with the spaces around it.",
            "start_seconds": "When it began, in seconds from the call's start.",
            "end_seconds": "When it ended, in seconds from the call's start.",
        },
    ),
    "daily_summary": View(
        "Days",
        "Every day with calls, newest first. A call counts on the day it started, one that never "
        "connected on the day Retell reported it, a transferred call once.",
        {
            "day": _DAY,
            "calls": "How many calls.",
            "connected": "How many of them were answered, by a person or a machine.",
            "transferred": "How many of them were transferred.",
            "minutes": "Sum of their lengths, without transferred legs.",
            "average_seconds": "Average length of a connected call.",
            "cost_dollars": "Their cost in US dollars, transferred legs included.",
            "success_rate": "Share of connected, analysed calls in which the agent reached its "
            "goal: 0 to 1.",
        },
    ),
    "agent_scorecard": View(
        "Agent scorecard",
        "A row for each version of each agent.",
        {
            **_AGENT,
            "calls": "How many calls.",
            "connected_share": "Share of them that was answered: 0 to 1.",
            "success_rate": "Share of connected, analysed calls in which it reached its goal: "
            "0 to 1.",
            "average_seconds": "Average length of a connected call.",
            "cost_per_call_dollars": "Average cost of a call in US dollars.",
            "cost_per_success_dollars": "Cost of all its calls per successful one, in US dollars.",
            "negative_share": "Share of connected, analysed calls with a negative sentiment: "
            "0 to 1.",
            "latency_p50_ms": "Average over calls of the call's median time to answer (e2e), in "
            "milliseconds.",
            "interruptions_per_call": "Turns that began before the other speaker's had ended.",
            "tool_calls": "Tools invoked.",
            "failed_tool_calls": "Tools that did not run.",
        },
    ),
    "tool_scorecard": View(
        "Tool scorecard",
        "How often each tool fails, and how often it runs without success.",
        {
            "name": "Name of the tool.",
            "type": "custom, end_call, transfer_call, …; null for older calls.",
            "calls": "How often it was invoked.",
            "failed": "How often it did not run.",
            "without_result": "How often no result came: usual for end_call, or the caller hung "
            "up first.",
            "said_no": 'How often it ran and answered "success": false.',
            "average_ms": "Average time from invocation to result, in milliseconds.",
            "longest_ms": "Longest time from invocation to result, in milliseconds.",
        },
    ),
    "cost_by_product": View(
        "Cost by product",
        "Cost of each product.",
        {
            "product": "Retell's name of the product, with _ for -.",
            "family": f"{', '.join(FAMILIES[:-1])}, or {OTHER} for a product that no family has.",
            "calls": "How many calls it was charged for.",
            "cost_dollars": "Its cost in US dollars.",
            "share": "Its share of the cost of all products: 0 to 1.",
            "cost_per_call_dollars": "Its average cost in the calls it was charged for, in US "
            "dollars.",
            "transfer_leg_dollars": "How much of its cost belongs to transferred legs.",
        },
    ),
    "cost_by_family": View(
        "Cost by family",
        "Cost of each family of products.",
        {
            "family": "As in cost_by_product.",
            "products": "How many products of it were charged for.",
            "cost_dollars": "Its cost in US dollars.",
            "share": "Its share of the cost of all products: 0 to 1.",
            "transfer_leg_dollars": "How much of its cost belongs to transferred legs.",
        },
    ),
    "call_products": View(
        "Products of calls",
        "The parts of each call's cost, with their family.",
        {
            "call_id": _CALL_ID,
            "position": "Index in Retell's list.",
            "product": "Retell's name, with _ for -.",
            "family": "As in cost_by_product.",
            "cost_cents": "Cost in US cents.",
            "unit_price_cents_per_second": "Price in US cents a second.",
            "is_transfer_leg_cost": "1 if it belongs to the transferred leg.",
        },
    ),
    "call_costs": View(
        "Cost of calls",
        "One row per call: its cost by product family, and the figures that it depends on.",
        {
            "call_id": _CALL_ID,
            "started_at": "As in call_log.",
            "agent": "Name of the agent.",
            "cost_dollars": "Cost in US dollars.",
            "cost_is_final": "1 if it no longer changes.",
            "duration_seconds": "How long the call lasted.",
            "billed_seconds": "How many seconds Retell bills.",
            "agent_talk_seconds": "How long the agent spoke, for which the voice is billed.",
            "voice_engine_dollars": "Cost of the voice engine; null if nothing.",
            "voice_dollars": "Cost of the voice.",
            "model_dollars": "Cost of the language model.",
            "telephony_dollars": "What telephony cost.",
            "surcharge_dollars": "Cost of surcharges, such as for many tokens or a short call.",
            "add_on_dollars": "What add-ons cost.",
            "transfer_leg_dollars": "How much of all this belongs to the transferred leg.",
            "tokens_per_request": "Tokens of a request to the model, on average.",
            "llm_requests": "Requests to the model.",
            "started_at_ms": "started_at in milliseconds since the epoch, to sort and filter by.",
        },
    ),
    "latency_by_agent": View(
        "Latency by agent",
        "How long each component takes to answer, by agent and version, as averages over calls.",
        {
            **_AGENT,
            "component": "e2e is the whole answer; llm, tts, asr, knowledge_base, … are its parts.",
            "calls": "How many calls it was measured in.",
            "p50_ms": "Average of the calls' medians, in milliseconds.",
            "p95_ms": "Average of the calls' 95th percentiles, in milliseconds.",
            "max_ms": "The longest of all, in milliseconds.",
        },
    ),
    "disconnections": View(
        "Disconnections",
        "Why calls end. Calls that have not ended are left out.",
        {
            "reason": "Retell's name of the reason.",
            "category": "user, agent, transfer, not_connected, limit, error, or unknown.",
            "description": "What it means.",
            "calls": "How many calls ended for this reason.",
            "share": "Their share of all that ended: 0 to 1.",
        },
    ),
    "needs_attention": View(
        "Needs attention",
        "Problems to check: bodies that were not understood, calls and chats without an end or "
        "without an analysis. Times are relative to the newest observation of calls and chats.",
        {
            "what": "quarantined; stuck in progress (nothing new for 2 hours); never analysed "
            "(nothing new for 1 hour after its end).",
            "entity_id": "The call_id or chat_id, or sha:<hash> for a body without one.",
            "since": "When its last observation arrived, in the configured time zone.",
            "detail": "The problem of the body, the last status, or the reason of the end.",
        },
    ),
    "drift": View(
        "Drift",
        "Keys, events, roles and values that this version of callhouse does not know. They are "
        "stored, but have no column. Counted over all calls and chats.",
        {
            "place": "Its place: call or chat for the top level, a field such as call_cost, the "
            "list of a transcript, or envelope for the event itself.",
            "what": "event, key, role, product, component, or the field that has an unknown value.",
            "name": "The event, key or value.",
            "entities": "In how many calls or chats; for an event, how many bodies.",
            "first_seen": "When the first of them was, in the configured time zone.",
            "example": "The call_id, chat_id or sha:<hash> of the first.",
            "first_seen_ms": "first_seen in milliseconds since the epoch, to sort and filter by.",
        },
    ),
}
_HOURLY = {
    "hourly_calls": _hourly(
        "Calls by the hour",
        "reason for which calls ended. Scorecards and charts of calls are sums of these rows.",
        ROLLUP_CALLS,
    ),
    "hourly_costs": _hourly("Costs by the hour", "product charged for.", ROLLUP_COSTS),
    "hourly_latencies": _hourly(
        "Latencies by the hour", "component of the time to answer.", ROLLUP_LATENCIES
    ),
    "hourly_tools": _hourly("Tools by the hour", "tool.", ROLLUP_TOOLS),
    "hourly_transitions": _hourly(
        "Node transitions by the hour", "step from a node to a node.", ROLLUP_TRANSITIONS
    ),
    "hourly_waits": View(
        "Waits by the hour",
        "A row for each local hour and each length of a wait for an answer, of all agents. "
        "Percentiles are computed from these rows. Filter by hour.",
        {name: words for name, words in ROLLUP_WAITS.columns.items() if name != "position"},
    ),
}
VIEWS |= _HOURLY
VIEWS |= {name.replace("hourly", "daily"): _daily(view) for name, view in _HOURLY.items()}
