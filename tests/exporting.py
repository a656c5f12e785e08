"""What tests of exports share."""

from receiver.addresses import Location, PostgresUrl


def url_of(where: Location) -> str:
    """A database's CALLHOUSE_DATABASE_URL."""
    return where.url if isinstance(where, PostgresUrl) else f"sqlite:///{where}"


def silent(_done: int, _of: int | None = None) -> None:
    """Progress that nobody watches."""
