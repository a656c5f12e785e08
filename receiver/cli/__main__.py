"""`python -m receiver.cli` is the `callhouse` command."""

from receiver.cli import main

if __name__ == "__main__":
    main()
