"""Whose calls these are: invented companies and the voice agents that answer for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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
from receiver.sandbox.scripts.solar import LEAD


@dataclass(frozen=True)
class Version:
    """One version of an agent: how often it succeeds and how fast it answers."""

    number: int
    name: str
    success: float
    reply_ms: int
    tag: str | None = None


@dataclass(frozen=True)
class Agent:
    """A voice agent: what it says, what it costs, and what Retell may keep of its calls."""

    key: str
    country: str
    number: str
    versions: tuple[Version, ...]
    scripts: tuple[Script, ...]
    products: tuple[tuple[str, float], ...]  # (product, cents per minute)
    share: float  # of the calls that a day is filled up with
    storage: str = "everything"
    flow: bool = False
    custom_llm: bool = False
    tagged: bool = False
    knowledge_base: bool = False
    signed_urls: bool = False
    web_share: float = 0.0
    campaign: bool = False
    transfer_to: str = ""
    transfer_type: str = "cold_transfer"
    max_seconds: float = 540.0
    event_timestamps: bool = True  # undocumented, and not every account has them
    metadata: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)


_NORA = "Nora - Front Desk"
_SAM = "Sam | Spring Roofs"

AGENTS = (
    Agent(
        key="dental",
        country="US",
        number="+14155550142",
        versions=(
            Version(3, f"{_NORA} v3", 0.6, 1450),
            Version(4, f"{_NORA} v4", 0.9, 880, "production"),
        ),
        scripts=(BOOKING, REMINDER),
        products=(("elevenlabs_tts", 7.0), ("gpt_4_1_mini_high_priority", 2.4)),
        share=18,
        tagged=True,
        variables={"practice": "Harbour Lane Dental", "opening_hours": "Mon-Fri 8:00-18:00"},
    ),
    Agent(
        key="dental_night",
        country="US",
        number="+14155550143",
        versions=(Version(2, "Nora - After Hours", 0.8, 1010),),
        scripts=(BOOKING,),
        products=(("elevenlabs_tts", 7.0), ("gpt_4o_mini", 0.6)),
        share=6,
        storage="basic_attributes_only",
    ),
    Agent(
        key="plumber",
        country="DE",
        number="+493023125400",
        versions=(
            Version(0, "Rohrwerk Notdienst V1.0", 0.5, 1900),
            Version(1, "Rohrwerk Notdienst V1.1 – schnellere Antworten", 0.88, 1150),
        ),
        scripts=(EMERGENCY, QUOTE),
        products=(
            ("voice_engine", 5.5),
            ("gpt-4o-mini", 0.6),
            ("background_voice_cancellation", 0.5),
        ),
        share=15,
        flow=True,
    ),
    Agent(
        key="hotel",
        country="ES",
        number="+34555010900",
        versions=(Version(2, "Alba · Recepción", 0.82, 990, "temporada alta"),),
        scripts=(RESERVATION, QUESTION),
        products=(("elevenlabs_tts", 7.0), ("gemini_2_0_flash", 0.6)),
        share=13,
        storage="everything_except_pii",
        tagged=True,
        signed_urls=True,
        transfer_to="+34555010911",
        metadata={"hotel": {"id": "marisma-01", "idioma": "es"}, "canal": "teléfono"},
        variables={"desayuno": "de 7:30 a 11:00", "nombre": "{first}"},
    ),
    Agent(
        key="shop",
        country="FR",
        number="+33199004520",
        versions=(Version(11, "Camille (suivi de commande)", 0.78, 1080),),
        scripts=(ORDER, RETURN),
        products=(("elevenlabs_tts", 7.0), ("gpt_4o_mini", 0.6), ("knowledge_base", 0.5)),
        share=14,
        knowledge_base=True,
        web_share=0.6,
        metadata={"session": {"page": "/suivi", "panier": "P-{ref}"}, "langue": "fr-FR"},
        variables={"prénom": "{first}", "commande": "ML-{ref}"},
    ),
    Agent(
        key="restaurant",
        country="JP",
        number="+81300007310",
        versions=(Version(1, "美月・予約受付", 0.8, 1240),),
        scripts=(TABLE, CHANGE),
        products=(("voice_engine", 5.5), ("gemini_2_0_flash", 0.6)),
        share=10,
        flow=True,
        event_timestamps=False,
        variables={"店名": "割烹ふじなみ"},
    ),
    Agent(
        key="insurance",
        country="GB",
        number="+442079460120",
        versions=(
            Version(7, "Edith (claims)", 0.55, 1680),
            Version(8, "Edith (claims)", 0.9, 1040),
        ),
        scripts=(CLAIM, CLAIM_STATUS),
        products=(("elevenlabs_tts", 7.0), ("background_voice_cancellation", 0.5)),
        share=11,
        custom_llm=True,
        tagged=True,
        transfer_to="+442079460188",
        transfer_type="warm_transfer",
        metadata={"policy": {"number": "KV-{ref}", "line": "motor", "years": 4}, "vip": False},
    ),
    Agent(
        key="solar",
        country="US",
        number="+12065550117",
        versions=(
            Version(5, f"{_SAM} v5", 0.42, 1380, "spring-a"),
            Version(6, f"{_SAM} v6 (shorter intro)", 0.85, 940, "spring-b"),
        ),
        scripts=(LEAD,),
        products=(("elevenlabs_tts", 7.0), ("gpt_4_1_mini_high_priority", 2.4)),
        share=24,
        tagged=True,
        campaign=True,
        metadata={
            "lead": {"id": "L-{ref}", "source": "open house", "score": 72},
            "campaign": "spring-roofs",
            "crm": {"contact_id": "{ref}"},
        },
        variables={"customer_name": "{customer}", "email": "{email}", "lead_id": "L-{ref}"},
    ),
)


def agent_named(key: str) -> Agent:
    """Return the agent of that key."""
    return next(agent for agent in AGENTS if agent.key == key)
