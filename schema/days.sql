-- daily_summary for time zones whose days do not begin with an hour of UTC, in the words of views.sql:
-- what is counted by the hour is of no use to them.

-- A row for each day with calls, newest first. Each day is found from the one after it and each
-- figure is read for its day alone, so that a page of days costs the same however many there are.
-- A transferred call is one call, and its cost already holds the transferred leg's.
CREATE VIEW daily_summary AS
WITH RECURSIVE
    newest (at) AS (
        SELECT max(call_time(c)) FROM calls c
        UNION ALL
        SELECT (SELECT max(call_time(c)) FROM calls c WHERE call_time(c) < local_midnight(newest.at))
        FROM newest
        WHERE newest.at IS NOT NULL
    ),
    days (day, since, until) AS (
        SELECT local_day(at), local_midnight(at), at FROM newest WHERE at IS NOT NULL
    )
SELECT
    d.day,
    (SELECT count(*) FROM calls c WHERE call_time(c) BETWEEN d.since AND d.until) AS calls,
    (
        SELECT count(*) FROM calls c
        LEFT JOIN disconnection_reasons r ON r.reason = c.disconnection_reason
        WHERE call_time(c) BETWEEN d.since AND d.until AND is_connected(c, r)
    ) AS connected,
    (
        SELECT count(*) FROM calls c
        WHERE call_time(c) BETWEEN d.since AND d.until
            AND (
                c.transfer_destination IS NOT NULL
                OR c.disconnection_reason IN ('call_transfer', 'transfer_bridged')
            )
    ) AS transferred,
    (
        SELECT round(sum(c.duration_ms + 0.0) / 60000.0, 1) FROM calls c
        WHERE call_time(c) BETWEEN d.since AND d.until
    ) AS minutes,
    (
        SELECT round(avg(c.duration_ms) / 1000.0, 1) FROM calls c
        LEFT JOIN disconnection_reasons r ON r.reason = c.disconnection_reason
        WHERE call_time(c) BETWEEN d.since AND d.until AND is_connected(c, r)
    ) AS average_seconds,
    (
        SELECT round(sum(c.combined_cost_cents) / 100.0, 4) FROM calls c
        WHERE call_time(c) BETWEEN d.since AND d.until
    ) AS cost_dollars,
    (
        SELECT round(avg(a.call_successful), 4) FROM calls c
        JOIN analyses a ON a.call_id = c.call_id
        LEFT JOIN disconnection_reasons r ON r.reason = c.disconnection_reason
        WHERE call_time(c) BETWEEN d.since AND d.until AND is_connected(c, r)
    ) AS success_rate
FROM days d;
