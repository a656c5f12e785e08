"""Calls and chats that cost something, in October 2026 in Berlin."""

from datetime import datetime
from zoneinfo import ZoneInfo

ZONE = "Europe/Berlin"
DAY_MS = 86_400_000


def at(text) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(ZONE)).timestamp() * 1000)


SINCE, UNTIL = at("2026-10-01"), at("2026-11-01")


def call(call_id, start, cost, **fields):
    products = [{"product": name, "cost": cents} for name, cents in cost.items()]
    content = {
        "call_id": call_id,
        "start_timestamp": start,
        "end_timestamp": start + 90_000,
        "duration_ms": 90_000,
        "call_status": "ended",
        "call_cost": {"combined_cost": sum(cost.values()), "product_costs": products},
    }
    return {"event": "call_ended", "call": content | fields}


def chat(chat_id, start, cost, **fields):
    products = [{"product": name, "cost": cents} for name, cents in cost.items()]
    chat = {
        "chat_id": chat_id,
        "chat_status": "ended",
        "start_timestamp": start,
        "chat_cost": {"combined_cost": sum(cost.values()), "product_costs": products},
    }
    return {"event": "chat_ended", "chat": chat | fields}
