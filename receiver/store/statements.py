"""The cost of a month by group, and closed months.

A month is closed when it is over and each of its costs is final or did not change for a week. Its
sums are stored then, so that its statement does not change; later changes are corrections.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from receiver.addresses import Location
from receiver.clock import midnight_ms
from receiver.store.engine import engine, open_store, reading
from receiver.store.protocols import Connection
from schema import billing
from schema.billing import Statement, Sums
from schema.sql.macros import plain
from schema.transcript import text

# A cost that is not final after this time is accepted as it is. Retell reports a cost of zero until
# the call is analysed, so a cost without an analysis is not final.
SETTLED_MS = 7 * 86_400_000
METADATA = "metadata."

# Grouping -> the key of a call's group; `:name` is the name in the metadata.
_KEYS = {
    None: "''",
    "account": "coalesce(c.account, '')",
    "agent": "coalesce(c.agent_id, '')",
    METADATA: "coalesce((SELECT a.value FROM attributes a WHERE a.call_id = c.call_id "
    "AND a.source = 'metadata' AND a.name = :name), '')",
}
_CALLS = plain("""
SELECT {key} AS group_key, {name}, count(*),
    coalesce(sum(CAST(c.duration_ms AS DOUBLE PRECISION)), 0), sum(c.combined_cost_cents)
FROM calls c WHERE call_time(c) >= :since AND call_time(c) < :until GROUP BY group_key
""")
_PRODUCTS = plain("""
SELECT {key} AS group_key, coalesce(p.product, ''), sum(p.cost_cents)
FROM calls c JOIN product_costs p ON p.call_id = c.call_id
WHERE call_time(c) >= :since AND call_time(c) < :until AND c.combined_cost_cents IS NOT NULL
GROUP BY group_key, coalesce(p.product, '')
""")
_CHATS = plain("""
SELECT c.account, c.agent_id, c.agent_name, {metadata}, c.combined_cost_cents, c.product_costs
FROM chats c WHERE call_time(c) >= :since AND call_time(c) < :until
""")
# The same sums of whole days.
_CALLS_OF_DAYS = """
SELECT {key} AS group_key, {name}, CAST(sum(c.calls) AS BIGINT),
    coalesce(sum(c.duration_ms_sum), 0), sum(c.cost_cents_sum)
FROM daily_calls c WHERE c.day >= :first AND c.day < :next GROUP BY group_key
"""
_PRODUCTS_OF_DAYS = """
SELECT {key} AS group_key, coalesce(c.product, ''), sum(c.cost_cents_sum)
FROM daily_costs c WHERE c.day >= :first AND c.day < :next
GROUP BY group_key, coalesce(c.product, '')
"""
# Daily sums include products of calls without a cost; the index calls_open_cost finds these calls.
_WITHOUT_COST = plain("""
SELECT {key} AS group_key, coalesce(p.product, ''), sum(p.cost_cents)
FROM calls c CROSS JOIN product_costs p
WHERE call_time(c) >= :since AND call_time(c) < :until
    AND (c.combined_cost_cents IS NULL OR coalesce(c.cost_is_final, 0) = 0)
    AND c.combined_cost_cents IS NULL AND p.call_id = c.call_id
GROUP BY group_key, coalesce(p.product, '')
""")
_OPEN = plain("""
SELECT (
    SELECT count(*) FROM calls c
    WHERE call_time(c) >= :since AND call_time(c) < :until
        AND (c.combined_cost_cents IS NULL OR coalesce(c.cost_is_final, 0) = 0)
        AND coalesce(c.cost_is_final, 0) = 0 AND c.updated_at > :settled
) + (
    SELECT count(*) FROM calls c
    WHERE is_unfinished(c) AND c.updated_at > :settled AND coalesce(c.cost_is_final, 0) <> 0
        -- With a plus sign, the few calls that are unfinished are read, not all of the month.
        AND +call_time(c) >= :since AND +call_time(c) < :until
) + (
    SELECT count(*) FROM chats c
    WHERE is_unfinished(c) AND c.updated_at > :settled
        AND call_time(c) >= :since AND call_time(c) < :until
)
""")
_MISSING = "SELECT coalesce(sum(missing), 0) FROM coverage WHERE day >= :first AND day < :next"
# Calls whose cost an invoice may include in another month, in part, or not at all.
_EXPLAINED = plain("""
SELECT
    (
        SELECT count(*) FROM calls c
        WHERE call_time(c) >= :since AND call_time(c) < :until
            AND (c.combined_cost_cents IS NULL OR coalesce(c.cost_is_final, 0) = 0)
            AND coalesce(c.cost_is_final, 0) = 0
    ),
    (
        SELECT count(*) FROM (
            SELECT DISTINCT p.call_id FROM product_costs p WHERE p.is_transfer_leg_cost = 1
        ) p CROSS JOIN calls c
        WHERE c.call_id = p.call_id AND call_time(c) >= :since AND call_time(c) < :until
    ),
    (
        SELECT count(*) FROM (
            SELECT DISTINCT u.call_id FROM upstream_calls u WHERE u.gone_at IS NOT NULL
        ) u CROSS JOIN calls c
        WHERE c.call_id = u.call_id AND call_time(c) >= :since AND call_time(c) < :until
    )
