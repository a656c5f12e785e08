"""PostgreSQL: many receivers, one server. Needs the extra `postgres`."""

try:
    import psycopg as psycopg
except ImportError as error:
    from receiver.errors import SettingsError

    raise SettingsError(
        "CALLHOUSE_DATABASE_URL names a PostgreSQL server, and its client is not installed",
        hint="Run `pip install 'callhouse[postgres]'`.",
    ) from error

from receiver.store.postgres.engine import Postgres

__all__ = ["Postgres"]
