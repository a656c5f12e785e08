-- The views. Nothing here is stored and nothing reads a clock. SQLite and PostgreSQL both take them as
-- they are, but for those in postgres/views.sql: so types are BIGINT and DOUBLE PRECISION, a sum is
-- CAST before it is divided, and a join's order is fixed by CROSS JOIN with its condition in WHERE.
--
-- These macros are expanded by schema/sql/views.py and schema/sql/macros.py. X is in milliseconds since the epoch, null stays null,
-- and "local" is the configured time zone:
--   local_iso(X)        2026-05-09T14:52:42+02:00
--   local_day(X)        2026-05-09
--   local_midnight(X)   the milliseconds at which that day began
--   call_time(c)        when a row of calls began. A call that never connected has no time of its
--                       own; for it, when Retell reported it. calls_at is an index on just this.
--   customer(c)         the number at the other end. calls_customer is an index on just this.
--   is_unknown_event(o) an observation of an event that this version does not know.
--                       observations_unknown_event is an index of just these.
--   is_over(c)          whether the end of a call is stored
--   is_unfinished(c)    whether its analysis is not. calls_unfinished is an index of just these.
--   total_cents(X)      a sum of cents without the last digits, which depend on the order of its
--                       terms: a half must be rounded to the same side in any order
--   family_of(h)        the family of a row's product, as schema/products.py has it
--   family_dollars(c, F) what the products of the family F cost in a call; null for none
--   is_connected(c, r)  whether somebody or something answered, by the call and its reason
--   are_connected(h, r) the same of the calls that a row of daily_calls counts

-- The landing page: who called whom and when, and the outcome. Columns of the analysis are subqueries
-- and not a join, because SQLite executes a join even where it only counts calls. So pages, counts and
-- facets of a million calls read an index of calls and nothing else.
CREATE VIEW call_log AS
SELECT
    c.call_id,
    local_iso(c.at) AS started_at,
    c.agent_name AS agent,
    c.direction,
    customer(c) AS who,
    -- Of one width below ten hours, so that text compares as time does.
    CASE WHEN c.duration_ms IS NOT NULL
        THEN printf(
            '%d:%02d:%02d',
            c.duration_ms / 3600000, c.duration_ms / 60000 % 60, c.duration_ms / 1000 % 60
        )
    END AS duration,
    c.call_status AS status,
    c.disconnection_reason AS outcome,
    (SELECT a.call_successful FROM analyses a WHERE a.call_id = c.call_id) AS success,
    (SELECT a.user_sentiment FROM analyses a WHERE a.call_id = c.call_id) AS sentiment,
    CAST(round(c.combined_cost_cents / 100.0, 4) AS DOUBLE PRECISION) AS cost_dollars,
    (
        SELECT CASE WHEN length(a.call_summary) > 120
            THEN substr(a.call_summary, 1, 119) || '…' ELSE a.call_summary
        END
        FROM analyses a
        WHERE a.call_id = c.call_id
    ) AS summary,
    c.account,
    CAST(c.duration_ms / 1000.0 AS DOUBLE PRECISION) AS duration_seconds,
    -- Not CAST, so that ORDER BY uses the index on this expression.
    c.at AS started_at_ms
FROM (SELECT c.*, call_time(c) AS at FROM calls c) c;

-- All entries of a call's transcript in order. A tool's result has the place where it arrived, not the
-- place of its invocation. Each branch follows a primary key, so that one call, or the first page of
-- all, reads only the rows that are shown.
CREATE VIEW timeline AS
SELECT
    call_id, track, position, start_seconds AS seconds,
    'utterance' AS kind, role AS who, content AS text
FROM utterances
UNION ALL
SELECT call_id, track, position, invoked_at_seconds, 'tool_call', name, arguments
FROM tool_calls
-- A result without an invocation is one row, at the result's place.
WHERE result_position IS NULL OR result_position <> position
UNION ALL
SELECT call_id, track, result_position, result_at_seconds, 'tool_result', name, result
FROM tool_calls
WHERE result_position IS NOT NULL
UNION ALL
SELECT
    call_id, track, position, time_seconds, 'node_transition', NULL,
    coalesce(former_node_name, former_node_id, '?') || ' → '
        || coalesce(new_node_name, new_node_id, '?')