""")
# The cost of each quarter of an hour: days of every time zone consist of quarters.
_QUARTERS = plain("""
SELECT call_time(c) / 900000 AS quarter, sum(c.combined_cost_cents)
FROM calls c WHERE call_time(c) >= :since AND call_time(c) < :until AND {condition}
GROUP BY call_time(c) / 900000
""")
_QUARTERS_OF_CHATS = _QUARTERS.replace("calls c", "chats c")
# The same for whole days.
_DAYS = """
SELECT c.day, sum(c.cost_cents_sum) FROM daily_calls c
WHERE c.day >= :first AND c.day < :today AND {condition} GROUP BY c.day
"""
_CHAT_TIMES = plain("""
SELECT call_time(c), c.metadata, c.combined_cost_cents
FROM chats c WHERE call_time(c) >= :since AND call_time(c) < :until
""")
_CLOSED = (
    "SELECT closed_at, sums FROM statements WHERE month = ? AND grouped_by = ? AND timezone = ?"
)
_CLOSE = (
    "INSERT INTO statements (month, grouped_by, timezone, closed_at, sums) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (month, grouped_by, timezone) DO NOTHING"
)


@dataclass(frozen=True, slots=True)
class Month:
    """A month's statement, and counts that explain it; `is_over`: the month has ended.

    `unsettled`: calls and chats whose cost may still change. `missing`: calls that Retell lists and
    that are not stored. `products` are exact cents. The counts of calls explain differences from an
    invoice.
    """

    statement: Statement
    is_over: bool
    unsettled: int
    missing: int
    products: Mapping[str, Any]
    not_final: int
    transferred: int
    gone: int
    forecast: billing.Forecast | None


def read_month(
    where: Location,
    month: str,
    *,
    grouping: str | None,
    timezone: str,
    now_ms: int,
    markup: Any,
    close: bool = True,
) -> Month:
    """The statement of a month, YYYY-MM in the time zone. With `close`, close it if it can be.

    `grouping` is account, agent, metadata.NAME or None. Raises ValueError for an
    invalid month, StoreUnavailable, and what `reading` raises.
    """
    first, following = billing.month_days(month)
    zone = ZoneInfo(timezone)
    since, until = (midnight_ms(day, zone) for day in (first, following))
    bounds = {"since": since, "until": until}
    with reading(where) as connection:
        days = {"first": first.isoformat(), "next": following.isoformat()}
        has_days = engine(where).views_match(connection, timezone)
        groups = _sums(connection, grouping, bounds, days if has_days else None)
        [unsettled] = connection.execute(
            _OPEN, bounds | {"settled": now_ms - SETTLED_MS}
        ).fetchone()
        [missing] = connection.execute(_MISSING, days).fetchone()
        not_final, transferred, gone = connection.execute(_EXPLAINED, bounds).fetchone()
        closed = connection.execute(_CLOSED, (month, grouping or "", timezone)).fetchone()
    predicted = None
    if since <= now_ms < until:
        spending = read_spending(where, None, [""], timezone=timezone, now_ms=now_ms)
        predicted = spending.forecast
    if close and closed is None and now_ms >= until and not unsettled:
        sums = billing.dump(groups, lambda key: _stored_key(grouping, key))
        closed = (now_ms, sums)
        _close(where, (month, grouping or "", timezone, now_ms, sums))
    shown, changed = groups, []
    if closed:
        names = {_stored_key(grouping, key): (key, sums.name) for key, sums in groups.items()}
        shown = billing.load(closed[1], names)
        changed = billing.corrections(shown, groups)
    return Month(
        billing.statement(
            month,
            grouping,
            shown,
            markup=markup,
            closed_at=closed[0] if closed else None,
            corrections=changed,
        ),
        is_over=now_ms >= until,
        unsettled=unsettled,
        missing=int(missing),
        products=billing.sum_products(groups.values()),
        not_final=not_final,
        transferred=transferred,
        gone=gone,
        forecast=predicted,
    )


def _close(where: Location, row: tuple[Any, ...]) -> None:
    store = open_store(where)
    try:
        store.run(lambda c: c.execute(_CLOSE, row) and None)
    finally:
        store.close()


def _stored_key(grouping: str | None, key: str) -> str:
    """The key of a group in a closed month. A value of metadata may be personal and must not remain
    after an erasure, so only its hash is stored."""
    if key and grouping and grouping.startswith(METADATA):
        return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    return key


def _sums(
    connection: Connection,
    grouping: str | None,
    bounds: dict[str, int],
    days: dict[str, str] | None,
) -> dict[str, Sums]:
    """Exact sums by group, including chats; without `days`, computed from single calls."""
    is_by_metadata = grouping is not None and grouping.startswith(METADATA)
    # Rolled-up days have no metadata.
    groups = _sums_of_calls(connection, grouping, bounds, None if is_by_metadata else days)
    # Only this grouping needs metadata, which are long.
    metadata = "c.metadata" if is_by_metadata else "NULL"
    rows = connection.execute(_CHATS.format(metadata=metadata), bounds).fetchall()
    _add_chats(groups, grouping, rows)
    return groups


def _sums_of_calls(
    connection: Connection,
    grouping: str | None,
    bounds: dict[str, int],
    days: dict[str, str] | None,
) -> dict[str, Sums]:
    """Sums of calls by group, from rolled-up days or without `days` from single calls."""
    key, named = _key(grouping)
    name = "max(c.agent_name)" if grouping == "agent" else "NULL"
    calls, products = (_CALLS, _PRODUCTS) if days is None else (_CALLS_OF_DAYS, _PRODUCTS_OF_DAYS)
    span = named | (bounds if days is None else days)
    groups: dict[str, Sums] = {}
    for group, label, count, duration_ms, total in connection.execute(
        calls.format(key=key, name=name), span
    ).fetchall():
        groups[group] = Sums(label or "", count, 0, int(duration_ms), billing.cents(total))
    amounts = defaultdict[Any, list[float]](list)
    for group, product, total in connection.execute(products.format(key=key), span).fetchall():
        amounts[group, product.replace("-", "_")].append(total or 0.0)
    if days is not None:
        without_cost = connection.execute(_WITHOUT_COST.format(key=key), named | bounds).fetchall()
        for group, product, total in without_cost:
            amounts[group, product.replace("-", "_")].append(-(total or 0.0))
    # Rounded once, so that the order of the addition does not matter.
    for (group, product), parts in amounts.items():
        if (amount := billing.sum_cents(parts)) or min(parts) >= 0:
            groups[group].products[product] = amount
    return groups


def _key(grouping: str | None) -> tuple[str, dict[str, Any]]:
    """SQL for the key of a call's group, and its parameters."""
    if grouping and grouping.startswith(METADATA):
        return _KEYS[METADATA], {"name": grouping.removeprefix(METADATA)}
    return _KEYS[grouping], {}


