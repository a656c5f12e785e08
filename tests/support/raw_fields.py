"""Fields as JSON bytes."""

import json
from collections.abc import Mapping
from typing import Any


def raw_fields(fields: Mapping[str, Any]) -> dict[str, bytes]:
    """Python values -> raw fields, as `schema.events` finds them in a body."""
    return {name: json.dumps(value).encode() for name, value in fields.items()}