FROM node_transitions
UNION ALL
SELECT call_id, track, position, time_seconds, coalesce(role, 'unknown'), NULL, body
FROM markers
ORDER BY call_id, track, position;

-- A row for each spoken word. JSON is parsed only where it is valid, because one invalid text would make
-- a whole page fail.
CREATE VIEW words AS
SELECT
    w.call_id,
    w.track,
    w.position,
    CAST(j.key AS BIGINT) AS word_index,
    CAST(json_extract(w.words, j.fullkey || '[0]') AS TEXT) AS word,
    CAST(
        CASE WHEN json_type(w.words, j.fullkey || '[1]') IN ('integer', 'real')
            THEN json_extract(w.words, j.fullkey || '[1]')
        END AS DOUBLE PRECISION
    ) AS start_seconds,
    CAST(
        CASE WHEN json_type(w.words, j.fullkey || '[2]') IN ('integer', 'real')
            THEN json_extract(w.words, j.fullkey || '[2]')
        END AS DOUBLE PRECISION
    ) AS end_seconds
FROM utterance_words w
CROSS JOIN json_each(CASE WHEN json_valid(w.words) THEN w.words ELSE '[]' END) j;

-- A row for each day with calls, newest first. A transferred call is one call, and its cost includes the
-- transferred leg.
CREATE VIEW daily_summary AS
SELECT
    h.day,
    CAST(sum(h.calls) AS BIGINT) AS calls,
    CAST(sum(h.calls * h.connected) AS BIGINT) AS connected,
    CAST(sum(h.transferred) AS BIGINT) AS transferred,
    CAST(round(sum(h.duration_ms_sum) / 60000.0, 1) AS DOUBLE PRECISION) AS minutes,
    CAST(
        round(
            sum(h.duration_ms_sum) FILTER (WHERE h.connected = 1)
                / sum(h.duration_count) FILTER (WHERE h.connected = 1) / 1000.0, 1
        ) AS DOUBLE PRECISION
    ) AS average_seconds,
    CAST(round(total_cents(h.cost_cents_sum) / 100.0, 4) AS DOUBLE PRECISION) AS cost_dollars,
    CAST(
        round(
            CAST(sum(h.successful_count) FILTER (WHERE h.connected = 1) AS DOUBLE PRECISION)
                / nullif(sum(h.judged_count) FILTER (WHERE h.connected = 1), 0), 4
        ) AS DOUBLE PRECISION
    ) AS success_rate
FROM (
    SELECT h.*, are_connected(h, r) AS connected
    FROM daily_calls h LEFT JOIN disconnection_reasons r ON r.reason = h.disconnection_reason
) h
WHERE h.day IS NOT NULL
GROUP BY h.day
ORDER BY h.day DESC;

