"""Sums of one account. Rollups are by agent, and an agent may have calls of several accounts."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from schema.sql.macros import plain
from schema.sql.rollups import ROLLUPS
from schema.sql.zones import Zone

# Each pair of account and agent of the calls from `:since` until `:until`. Each step to the next
# account is a search of calls_account, and its last row is null.
AGENTS_BY_ACCOUNT = plain("""
WITH RECURSIVE accounts (name) AS (
    SELECT min(account) FROM calls
    UNION ALL
    SELECT (SELECT min(c.account) FROM calls c WHERE c.account > a.name)
    FROM accounts a WHERE a.name IS NOT NULL
)
SELECT DISTINCT a.name AS account, c.agent_id
FROM accounts a CROSS JOIN calls c
WHERE c.account IS a.name AND call_time(c) >= :since AND call_time(c) < :until
""")
_VIEW = re.compile(r"\bFROM ((?:hourly|daily)_\w+) h\b")
_VIEWS = {
    view: rollup
    for rollup in ROLLUPS
    if "agent_id" in rollup.columns
    for view in (rollup.hourly, rollup.daily)
}
# Ids that need no escapes in SQL.
_PLAIN_ID = re.compile(r"[\w-]+")


@dataclass(frozen=True, slots=True)
class AccountFigures:
    """Replaces views of sums by the sums of the account `:account`.

    `agents` have calls of this account only, so their sums are those of the view. With
    `has_others`, sums of other agents are computed from the calls between `since` and `until`, in
    milliseconds.
    """

    agents: tuple[str, ...]
    has_others: bool
    timezone: str
    since: int
    until: int

    def rows(self, view: str) -> str:
        """The SELECT that replaces a view; views of waits are not replaced, because they have no
        agents."""
        rollup = _VIEWS.get(view)
        if rollup is None:
            return f"SELECT * FROM {view}"
        own = "IN ('" + "', '".join(self.agents) + "')"
        rows = f"SELECT * FROM {view} h WHERE h.agent_id {own}"
        if not self.has_others:
            return rows
        calls = (
            f"SELECT c.* FROM calls c WHERE c.account = :account AND call_time(c) >= {self.since} "
            f"AND call_time(c) < {self.until} AND (c.agent_id IS NULL OR c.agent_id NOT {own})"
        )
        zone = Zone(self.timezone)
        if view == rollup.hourly:
            counted = rollup.hours_of(calls)
        else:
            local = zone.local_ms("h.hour", self.since, self.until)
            counted = rollup.days_of(calls, f"strftime('%Y-%m-%d', {local} / 1000, 'unixepoch')")
        hour = zone.words["local_hour"]
        counted = re.sub(r"\blocal_hour\((call_time\(c\))\)", lambda m: hour(m[1]), counted)
        return plain(f"{rows}\nUNION ALL\nSELECT * FROM (\n{counted}\n)")


def account_figures(
    account: str,
    pairs: Iterable[tuple[str | None, str | None]],
    timezone: str,
    *,
    span: tuple[int, int],
) -> AccountFigures:
    """The sums of an account in a span of time; `pairs` are its accounts and agents."""
    found = set(pairs)
    agents = {agent for name, agent in found if name == account}
    shared = {agent for name, agent in found if name != account}
    own = {agent for agent in agents - shared if agent and _PLAIN_ID.fullmatch(agent)}
    return AccountFigures(tuple(sorted(own)), own != agents, timezone, *span)


def narrow(sql: str, of_account: AccountFigures | None) -> str:
    """SQL that reads `FROM daily_calls h`, or another view of figures, for an account alone."""
    if of_account is None:
        return sql
    return _VIEW.sub(lambda match: f"FROM ({of_account.rows(match[1])}) h", sql)
