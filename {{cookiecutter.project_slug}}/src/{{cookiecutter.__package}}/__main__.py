"""The command line: ``python -m <package> fit``, or the console script that is named after the project."""

import sys

from . import commands, signals


def main() -> int:
    """Run the command that the first argument names, and return the exit code."""
    signals.install()  # a signal may come in the seconds that the import of torch and Lightning takes
    if command := commands.find(sys.argv[1:]):
        return command(sys.argv[2:])
    from . import train

    return train.main()


if __name__ == "__main__":
    raise SystemExit(main())
