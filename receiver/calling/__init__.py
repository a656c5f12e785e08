"""Placing calls, one or a list in which nobody is called twice, and waiting for their end."""

from receiver.calling.placing import Placed, place_call

__all__ = ["Placed", "place_call"]
