-- The views that cannot be written so that SQLite and PostgreSQL both take them. They replace those of
-- views.sql with the same names.

-- A row for each spoken word. A column has one type in PostgreSQL: a word is text, its times numbers.
CREATE VIEW words AS
SELECT
    w.call_id,
    w.track,
    w.position,
    e.n - 1 AS word_index,
    CASE json_typeof(e.entry -> 0)
        WHEN 'boolean' THEN ((e.entry ->> 0)::boolean::integer)::text ELSE e.entry ->> 0
    END AS word,
    seconds_at(e.entry, 1) AS start_seconds,
    seconds_at(e.entry, 2) AS end_seconds
FROM utterance_words w
CROSS JOIN json_array_elements(
    CASE
        WHEN NOT json_valid(w.words) THEN '[]'
        WHEN json_typeof(w.words::json) = 'array' THEN w.words
        ELSE '[]'
    END::json
) WITH ORDINALITY e (entry, n);

-- Unknown fields, events and values. A Citus cluster runs no subquery that refers to outer rows by
-- another column than the one that distributes the tables, so the example is an aggregate here.
CREATE VIEW drift AS
SELECT
    d.place,
    d.what,
    d.name,
    d.entities,
    local_iso(d.first_seen_at) AS first_seen,
    d.example,
    d.first_seen_at AS first_seen_ms
FROM (
    SELECT
        'envelope' AS place, 'event' AS what, o.event AS name,
        count(*) AS entities, min(nullif(o.observed_at, 0)) AS first_seen_at,
        (array_agg(o.entity_id ORDER BY nullif(o.observed_at, 0) NULLS LAST, o.entity_id))[1]
            AS example
    FROM observations o
    WHERE is_unknown_event(o)
    GROUP BY o.event
    UNION ALL
    SELECT
        u.place, u.what, u.name, count(*), min(u.seen_at),
        (array_agg(u.call_id ORDER BY u.seen_at NULLS LAST, u.call_id))[1]
    FROM unknowns u
    GROUP BY u.place, u.what, u.name
    UNION ALL
    SELECT
        u.place, u.what, u.name, count(*), min(u.seen_at),
        (array_agg(u.chat_id ORDER BY u.seen_at NULLS LAST, u.chat_id))[1]
    FROM chat_unknowns u
    GROUP BY u.place, u.what, u.name
) d;
