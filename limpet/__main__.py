"""Runs the command line as `python -m limpet`."""

from limpet.cli import main

if __name__ == "__main__":
    main()
