"""The views that add hours up said a second time, plainly: from the calls alone, days in UTC."""

_AT = "coalesce(c.start_timestamp, nullif(c.observed_at, 0))"
_CONNECTED = "(c.start_timestamp IS NOT NULL AND r.category IS NOT 'not_connected')"
_REASONS = "LEFT JOIN disconnection_reasons r ON r.reason = c.disconnection_reason"

PLAIN_VIEWS = {
    "daily_summary": f"""
        SELECT
            strftime('%Y-%m-%d', {_AT} / 1000, 'unixepoch'),
            count(*),
            sum({_CONNECTED}),
            sum(
                c.transfer_destination IS NOT NULL
                OR coalesce(c.disconnection_reason, '') IN ('call_transfer', 'transfer_bridged')
            ),
            round(sum(c.duration_ms) / 60000.0, 1),
            round(avg(CASE WHEN {_CONNECTED} THEN c.duration_ms END) / 1000.0, 1),
            round(sum(c.combined_cost_cents) / 100.0, 4),
            round(avg(CASE WHEN {_CONNECTED} THEN a.call_successful END), 4)
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
            round(avg(CASE WHEN {_CONNECTED} THEN a.call_successful END), 4),
            round(avg(CASE WHEN {_CONNECTED} THEN c.duration_ms END) / 1000.0, 1),
            round(avg(c.combined_cost_cents) / 100.0, 4),
            round(
                sum(c.combined_cost_cents) / 100.0
                    / nullif(sum({_CONNECTED} AND a.call_successful), 0), 4
            ),
            round(avg(
                CASE WHEN {_CONNECTED} THEN lower(trim(a.user_sentiment)) = 'negative' END
            ), 4),
            round(avg(l.p50_ms), 0),
            round(avg(m.interruptions), 2),
            sum(m.tool_calls),
            sum(m.failed_tool_calls)
        FROM calls c {_REASONS}
        LEFT JOIN analyses a ON a.call_id = c.call_id
        LEFT JOIN latencies l ON l.call_id = c.call_id AND l.component = 'e2e'
        LEFT JOIN call_metrics m ON m.call_id = c.call_id
        GROUP BY c.agent_id, c.agent_version
    """,
    "tool_scorecard": """
        SELECT
            t.name,
            t.type,
            count(*),
            sum(coalesce(t.successful = 0, 0)),
            sum(t.result_position IS NULL),
            sum(
                CASE WHEN t.successful = 1 AND json_valid(t.result)
                    THEN coalesce(json_type(t.result, '$.success') = 'false', 0) ELSE 0
                END
            ),
            round(avg(t.duration_ms), 0),
            max(t.duration_ms)
        FROM tool_calls t
        WHERE t.track = 'session' AND t.result_position IS NOT t.position
        GROUP BY t.name, t.type
    """,
    "cost_by_product": """
        SELECT
            p.product,
            count(DISTINCT p.call_id),
            round(sum(p.cost_cents) / 100.0, 4),
            round(sum(p.cost_cents) / nullif(sum(sum(p.cost_cents)) OVER (), 0), 4),
            round(sum(p.cost_cents) / 100.0 / count(DISTINCT p.call_id), 4),
            round(
                sum(CASE WHEN p.is_transfer_leg_cost = 1 THEN p.cost_cents ELSE 0 END) / 100.0, 4
            )
        FROM product_costs p
        GROUP BY p.product
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
