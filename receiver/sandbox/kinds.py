"""The kinds of calls that every sandbox day holds, so that no kind is left to luck."""

from __future__ import annotations

from dataclasses import dataclass

from receiver.sandbox.script import Script
from receiver.sandbox.scripts.claim_status import CLAIM_STATUS
from receiver.sandbox.scripts.dental import BOOKING
from receiver.sandbox.scripts.guests import QUESTION
from receiver.sandbox.scripts.hotel import RESERVATION
from receiver.sandbox.scripts.insurance import CLAIM
from receiver.sandbox.scripts.plumber import EMERGENCY
from receiver.sandbox.scripts.quotes import QUOTE
from receiver.sandbox.scripts.reminders import REMINDER
from receiver.sandbox.scripts.restaurant import CHANGE, TABLE
from receiver.sandbox.scripts.shop import ORDER, RETURN
from receiver.sandbox.scripts.solar import LEAD, VOICEMAIL

# The caller hangs up in the middle; Retell calls it `user_hangup`.
CUT_SHORT = "cut_short"
# Reasons of calls in which nobody ever spoke.
NOT_CONNECTED = ("dial_no_answer", "dial_busy", "dial_failed", "user_declined")
NEVER_STARTED = (*NOT_CONNECTED, "concurrency_limit_reached")


@dataclass(frozen=True)
class Kind:
    """A call to hold: without `ending` the version's success rate decides; `reason` overrules it.

    `twist` says what is odd about the deliveries that report it (see `twists`).
    """

    agent: str
    script: Script
    ending: str = ""
    reason: str = ""
    web: bool = False
    twist: str = ""
    session: bool = False
    anonymous: bool = False


PROMISED = (
    Kind("dental", BOOKING, "booked", twist="inbound"),
    Kind("plumber", EMERGENCY, "dispatched", twist="late_started"),
    Kind("hotel", RESERVATION, "reserved", session=True),
    Kind("shop", ORDER, "on its way", web=True, twist="updates"),
    Kind("restaurant", TABLE, "reserved"),
    Kind("insurance", CLAIM, "handed over"),
    Kind("solar", LEAD, "survey booked", session=True, twist="tool_request"),
    Kind("solar", VOICEMAIL, "message left"),
    Kind("solar", LEAD, reason="dial_no_answer"),
    Kind("solar", LEAD, reason="dial_busy"),
    Kind("dental_night", BOOKING, "booked"),
    Kind("insurance", CLAIM, "endless queue"),
    Kind("dental", BOOKING, "went silent"),
    Kind("insurance", CLAIM, reason="error_llm_websocket_open"),
    Kind("shop", ORDER, reason="error_no_audio_received", web=True),
    Kind("solar", LEAD, reason="concurrency_limit_reached"),
    Kind("dental", REMINDER, "kept"),
    Kind("plumber", EMERGENCY, "dispatcher down", anonymous=True),
    Kind("restaurant", CHANGE, "no room"),
    Kind("shop", RETURN, "gave up waiting", web=True),
    Kind("hotel", QUESTION, "put through"),
    Kind("insurance", CLAIM, "nobody free"),
    Kind("dental", BOOKING, "just taken", twist="duplicate"),
    Kind("insurance", CLAIM_STATUS, "good news", twist="analyzed_first"),
    Kind("hotel", RESERVATION, "too dear", twist="reanalysed"),
    Kind("plumber", QUOTE, "visit booked", twist="reviewed"),
    Kind("shop", RETURN, "label sent", twist="unanalysed"),
    Kind("plumber", EMERGENCY, reason=CUT_SHORT),
    Kind("insurance", CLAIM, "opened", twist="ongoing"),
    Kind("solar", LEAD, "not interested", twist="updates"),
    Kind("dental", REMINDER, reason="user_declined"),
    Kind("hotel", QUESTION, "answered"),
    Kind("restaurant", TABLE, "full"),
    Kind("insurance", CLAIM, "opened"),
)
