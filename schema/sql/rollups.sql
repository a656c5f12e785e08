-- The figures of every hour: of hours that are rolled up from the rollup tables, of all others from the
-- calls. Dashboards and scorecards are sums of these.
--
-- The macros are those of views.sql, and
--   local_hour(X)       the first millisecond of the local hour, which is half past an hour of UTC
--                       where the zone's offset has half an hour
--   product_of(p)       the product of a row of product_costs, in one spelling
--   step_of(j)          how wide the step of a row of json_each is, in milliseconds
-- schema/sql/rollups.py defines remaining_calls in front: in a view the calls of hours that are not rolled
-- up, and when an hour is rolled up, its calls. So the second half of each view also fills the table, and
-- the two cannot differ. The views and tables of days are derived from these.

-- started: whether the call has a start. With the reason it decides whether a call was connected; the
-- category of a reason may change without a write to any call.
CREATE VIEW hourly_calls AS
SELECT
    hour, agent_id, agent_version, direction, disconnection_reason, started, agent_name, calls,
    transferred, duration_ms_sum, duration_count, cost_cents_sum, cost_count, successful_count,
    judged_count, positive_count, neutral_count, negative_count, sentiment_count, voicemail_count,
    e2e_p50_ms_sum, e2e_p50_count, interruptions_sum, interruptions_count, tool_calls_sum,
    failed_tool_calls_sum, cost_cents_squares, e2e_p50_ms_squares, turns_sum, interrupted_count,
    account
FROM rollup_calls
UNION ALL
SELECT
    CAST(local_hour(call_time(c)) AS BIGINT) AS hour,
    c.agent_id,
    c.agent_version,
    c.direction,
    c.disconnection_reason,
    CAST(CASE WHEN c.start_timestamp IS NOT NULL THEN 1 ELSE 0 END AS BIGINT) AS started,
    max(c.agent_name),
    CAST(count(*) AS BIGINT),
    CAST(
        count(
            CASE WHEN c.transfer_destination IS NOT NULL
                OR c.disconnection_reason IN ('call_transfer', 'transfer_bridged') THEN 1 END
        ) AS BIGINT
    ),
    -- Integers could overflow in a sum, which is an error.
    CAST(sum(CAST(c.duration_ms AS DOUBLE PRECISION)) AS DOUBLE PRECISION),
    CAST(count(c.duration_ms) AS BIGINT),
    CAST(sum(c.combined_cost_cents) AS DOUBLE PRECISION),
    CAST(count(c.combined_cost_cents) AS BIGINT),
    CAST(count(CASE WHEN a.call_successful <> 0 THEN 1 END) AS BIGINT),
    CAST(count(a.call_successful) AS BIGINT),
    -- Retell's spelling of the words drifts.
    CAST(count(CASE WHEN lower(trim(a.user_sentiment)) = 'positive' THEN 1 END) AS BIGINT),
    CAST(count(CASE WHEN lower(trim(a.user_sentiment)) = 'neutral' THEN 1 END) AS BIGINT),
    CAST(count(CASE WHEN lower(trim(a.user_sentiment)) = 'negative' THEN 1 END) AS BIGINT),
    CAST(count(a.user_sentiment) AS BIGINT),
    CAST(count(CASE WHEN a.in_voicemail <> 0 THEN 1 END) AS BIGINT),
    CAST(sum(l.p50_ms) AS DOUBLE PRECISION),
    CAST(count(l.p50_ms) AS BIGINT),
    CAST(sum(m.interruptions) AS BIGINT),
    CAST(count(m.interruptions) AS BIGINT),
    CAST(sum(m.tool_calls) AS BIGINT),
    CAST(sum(m.failed_tool_calls) AS BIGINT),
    CAST(sum(square(c.combined_cost_cents)) AS DOUBLE PRECISION),
    CAST(sum(square(l.p50_ms)) AS DOUBLE PRECISION),
    CAST(sum(m.turns) AS BIGINT),
    -- Whether there were any: 0 and null stay as they are.
    CAST(sum(CASE WHEN m.interruptions > 0 THEN 1 ELSE m.interruptions END) AS BIGINT),
    c.account
FROM remaining_calls c
LEFT JOIN analyses a ON a.call_id = c.call_id
LEFT JOIN latencies l ON l.call_id = c.call_id AND l.component = 'e2e'
LEFT JOIN call_metrics m ON m.call_id = c.call_id
GROUP BY
    local_hour(call_time(c)), c.agent_id, c.agent_version, c.direction, c.disconnection_reason,
    CASE WHEN c.start_timestamp IS NOT NULL THEN 1 ELSE 0 END, c.account;

-- A product appears twice in a transferred call; calls counts it once. A call belongs to one hour, so
-- counts of hours can be added.
CREATE VIEW hourly_costs AS
SELECT
    hour, agent_id, agent_version, direction, product, calls, cost_cents_sum,
    transfer_leg_cents_sum, account