-- To compare agent versions. The figures of an hour are sums and counts, so that the average of a version
-- is computed from the sums of its hours.
CREATE VIEW agent_scorecard AS
SELECT
    h.agent_id,
    h.agent_version,
    max(h.agent_name) AS agent_name,
    CAST(sum(h.calls) AS BIGINT) AS calls,
    CAST(round(CAST(sum(h.calls * h.connected) AS DOUBLE PRECISION) / sum(h.calls), 4) AS DOUBLE PRECISION) AS connected_share,
    CAST(
        round(
            CAST(sum(h.successful_count) FILTER (WHERE h.connected = 1) AS DOUBLE PRECISION)
                / nullif(sum(h.judged_count) FILTER (WHERE h.connected = 1), 0), 4
        ) AS DOUBLE PRECISION
    ) AS success_rate,
    CAST(
        round(
            sum(h.duration_ms_sum) FILTER (WHERE h.connected = 1)
                / sum(h.duration_count) FILTER (WHERE h.connected = 1) / 1000.0, 1
        ) AS DOUBLE PRECISION
    ) AS average_seconds,
    CAST(round(total_cents(h.cost_cents_sum) / sum(h.cost_count) / 100.0, 4) AS DOUBLE PRECISION) AS cost_per_call_dollars,
    CAST(
        round(
            total_cents(h.cost_cents_sum) / 100.0
                / nullif(sum(h.successful_count) FILTER (WHERE h.connected = 1), 0), 4
        ) AS DOUBLE PRECISION
    ) AS cost_per_success_dollars,
    CAST(
        round(
            CAST(sum(h.negative_count) FILTER (WHERE h.connected = 1) AS DOUBLE PRECISION)
                / nullif(sum(h.sentiment_count) FILTER (WHERE h.connected = 1), 0), 4
        ) AS DOUBLE PRECISION
    ) AS negative_share,
    CAST(round(sum(h.e2e_p50_ms_sum) / sum(h.e2e_p50_count), 0) AS DOUBLE PRECISION) AS latency_p50_ms,
    CAST(round(CAST(sum(h.interruptions_sum) AS DOUBLE PRECISION) / sum(h.interruptions_count), 2) AS DOUBLE PRECISION) AS interruptions_per_call,
    CAST(sum(h.tool_calls_sum) AS BIGINT) AS tool_calls,
    CAST(sum(h.failed_tool_calls_sum) AS BIGINT) AS failed_tool_calls
FROM (
    SELECT h.*, are_connected(h, r) AS connected
    FROM daily_calls h LEFT JOIN disconnection_reasons r ON r.reason = h.disconnection_reason
) h
GROUP BY h.agent_id, h.agent_version;

-- Which tools fail, and which only seem to work: a successful tool ran, but its result may contain
-- "success": false.
CREATE VIEW tool_scorecard AS
SELECT
    h.name,
    h.type,
    CAST(sum(h.tool_calls) AS BIGINT) AS calls,
    CAST(sum(h.failed) AS BIGINT) AS failed,
    CAST(sum(h.without_result) AS BIGINT) AS without_result,
    CAST(sum(h.said_no) AS BIGINT) AS said_no,
    CAST(round(sum(h.duration_ms_sum) / sum(h.duration_count), 0) AS DOUBLE PRECISION) AS average_ms,
    CAST(max(h.longest_ms) AS BIGINT) AS longest_ms
FROM daily_tools h
GROUP BY h.name, h.type;

-- What the money goes to.
CREATE VIEW cost_by_product AS
SELECT
    h.product,
    family_of(h) AS family,
    CAST(sum(h.calls) AS BIGINT) AS calls,
    CAST(round(total_cents(h.cost_cents_sum) / 100.0, 4) AS DOUBLE PRECISION) AS cost_dollars,
    CAST(round(total_cents(h.cost_cents_sum) / nullif(sum(sum(h.cost_cents_sum)) OVER (), 0), 4) AS DOUBLE PRECISION) AS share,
    CAST(round(total_cents(h.cost_cents_sum) / 100.0 / sum(h.calls), 4) AS DOUBLE PRECISION) AS cost_per_call_dollars,
    CAST(round(total_cents(h.transfer_leg_cents_sum) / 100.0, 4) AS DOUBLE PRECISION) AS transfer_leg_dollars
FROM daily_costs h
GROUP BY h.product;

-- The same by family. A call may pay for several products of one, so calls cannot be counted here.
CREATE VIEW cost_by_family AS
SELECT
    h.family,
    CAST(count(DISTINCT h.product) AS BIGINT) AS products,
    CAST(round(total_cents(h.cost_cents_sum) / 100.0, 4) AS DOUBLE PRECISION) AS cost_dollars,
    CAST(round(total_cents(h.cost_cents_sum) / nullif(sum(sum(h.cost_cents_sum)) OVER (), 0), 4) AS DOUBLE PRECISION) AS share,
    CAST(round(total_cents(h.transfer_leg_cents_sum) / 100.0, 4) AS DOUBLE PRECISION) AS transfer_leg_dollars