def of_groups(grouping: str | None, keys: Collection[str]) -> tuple[str, dict[str, Any]]:
    """The condition for a call `c` of some groups, and its parameters."""
    column, named = _key(grouping)
    values = {f"key_{number}": key for number, key in enumerate(keys)}
    return f"{column} IN ({', '.join(f':{name}' for name in values)})", named | values


def key_of_chat(
    grouping: str | None, account: str | None, agent_id: str | None, metadata: str | None
) -> str:
    """The key of a chat's group; `metadata` is JSON."""
    if grouping and grouping.startswith(METADATA):
        return text(json.loads(metadata or "{}").get(grouping.removeprefix(METADATA))) or ""
    return {None: "", "account": account or "", "agent": agent_id or ""}[grouping]


def _add_chats(
    groups: dict[str, Sums], grouping: str | None, rows: Iterable[Sequence[Any]]
) -> None:
    """Add the sums of chats, the rows of `_CHATS`."""
    names = dict[str, str]()
    totals, products = defaultdict[str, list[float]](list), defaultdict[Any, list[float]](list)
    for account, agent_id, agent_name, metadata, total, costs in rows:
        key = key_of_chat(grouping, account, agent_id, metadata)
        names[key] = max(names.get(key, ""), agent_name or "")
        groups.setdefault(key, Sums()).chats += 1
        if total is None:
            continue
        totals[key].append(total)
        for part in msgspec.json.decode(costs or "[]"):
            products[key, part.get("product") or ""].append(part.get("cost") or 0.0)
    for key, name in names.items():
        groups[key].name = groups[key].name or (name if grouping == "agent" else "")
    for key, amounts in totals.items():
        groups[key].total += billing.sum_cents(amounts)
    for (key, product), amounts in products.items():
        groups[key].add(product, billing.sum_cents(amounts))


