"""Measurements, each a ratio against something in the same run. `make bench` runs them."""

KEY = "key_0123456789abcdef0123456789ab"
