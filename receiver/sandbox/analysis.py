"""What Retell's analysis makes of a call after it."""

from __future__ import annotations

from random import Random
from typing import Any

from receiver.sandbox.kinds import CUT_SHORT
from receiver.sandbox.plans import Plan
from receiver.sandbox.script import Slots, fill

# What an analysis writes where the talk gave no answer; all three are seen.
_NO_ANSWER = ("", "N/A", None)


def call_analysis(rng: Random, plan: Plan, slots: Slots) -> dict[str, Any]:
    """Return the analysis of a call that connected."""
    if plan.reason.startswith("error_"):
        return no_conversation() | {"in_voicemail": False}
    if plan.agent.storage == "basic_attributes_only":
        return {
            "in_voicemail": False,
            "user_sentiment": plan.ending.sentiment,
            "call_successful": plan.ending.successful and plan.reason != CUT_SHORT,
        }
    if plan.reason == CUT_SHORT:
        return _cut_short(rng, plan)
    return {
        "in_voicemail": plan.reason == "voicemail_reached",
        "call_summary": fill(plan.ending.summary, slots),
        "user_sentiment": _sentiment(rng, plan.ending.sentiment),
        "custom_analysis_data": fill(plan.ending.analysis, slots),
        "call_successful": plan.ending.successful,
    }


def no_conversation() -> dict[str, Any]:
    """Return the analysis of a call in which nobody spoke."""
    return {
        "call_summary": "",
        "user_sentiment": "Unknown",
        "call_successful": False,
        "custom_analysis_data": {},
    }


def second_opinion(analysis: dict[str, Any]) -> dict[str, Any]:
    """Return what a re-run of the same analysis finds: it differs, as such re-runs do."""
    custom = analysis.get("custom_analysis_data", {})
    again = analysis | {
        "user_sentiment": "Positive",
        "call_successful": not analysis["call_successful"],
        "custom_analysis_data": custom | {"follow-up?": True},
    }
    # Where little may be stored there was no summary, and there is none again.
    if "call_summary" in analysis:
        summary = f"{analysis['call_summary']} The caller may be worth a follow-up."
        again["call_summary"] = summary.lstrip()
    return again


def _cut_short(rng: Random, plan: Plan) -> dict[str, Any]:
    return {
        "in_voicemail": False,
        "call_summary": f"The caller hung up before {plan.kind.script.goal}.",
        "user_sentiment": rng.choice(("Negative", "Neutral")),
        "custom_analysis_data": {key: rng.choice(_NO_ANSWER) for key in plan.ending.analysis},
        "call_successful": False,
    }


def _sentiment(rng: Random, usual: str) -> str:
    return "Neutral" if usual == "Positive" and rng.random() < 0.2 else usual
