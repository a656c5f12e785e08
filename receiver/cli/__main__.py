"""`python -m receiver.cli` is the `callhouse` command."""

from receiver.cli import main

main()
