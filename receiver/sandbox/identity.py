"""What a call object holds from its creation on: ids, agent, line, headers, variables."""

from __future__ import annotations

from random import Random
from typing import Any

from receiver.sandbox.companies import AGENTS
from receiver.sandbox.plans import Plan
from receiver.sandbox.script import Slots, fill
from receiver.sandbox.wire import hex_digits


class Account:
    """The ids that all calls of one day share."""

    def __init__(self, rng: Random) -> None:
        self.agent_ids = {agent.key: f"agent_{hex_digits(rng, 26)}" for agent in AGENTS}
        self.organisation = f"org_{hex_digits(rng, 16)}"
        self.batch = f"batch_call_{hex_digits(rng, 20)}"
        self.twilio_account = f"AC{hex_digits(rng, 32)}"


def identity(rng: Random, account: Account, plan: Plan, slots: Slots) -> dict[str, Any]:
    """Return the fields of a registered call."""
    agent = plan.agent
    call_id = f"call_{hex_digits(rng, 27)}"
    known: dict[str, Any] = {
        "call_id": call_id,
        "call_type": "web_call" if plan.kind.web else "phone_call",
        "agent_id": account.agent_ids[agent.key],
        "agent_version": plan.version.number,
        "agent_name": plan.version.name,
    }
    if agent.tagged:
        known["agent_tag"] = plan.version.tag
    line = _web(rng) if plan.kind.web else _phone(rng, account, plan, slots, call_id)
    variables = fill(agent.variables, slots) | line.pop("carrier_variables")
    if variables:
        known["retell_llm_dynamic_variables"] = variables
    if agent.metadata:
        known["metadata"] = fill(agent.metadata, slots)
    if agent.campaign:
        known["batch_call_id"] = account.batch
    known["data_storage_setting"] = agent.storage
    known["opt_in_signed_url"] = agent.signed_urls
    return known | line


def _web(rng: Random) -> dict[str, Any]:
    token = f"eyJhbGciOiJIUzI1NiJ9.{hex_digits(rng, 96)}.{hex_digits(rng, 43)}"
    return {"custom_sip_headers": {}, "access_token": token, "carrier_variables": {}}


def _phone(rng: Random, account: Account, plan: Plan, slots: Slots, call_id: str) -> dict[str, Any]:
    call_sid = f"CA{hex_digits(rng, 32)}"
    if plan.outbound:
        ours, theirs = ("from_number", "to_number")
        carrier: dict[str, str] = {}
        headers = {
            "X-RetellAI-CallId": call_id,
            "X-RetellAI-Direction": "Outbound",
            "X-RetellAI-OrgId": account.organisation,
        }
    else:
        ours, theirs = ("to_number", "from_number")
        carrier = {
            "lk-real-ip": f"203.0.113.{rng.randrange(1, 255)}",
            "twilio-callsid": call_sid,
            "twilio-accountsid": account.twilio_account,
            "lk-transport": rng.choice(("udp", "tls")),
        }
        headers = {f"x-{name}": value for name, value in carrier.items()}
    return {
        "custom_sip_headers": headers,
        theirs: "anonymous" if plan.kind.anonymous else slots["e164"],
        ours: plan.agent.number,
        "direction": plan.kind.script.direction,
        "telephony_identifier": {"twilio_call_sid": call_sid},
        "carrier_variables": carrier,
    }
