"""Fuzz one target, guided by what it covers of our code.

`python -m tests.fuzz.run TARGET [libFuzzer's arguments]`
"""

import sys

import atheris

with atheris.instrument_imports(include=["receiver", "schema"]):
    from tests.fuzz.targets import TARGETS

atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
atheris.Fuzz()
