"""The `callhouse` command. Exit status: 0 done, 1 something is wrong, 2 unusable arguments.

A module for each kind of work; importing it adds its commands to the group.
"""

from receiver.cli import (
    access,
    calling,
    copying,
    distributing,
    exporting,
    fetching,
    mirroring,
    objects,
    running,
    sandbox,
    webhook,
)
from receiver.cli.group import main

__all__ = [
    "access",
    "calling",
    "copying",
    "distributing",
    "exporting",
    "fetching",
    "main",
    "mirroring",
    "objects",
    "running",
    "sandbox",
    "webhook",
]
