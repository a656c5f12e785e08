"""`callhouse`, and `python -m receiver`, which is the same command."""

import os
import sys
from pathlib import Path

import schema


def main() -> None:
    """Run the command. Exits with status 2 if another package named `schema` is imported."""
    ours = Path(__file__).parent.parent / "schema"
    if list(map(Path, getattr(schema, "__path__", []))) != [ours]:
        print(
            f"Error: another package named schema is imported instead of callhouse's: "
            f"{schema.__file__}\n"
            "  Install callhouse in an environment of its own, for example with pipx.",
            file=sys.stderr,
        )
        sys.exit(2)
    # Files that this process and its children create are readable only by their owner.
    os.umask(0o077)
    try:
        # Imported here: it imports `schema`.
        from receiver.cli import main

        main(prog_name="callhouse")
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
