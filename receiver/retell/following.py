"""Waiting for a placed call in the warehouse, as its webhooks arrive."""

from collections.abc import Callable

from receiver.addresses import Location
from receiver.store import CallState, state_of

POLL_SECONDS = 0.5
# A call that has ended is analysed within seconds; one without an analysis never is.
ANALYSIS_SECONDS = 60.0


def follow(
    where: Location,
    call_id: str,
    *,
    timeout_seconds: float,
    changed: Callable[[CallState], None],
    sleep: Callable[[float], None],
    monotonic: Callable[[], float],
) -> CallState | None:
    """Wait until the call is analysed, or for a while after its end; return its last state.

    `changed` is called with each new call_status. None or an unfinished state means that
    `timeout_seconds` have passed. Raises the driver's errors.
    """
    began = monotonic()
    ended_at: float | None = None
    last: CallState | None = None
    while True:
        state = state_of(where, call_id)
        now = monotonic()
        if state is not None:
            if last is None or state.call_status != last.call_status:
                changed(state)
            last = state
            if state.level >= 3:
                return state
            if state.level == 2:
                ended_at = now if ended_at is None else ended_at
                if now - ended_at >= ANALYSIS_SECONDS:
                    return state
        if now - began >= timeout_seconds:
            return last
        sleep(POLL_SECONDS)