FROM rollup_costs
UNION ALL
SELECT
    CAST(local_hour(call_time(c)) AS BIGINT) AS hour,
    c.agent_id,
    c.agent_version,
    c.direction,
    product_of(p) AS product,
    CAST(count(DISTINCT p.call_id) AS BIGINT),
    CAST(sum(p.cost_cents) AS DOUBLE PRECISION),
    CAST(sum(CASE WHEN p.is_transfer_leg_cost = 1 THEN p.cost_cents ELSE 0.0 END) AS DOUBLE PRECISION),
    c.account
FROM remaining_calls c
CROSS JOIN product_costs p
WHERE p.call_id = c.call_id
GROUP BY
    local_hour(call_time(c)), c.agent_id, c.agent_version, c.direction, product_of(p), c.account;

CREATE VIEW hourly_latencies AS
SELECT
    hour, agent_id, agent_version, direction, component, agent_name, calls, p50_ms_sum, p50_count,
    p95_ms_sum, p95_count, max_ms, account
FROM rollup_latencies
UNION ALL
SELECT
    CAST(local_hour(call_time(c)) AS BIGINT) AS hour,
    c.agent_id,
    c.agent_version,
    c.direction,
    l.component,
    max(c.agent_name),
    CAST(count(*) AS BIGINT),
    CAST(sum(l.p50_ms) AS DOUBLE PRECISION),
    CAST(count(l.p50_ms) AS BIGINT),
    CAST(sum(l.p95_ms) AS DOUBLE PRECISION),
    CAST(count(l.p95_ms) AS BIGINT),
    CAST(max(l.max_ms) AS DOUBLE PRECISION),
    c.account
FROM remaining_calls c
CROSS JOIN latencies l
WHERE l.call_id = c.call_id
GROUP BY
    local_hour(call_time(c)), c.agent_id, c.agent_version, c.direction, l.component, c.account;

CREATE VIEW hourly_tools AS
SELECT
    hour, agent_id, agent_version, direction, name, type, tool_calls, failed, without_result,
    said_no, duration_ms_sum, duration_count, longest_ms, account
FROM rollup_tools
UNION ALL
SELECT
    CAST(local_hour(call_time(c)) AS BIGINT) AS hour,
    c.agent_id,
    c.agent_version,
    c.direction,
    t.name,
    t.type,
    CAST(count(*) AS BIGINT),
    CAST(count(CASE WHEN t.successful = 0 THEN 1 END) AS BIGINT),
    CAST(count(CASE WHEN t.result_position IS NULL THEN 1 END) AS BIGINT),
    CAST(
        count(
            CASE WHEN t.successful = 1 AND json_valid(t.result)
                THEN CASE WHEN json_type(t.result, '$.success') = 'false' THEN 1 END
            END
        ) AS BIGINT
    ),
    CAST(sum(CAST(t.duration_ms AS DOUBLE PRECISION)) AS DOUBLE PRECISION),
    CAST(count(t.duration_ms) AS BIGINT),
    CAST(max(t.duration_ms) AS BIGINT),
    c.account
FROM remaining_calls c
CROSS JOIN tool_calls t
WHERE t.call_id = c.call_id AND t.track = 'session'
    -- A result without an invocation has no tool name.
    AND (t.result_position IS NULL OR t.result_position <> t.position)
GROUP BY
    local_hour(call_time(c)), c.agent_id, c.agent_version, c.direction, t.name, t.type, c.account;

CREATE VIEW hourly_transitions AS
SELECT
    hour, agent_id, agent_version, direction, former_node, new_node, calls, transitions,
    account
FROM rollup_transitions
UNION ALL
SELECT
    CAST(local_hour(call_time(c)) AS BIGINT) AS hour,
    c.agent_id,
    c.agent_version,
    c.direction,
    coalesce(n.former_node_name, n.former_node_id) AS former_node,
    coalesce(n.new_node_name, n.new_node_id) AS new_node,
    CAST(count(DISTINCT n.call_id) AS BIGINT),
    CAST(count(*) AS BIGINT),
    c.account
FROM remaining_calls c
CROSS JOIN node_transitions n
WHERE n.call_id = c.call_id AND n.track = 'session'
GROUP BY
    local_hour(call_time(c)), c.agent_id, c.agent_version, c.direction,
    coalesce(n.former_node_name, n.former_node_id), coalesce(n.new_node_name, n.new_node_id),
    c.account;

-- How long callers waited for answers, in steps wide enough to count and narrow enough to find
-- percentiles in: 10 ms below a second, 100 ms below ten, then whole seconds. wait_ms is the middle.
CREATE VIEW hourly_waits AS
SELECT
    hour, wait_ms, answers, account
FROM rollup_waits
UNION ALL
SELECT
    CAST(local_hour(call_time(c)) AS BIGINT) AS hour,
    CAST(CAST(j.value AS BIGINT) / step_of(j) * step_of(j) + step_of(j) / 2 AS BIGINT) AS wait_ms,
    CAST(count(*) AS BIGINT),
    c.account
FROM remaining_calls c
CROSS JOIN latencies l
CROSS JOIN json_each(CASE WHEN json_valid(l.samples_ms) THEN l.samples_ms ELSE '[]' END) j
WHERE l.call_id = c.call_id AND l.component = 'e2e' AND j.type IN ('integer', 'real')
GROUP BY local_hour(call_time(c)), wait_ms, c.account;
