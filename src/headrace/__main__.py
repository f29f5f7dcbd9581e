"""The command line: `headrace ...` and `python -m headrace ...`; everything else is in headrace.engine.cli."""

from headrace.engine.cli.app import main

if __name__ == "__main__":
    main()
