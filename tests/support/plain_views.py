"""A second, simple implementation of the views of sums: computed from the calls, with days in
UTC."""

from schema.products import family_sql

_AT = "coalesce(c.start_timestamp, nullif(c.observed_at, 0))"
_IS_CONNECTED = "(c.start_timestamp IS NOT NULL AND coalesce(r.category, '') <> 'not_connected')"
# Engines agree on what is the sum of numbers, not of conditions, nor of what type an average is.
_ONE = "CAST(1 AS DOUBLE PRECISION)"
_CONNECTED = f"CASE WHEN {_IS_CONNECTED} THEN {_ONE} ELSE 0 END"


def _count(condition):
    return f"count(CASE WHEN {condition} THEN 1 END)"


_FAMILY = family_sql("replace(p.product, '-', '_')")
_REASONS = "LEFT JOIN disconnection_reasons r ON r.reason = c.disconnection_reason"

PLAIN_VIEWS = {
    "daily_summary": f"""
        SELECT
            strftime('%Y-%m-%d', {_AT} / 1000, 'unixepoch'),
            count(*),
            {_count(_IS_CONNECTED)},
            sum(CASE WHEN
                c.transfer_destination IS NOT NULL
                OR coalesce(c.disconnection_reason, '') IN ('call_transfer', 'transfer_bridged')
            THEN 1 ELSE 0 END),
            round(sum(c.duration_ms * {_ONE}) / 60000.0, 1),
            round(avg(CASE WHEN {_IS_CONNECTED} THEN c.duration_ms * {_ONE} END) / 1000.0, 1),
            round(sum(c.combined_cost_cents) / 100.0, 4),
            round(avg(CASE WHEN {_IS_CONNECTED} THEN a.call_successful * {_ONE} END), 4)
        FROM calls c {_REASONS} LEFT JOIN analyses a ON a.call_id = c.call_id
        WHERE {_AT} IS NOT NULL
        GROUP BY 1
    """,
    "agent_scorecard": f"""
        SELECT
            c.agent_id,
            c.agent_version,
            max(c.agent_name),
            count(*),
            round(avg({_CONNECTED}), 4),
            round(avg(CASE WHEN {_IS_CONNECTED} THEN a.call_successful * {_ONE} END), 4),
            round(avg(CASE WHEN {_IS_CONNECTED} THEN c.duration_ms * {_ONE} END) / 1000.0, 1),
            round(avg(c.combined_cost_cents) / 100.0, 4),
            round(
                sum(c.combined_cost_cents) / 100.0
                    / nullif({_count(_IS_CONNECTED + " AND a.call_successful = 1")}, 0), 4
            ),
            round(avg(
                CASE WHEN {_IS_CONNECTED} AND a.user_sentiment IS NOT NULL THEN
                    CASE WHEN lower(trim(a.user_sentiment)) = 'negative' THEN {_ONE} ELSE 0 END
                END
            ), 4),
            round(avg(l.p50_ms), 0),
            round(avg(m.interruptions * {_ONE}), 2),
            sum(m.tool_calls),
            sum(m.failed_tool_calls)
        FROM calls c {_REASONS}
        LEFT JOIN analyses a ON a.call_id = c.call_id
        LEFT JOIN latencies l ON l.call_id = c.call_id AND l.component = 'e2e'
        LEFT JOIN call_metrics m ON m.call_id = c.call_id
        GROUP BY c.agent_id, c.agent_version
    """,
    "tool_scorecard": f"""
        SELECT
            t.name,
            t.type,
            count(*),
            count(CASE WHEN t.successful = 0 THEN 1 END),
            count(CASE WHEN t.result_position IS NULL THEN 1 END),
            sum(
                CASE WHEN t.successful = 1 AND json_valid(t.result)
                    THEN CASE WHEN json_type(t.result, '$.success') = 'false' THEN 1 ELSE 0 END
                    ELSE 0
                END
            ),
            round(avg(t.duration_ms * {_ONE}), 0),
            max(t.duration_ms)
        FROM tool_calls t
        WHERE t.track = 'session' AND (t.result_position IS NULL OR t.result_position <> t.position)
        GROUP BY t.name, t.type
    """,
    "cost_by_product": f"""
        SELECT
            replace(p.product, '-', '_'),
            {_FAMILY},
            count(DISTINCT p.call_id),
            round(sum(p.cost_cents) / 100.0, 4),
            round(sum(p.cost_cents) / nullif(sum(sum(p.cost_cents)) OVER (), 0), 4),
            round(sum(p.cost_cents) / 100.0 / count(DISTINCT p.call_id), 4),
            round(
                sum(CASE WHEN p.is_transfer_leg_cost = 1 THEN p.cost_cents ELSE 0 END) / 100.0, 4
            )
        FROM product_costs p
        GROUP BY replace(p.product, '-', '_')
    """,
    "cost_by_family": f"""
        SELECT
            p.family,
            count(DISTINCT replace(p.product, '-', '_')),
            round(sum(p.cost_cents) / 100.0, 4),
            round(sum(p.cost_cents) / nullif(sum(sum(p.cost_cents)) OVER (), 0), 4),
            round(
                sum(CASE WHEN p.is_transfer_leg_cost = 1 THEN p.cost_cents ELSE 0 END) / 100.0, 4
            )
        FROM (SELECT p.*, {_FAMILY} AS family FROM product_costs p) p
        GROUP BY p.family
    """,
    "latency_by_agent": """
        SELECT
            c.agent_id,
            c.agent_version,
            max(c.agent_name),
            l.component,
            count(*),
            round(avg(l.p50_ms), 0),
            round(avg(l.p95_ms), 0),
            round(max(l.max_ms), 0)
        FROM calls c JOIN latencies l ON l.call_id = c.call_id
        GROUP BY c.agent_id, c.agent_version, l.component
    """,
}