def _days_of_forecast(zone: ZoneInfo, now_ms: int) -> tuple[date, date]:
    """The first day whose cost a forecast needs, and today."""
    today = datetime.fromtimestamp(now_ms / 1000, zone).date()
    return min(today.replace(day=1), today - timedelta(days=billing.FORECAST_DAYS)), today


@dataclass(frozen=True, slots=True)
class Spending:
    """The spending of groups: cents by day, and the cost of the month of `today`."""

    today: date
    days: Mapping[date, float]

    @property
    def month(self) -> str:
        """YYYY-MM."""
        return f"{self.today:%Y-%m}"

    @property
    def cents(self) -> float:
        """The cost of the month until now."""
        month = [c for day, c in self.days.items() if f"{day:%Y-%m}" == self.month]
        return round(sum(month), 6)

    @property
    def forecast(self) -> billing.Forecast | None:
        """The forecast cost of the month; None with too few days before today."""
        return billing.forecast(self.days, self.today)

    def percent_of(self, dollars: float) -> float:
        """The cost of the month until now, in percent of a budget."""
        return self.cents / dollars

    def day_of(self, dollars: float) -> date | None:
        """The day on which the month is expected to reach a cost; None if it is not."""
        return billing.day_reached(self.days, self.today, 100 * dollars)


def read_spending(
    where: Location, grouping: str | None, keys: Collection[str], *, timezone: str, now_ms: int
) -> Spending:
    """The cost of the calls and chats of groups this month and in the weeks before.

    `grouping` is as for `read_month`, `keys` are the groups. Raises what `reading` raises.
    """
    zone = ZoneInfo(timezone)
    first, today = _days_of_forecast(zone, now_ms)
    bounds = {"since": midnight_ms(first, zone), "until": now_ms}
    condition, named = of_groups(grouping, keys)
    days: dict[date, float] = {}

    def add(at_ms: int, cents: float | None) -> None:
        day = datetime.fromtimestamp(at_ms / 1000, zone).date()
        days[day] = days.get(day, 0.0) + (cents or 0.0)

    with reading(where) as connection:
        since = bounds["since"]
        is_by_metadata = grouping is not None and grouping.startswith(METADATA)
        if not is_by_metadata and engine(where).views_match(connection, timezone):
            # Only calls before now.
            since = midnight_ms(today, zone)
            span = {"first": first.isoformat(), "today": today.isoformat()}
            of_days = connection.execute(_DAYS.format(condition=condition), named | span)
            for day, cents in of_days.fetchall():
                days[date.fromisoformat(day)] = cents or 0.0
        quarters = connection.execute(
            _QUARTERS.format(condition=condition), named | bounds | {"since": since}
        )
        for quarter, cents in quarters.fetchall():
            add(quarter * 900_000, cents)
        if is_by_metadata:
            for at_ms, metadata, cents in connection.execute(_CHAT_TIMES, bounds).fetchall():
                if key_of_chat(grouping, None, None, metadata) in keys:
                    add(at_ms, cents)
        else:
            chats = _QUARTERS_OF_CHATS.format(condition=condition)
            for quarter, cents in connection.execute(chats, named | bounds).fetchall():
                add(quarter * 900_000, cents)
    return Spending(today, days)
