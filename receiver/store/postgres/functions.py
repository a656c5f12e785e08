"""SQLite's functions, for what views and roll-ups ask of them. Each gives what SQLite's gives."""

# An escape in JSON becomes another character: what it stands for may be none that the server has.
_WITHOUT_ESCAPES = r"regexp_replace(document, '\\(u[0-9A-Fa-f]{4}|.)', '_', 'g')::json"

FUNCTIONS = (
    # A time that no calendar has is null there too.
    """
    CREATE OR REPLACE FUNCTION strftime(form text, seconds bigint, unixepoch text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
        SELECT CASE WHEN seconds BETWEEN -62167219200 AND 253402300799 THEN
            to_char(timestamp 'epoch' + seconds * interval '1 second',
                replace(replace(replace(replace(replace(replace(replace(replace(
                    form, 'T', '"T"'), 'Z', '"Z"'), '%Y', 'YYYY'), '%m', 'MM'), '%d', 'DD'),
                    '%H', 'HH24'), '%M', 'MI'), '%S', 'SS'))
        END
    $$
    """,
    """
    CREATE OR REPLACE FUNCTION printf(form text, first bigint, second bigint, third bigint)
    RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
        SELECT regexp_replace(
            regexp_replace(replace(form, '%d', first::text), '%02d', lpad(second::text, 2, '0')),
            '%02d', lpad(third::text, 2, '0')
        )
    $$
    """,
    # As today's SQLite: halves away from zero, of the first 18 digits of the binary number. That is
    # an integer times a power of two, and so written out without an error. Older SQLites look at
    # fewer digits.
    """
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
    $$
    """,
    # What is too large is infinite, and no error.
    """
    CREATE OR REPLACE FUNCTION square(value double precision) RETURNS double precision
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
        SELECT CASE WHEN abs(value) < 1e154 THEN value * value ELSE 'Infinity' END
    $$
    """,
    """
    CREATE OR REPLACE AGGREGATE sum_of(bigint) (
        sfunc = int8pl, stype = bigint, combinefunc = int8pl, parallel = safe)
    """,
    """
    CREATE OR REPLACE AGGREGATE sum_of(double precision) (
        sfunc = float8pl, stype = double precision, combinefunc = float8pl, parallel = safe)
    """,
    """
    CREATE OR REPLACE FUNCTION json_valid(document text) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE STRICT AS $$
    BEGIN
        RETURN document::json IS NOT NULL;
    EXCEPTION WHEN OTHERS THEN
        RETURN false;
    END
    $$
    """,
    # Of a key of an object, '$.key'; if it is there twice, the first.
    f"""
    CREATE OR REPLACE FUNCTION json_type(document text, path text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
        SELECT CASE json_typeof(value)
            WHEN 'boolean' THEN value::text WHEN 'string' THEN 'text'
            WHEN 'number' THEN CASE WHEN value::text ~ '[.eE]' THEN 'real' ELSE 'integer' END
            ELSE json_typeof(value)
        END
        FROM (SELECT {_WITHOUT_ESCAPES} AS document) d, json_each(
            CASE json_typeof(d.document) WHEN 'object' THEN d.document ELSE '{{}}' END
        ) WITH ORDINALITY e (key, value, position)
        WHERE key = substr(path, 3)
        ORDER BY position LIMIT 1
    $$
    """,
    # The numbers of an array as integers, with what is behind the point cut off and what is too
    # large as the largest: views read nothing else of it.
    f"""
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
        FROM (SELECT {_WITHOUT_ESCAPES} AS document) d, json_array_elements(
            CASE json_typeof(d.document) WHEN 'array' THEN d.document ELSE '[]' END
        ) element, LATERAL (SELECT element::text AS number) n
        WHERE json_typeof(element) = 'number'
    $$
    """,
    # What an array has at an index, where it can be seconds.
    """
    CREATE OR REPLACE FUNCTION seconds_at(document json, index integer) RETURNS double precision
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
        SELECT CASE json_typeof(document -> index)
            WHEN 'number' THEN CASE WHEN length(document ->> index) < 300
                THEN (document ->> index)::double precision END
            WHEN 'boolean' THEN (document ->> index)::boolean::integer::double precision
        END
    $$
    """,
)
