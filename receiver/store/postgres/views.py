"""The views that PostgreSQL has so far: those that nothing is added up for."""

import hashlib

from receiver.store.postgres.connection import Session
from receiver.store.postgres.dialect import standard
from schema.views import views

NAMES = ("call_log", "timeline", "disconnections", "needs_attention", "drift")

# SQLite's functions in these views. A time that no calendar has is null there too.
_FUNCTIONS = (
    """
    CREATE OR REPLACE FUNCTION strftime(form text, seconds bigint, unixepoch text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT AS $$
        SELECT CASE WHEN seconds BETWEEN -62167219200 AND 253402300799 THEN
            to_char(timestamp 'epoch' + seconds * interval '1 second',
                replace(replace(replace(replace(replace(replace(replace(replace(
                    form, 'T', '"T"'), 'Z', '"Z"'), '%Y', 'YYYY'), '%m', 'MM'), '%d', 'DD'),
                    '%H', 'HH24'), '%M', 'MI'), '%S', 'SS'))
        END
    $$
    """,
    """
    CREATE OR REPLACE FUNCTION printf(form text, first bigint, second bigint) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT AS $$
        SELECT replace(replace(form, '%02d', lpad(second::text, 2, '0')), '%d', first::text)
    $$
    """,
    """
    CREATE OR REPLACE FUNCTION round(value double precision, digits integer)
    RETURNS double precision LANGUAGE sql IMMUTABLE STRICT AS $$
        SELECT round(value::numeric, digits)::double precision
    $$
    """,
)


def refresh(session: Session, timezone: str) -> None:
    """Replace the views unless they are this version's, in this time zone, already."""
    wanted = {name: standard(text) for name, text in views(timezone).items() if name in NAMES}
    said = hashlib.sha256("\n".join([*wanted.values(), *_FUNCTIONS]).encode()).hexdigest()
    found = session.raw.execute(
        "SELECT obj_description(to_regclass(%s), 'pg_class')", (NAMES[-1],)
    ).fetchone()
    if found == (said,):
        return
    for function in _FUNCTIONS:
        session.raw.execute(function)
    for name, text in wanted.items():
        session.raw.execute(f"DROP VIEW IF EXISTS {name}")
        session.raw.execute(text)
    session.raw.execute(f"COMMENT ON VIEW {NAMES[-1]} IS '{said}'")
