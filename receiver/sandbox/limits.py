"""Retell's rate limits: how many requests a route may have in how long."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from receiver.errors import Refusal

RATE_LIMITED = "Account rate limited, please throttle your requests."


@dataclass(frozen=True)
class Limit:
    """At most `requests` within `window_ms`."""

    requests: int
    window_ms: int


# Per account and route; `create_errors` counts what create-phone-call refused.
LIMITS: Mapping[str, Limit] = {
    "create": Limit(1000, 10_000),
    "create_errors": Limit(60, 60_000),
    "list": Limit(15, 10_000),
    "other": Limit(100, 10_000),
}


@dataclass
class RateLimiter:
    """The requests of the last window, route by route. Not thread-safe by itself."""

    limits: Mapping[str, Limit]
    _seen: dict[tuple[str, str], deque[int]] = field(default_factory=dict)

    def admit(self, name: str, route: str, now_ms: int) -> dict[str, str]:
        """Count a request and return its headers. Raises Refusal 429 when there is no room."""
        self.check(name, route, now_ms)
        return self.count(name, route, now_ms)

    def check(self, name: str, route: str, now_ms: int) -> None:
        """Raise Refusal 429 when there is no room, without counting."""
        limit = self.limits.get(name)
        if limit is not None:
            seen = self._within(name, route, limit, now_ms)
            if len(seen) >= limit.requests:
                raise Refusal(429, RATE_LIMITED, _headers(name, limit, seen, now_ms))

    def count(self, name: str, route: str, now_ms: int) -> dict[str, str]:
        """Count a request and return its headers; none where there is no limit."""
        limit = self.limits.get(name)
        if limit is None:
            return {}
        seen = self._within(name, route, limit, now_ms)
        seen.append(now_ms)
        return _headers(name, limit, seen, now_ms)

    def _within(self, name: str, route: str, limit: Limit, now_ms: int) -> deque[int]:
        seen = self._seen.setdefault((name, route), deque())
        while seen and seen[0] <= now_ms - limit.window_ms:
            seen.popleft()
        return seen


def _headers(name: str, limit: Limit, seen: deque[int], now_ms: int) -> dict[str, str]:
    until_ms = (seen[0] if seen else now_ms) + limit.window_ms - now_ms
    return {
        "X-RateLimit-Limiter": name,
        "RateLimit-Limit": str(limit.requests),
        "RateLimit-Remaining": str(limit.requests - len(seen)),
        "RateLimit-Reset": str(max(1, -(-until_ms // 1000))),
    }
