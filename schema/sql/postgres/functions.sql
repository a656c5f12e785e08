-- SQLite's functions, as far as views and rollups call them. Each returns what SQLite's returns.
-- CREATE OR REPLACE cannot rename a parameter or change a type: such a function has to be dropped first.

-- NULL for a time that no calendar has.
CREATE OR REPLACE FUNCTION strftime(form text, seconds bigint, unixepoch text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE WHEN seconds BETWEEN -62167219200 AND 253402300799 THEN
        to_char(timestamp 'epoch' + seconds * interval '1 second',
            replace(replace(replace(replace(replace(replace(replace(replace(
                form, 'T', '"T"'), 'Z', '"Z"'), '%Y', 'YYYY'), '%m', 'MM'), '%d', 'DD'),
                '%H', 'HH24'), '%M', 'MI'), '%S', 'SS'))
    END
$$;

-- The one format that is used is '%d:%02d:%02d'.
CREATE OR REPLACE FUNCTION printf(form text, first bigint, second bigint, third bigint)
RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    -- lpad cuts a longer text, such as -15.
    SELECT first || ':' || lpad(second::text, greatest(2, length(second::text)), '0')
        || ':' || lpad(third::text, greatest(2, length(third::text)), '0')
$$;

-- As SQLite 3.53: halves away from zero, from the first 18 digits of the binary number. A binary number
-- is an integer times a power of two, so numeric can hold it without an error. Older versions of SQLite
-- use fewer digits.
CREATE OR REPLACE FUNCTION round(value double precision, digits integer)
RETURNS double precision LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    size CONSTANT double precision := abs(value);
    bits integer;
    whole numeric;
BEGIN
    IF size >= 4503599627370496 THEN RETURN value; END IF;
    IF digits = 0 THEN RETURN sign(value) * trunc(size + 0.5::double precision); END IF;
    IF size < 1e-30 THEN RETURN 0; END IF;
    bits := 57 - floor(ln(size) / ln(2::double precision));
    whole := (size * 2::double precision ^ bits)::bigint * trunc(5::numeric ^ bits);
    RETURN sign(value) * round(
        round(whole * ('1e-' || bits)::numeric, 17 - floor(log(size))::integer), digits
    )::double precision;
END
$$;

CREATE OR REPLACE FUNCTION json_valid(document text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
    RETURN document::json IS NOT NULL;
EXCEPTION WHEN OTHERS THEN
    RETURN false;
END
$$;

-- Both functions below replace escapes first: one may stand for a character that PostgreSQL cannot
-- store.

-- For the path '$.key'. Of two equal keys the first counts.
CREATE OR REPLACE FUNCTION json_type(document text, path text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE json_typeof(value)
        WHEN 'boolean' THEN value::text WHEN 'string' THEN 'text'
        WHEN 'number' THEN CASE WHEN value::text ~ '[.eE]' THEN 'real' ELSE 'integer' END
        ELSE json_typeof(value)
    END
    FROM (SELECT regexp_replace(document, '\\(u[0-9A-Fa-f]{4}|.)', '_', 'g')::json AS document) d, json_each(
        CASE json_typeof(d.document) WHEN 'object' THEN d.document ELSE '{}' END
    ) WITH ORDINALITY e (key, value, position)
    WHERE key = substr(path, 3)
    ORDER BY position LIMIT 1
$$;

-- The numbers of an array as integers, truncated and limited to 64 bits: views read nothing else of it.
CREATE OR REPLACE FUNCTION json_each(document text, OUT value bigint, OUT type text)
RETURNS SETOF record LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT
        CASE
            WHEN number ~ '[.eE]' THEN CASE
                WHEN number::double precision >= 9223372036854775807 THEN 9223372036854775807
                WHEN number::double precision <= -9223372036854775808
                    THEN bigint '-9223372036854775808'
                ELSE trunc(number::double precision)::bigint
            END
            ELSE least(greatest(number::numeric, -9223372036854775808), 9223372036854775807)
                ::bigint
        END,
        CASE WHEN number ~ '[.eE]' THEN 'real' ELSE 'integer' END
    FROM (SELECT regexp_replace(document, '\\(u[0-9A-Fa-f]{4}|.)', '_', 'g')::json AS document) d, json_array_elements(
        CASE json_typeof(d.document) WHEN 'array' THEN d.document ELSE '[]' END
    ) element, LATERAL (SELECT element::text AS number) n
    WHERE json_typeof(element) = 'number'
$$;

-- The element of an array at an index, where it can be seconds.
CREATE OR REPLACE FUNCTION seconds_at(document json, index integer) RETURNS double precision
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE json_typeof(document -> index)
        WHEN 'number' THEN CASE WHEN length(document ->> index) < 300
            THEN (document ->> index)::double precision END
        WHEN 'boolean' THEN (document ->> index)::boolean::integer::double precision
    END
$$;