FROM (
    -- The family of each product once: finding it takes many comparisons.
    SELECT family_of(h) AS family, h.product, h.cost_cents_sum, h.transfer_leg_cents_sum
    FROM (
        SELECT
            h.product, sum(h.cost_cents_sum) AS cost_cents_sum,
            sum(h.transfer_leg_cents_sum) AS transfer_leg_cents_sum
        FROM daily_costs h
        GROUP BY h.product
    ) h
) h
GROUP BY h.family;

-- The parts of a call's cost, each with its family.
CREATE VIEW call_products AS
SELECT
    p.call_id, p.position, p.product, family_of(p) AS family, p.cost_cents,
    p.unit_price_cents_per_second, p.is_transfer_leg_cost
FROM (
    SELECT
        p.call_id, p.position, product_of(p) AS product, p.cost_cents,
        p.unit_price_cents_per_second, p.is_transfer_leg_cost
    FROM product_costs p
) p;

-- What made a call expensive. Subqueries, as in call_log: a page reads the products of its own calls alone.
CREATE VIEW call_costs AS
SELECT
    c.call_id,
    local_iso(c.at) AS started_at,
    c.agent_name AS agent,
    CAST(round(c.combined_cost_cents / 100.0, 4) AS DOUBLE PRECISION) AS cost_dollars,
    c.cost_is_final,
    CAST(c.duration_ms / 1000.0 AS DOUBLE PRECISION) AS duration_seconds,
    c.total_duration_seconds AS billed_seconds,
    (SELECT m.agent_talk_seconds FROM call_metrics m WHERE m.call_id = c.call_id) AS agent_talk_seconds,
    family_dollars(c, voice engine) AS voice_engine_dollars,
    family_dollars(c, voice) AS voice_dollars,
    family_dollars(c, model) AS model_dollars,
    family_dollars(c, telephony) AS telephony_dollars,
    family_dollars(c, surcharge) AS surcharge_dollars,
    family_dollars(c, add-on) AS add_on_dollars,
    (
        SELECT CAST(round(total_cents(p.cost_cents) / 100.0, 4) AS DOUBLE PRECISION)
        FROM product_costs p
        WHERE p.call_id = c.call_id AND p.is_transfer_leg_cost = 1
    ) AS transfer_leg_dollars,
    CAST(round(c.llm_tokens_average, 0) AS DOUBLE PRECISION) AS tokens_per_request,
    c.llm_requests,
    c.at AS started_at_ms
FROM (SELECT c.*, call_time(c) AS at FROM calls c) c;

-- Where an agent version loses time. Averages over calls, each call counting once.
CREATE VIEW latency_by_agent AS
SELECT
    h.agent_id,
    h.agent_version,
    max(h.agent_name) AS agent_name,
    h.component,
    CAST(sum(h.calls) AS BIGINT) AS calls,
    CAST(round(sum(h.p50_ms_sum) / sum(h.p50_count), 0) AS DOUBLE PRECISION) AS p50_ms,
    CAST(round(sum(h.p95_ms_sum) / sum(h.p95_count), 0) AS DOUBLE PRECISION) AS p95_ms,
    CAST(round(max(h.max_ms), 0) AS DOUBLE PRECISION) AS max_ms
FROM daily_latencies h
GROUP BY h.agent_id, h.agent_version, h.component;

-- How calls end. A call that has not ended has no reason and is not counted.
CREATE VIEW disconnections AS
SELECT
    d.reason,
    r.category,
    r.description,
    CAST(d.calls AS BIGINT) AS calls,
    CAST(round(CAST(d.calls AS DOUBLE PRECISION) / sum(d.calls) OVER (), 4) AS DOUBLE PRECISION) AS share
