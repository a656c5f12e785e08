"""`python -m receiver.cli` is the `callhouse` command."""

from receiver.__main__ import main

if __name__ == "__main__":
    main()
