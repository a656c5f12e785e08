"""The `callhouse` command. In: arguments and settings. Out: printed results and an exit status.

Exit status: 0 done, 1 something is wrong or incomplete, 2 unusable arguments or settings.
A module for each kind of work adds its commands to the group `main`. All modules are imported here,
so a new command needs no entry in a list.
"""

from importlib import import_module
from pkgutil import iter_modules

from receiver.cli.group import main

__all__ = ["main"]

for _module in iter_modules(__path__):
    # `python -m receiver.cli.document` must not find itself imported.
    if _module.name != "document":
        import_module(f"{__name__}.{_module.name}")