FROM (
    SELECT c.disconnection_reason AS reason, count(*) AS calls
    FROM calls c
    WHERE c.disconnection_reason IS NOT NULL
    GROUP BY c.disconnection_reason
) d
LEFT JOIN disconnection_reasons r ON r.reason = d.reason;

-- What somebody should look at. "Now" is when a call or one of the newest chats was updated last, because
-- by a clock every call of an old file would be stuck. Reads small indexes: is_unfinished is the condition
-- of calls_unfinished; chats without a result of an analysis are read from chats_figures.
CREATE VIEW needs_attention AS
WITH
    unfinished AS (
        SELECT
            c.call_id AS entity_id, c.level, c.observed_at, c.updated_at, c.call_status AS status,
            c.disconnection_reason AS reason
        FROM calls c
        WHERE is_unfinished(c)
        UNION ALL
        SELECT
            c.chat_id, c.level, c.observed_at, c.updated_at, c.chat_status, c.disconnection_reason
        FROM chats f CROSS JOIN chats c
        WHERE f.user_sentiment IS NULL AND f.chat_successful IS NULL
            AND c.chat_id = f.chat_id AND is_unfinished(c)
    ),
    present (at) AS (
        SELECT max(p.at)
        FROM (
            SELECT max(c.updated_at) AS at FROM calls c
            UNION ALL
            SELECT max(n.updated_at)
            FROM (SELECT c.updated_at FROM chats c ORDER BY call_time(c) DESC LIMIT 20) n
        ) p
    )
SELECT
    'quarantined' AS what,
    o.entity_id,
    local_iso(o.first_received_at) AS since,
    o.problem AS detail
FROM observations o
WHERE o.problem IS NOT NULL
UNION ALL
SELECT
    'stuck in progress',
    u.entity_id,
    local_iso(u.observed_at),
    'last heard of as ' || coalesce(u.status, 'unknown')
FROM unfinished u
WHERE NOT is_over(u) AND u.observed_at < (SELECT at FROM present) - 2 * 3600000
UNION ALL
SELECT
    'never analysed',
    u.entity_id,
    local_iso(u.updated_at),
    coalesce('ended by ' || u.reason, 'ended without a reason')
FROM unfinished u
WHERE is_over(u) AND u.updated_at < (SELECT at FROM present) - 3600000;

-- Unknown events, fields and values. Each branch reads one index that was made for it.
CREATE VIEW drift AS
SELECT
    d.place,
    d.what,
    d.name,
    CAST(d.entities AS BIGINT) AS entities,
    local_iso(d.first_seen_at) AS first_seen,
    d.example,
    CAST(d.first_seen_at AS BIGINT) AS first_seen_ms
FROM (
    SELECT
        'envelope' AS place, 'event' AS what, o.event AS name,
        count(*) AS entities, min(nullif(o.observed_at, 0)) AS first_seen_at,
        (
            SELECT e.entity_id FROM observations e
            WHERE e.event = o.event AND is_unknown_event(e)
            ORDER BY nullif(e.observed_at, 0) NULLS LAST, e.entity_id LIMIT 1
        ) AS example
    FROM observations o
    WHERE is_unknown_event(o)
    GROUP BY o.event
    UNION ALL
    SELECT
        u.place, u.what, u.name, count(*), min(u.seen_at),
        (
            SELECT e.call_id FROM unknowns e
            WHERE e.place = u.place AND e.what = u.what AND e.name = u.name
            ORDER BY e.seen_at NULLS LAST, e.call_id LIMIT 1
        )
    FROM unknowns u
    GROUP BY u.place, u.what, u.name
    UNION ALL
    SELECT
        u.place, u.what, u.name, count(*), min(u.seen_at),
        (
            SELECT e.chat_id FROM chat_unknowns e
            WHERE e.place = u.place AND e.what = u.what AND e.name = u.name
            ORDER BY e.seen_at NULLS LAST, e.chat_id LIMIT 1
        )
    FROM chat_unknowns u
    GROUP BY u.place, u.what, u.name
) d;
