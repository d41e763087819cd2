"""The command line: ``python -m <package> fit``, or the console script that is named after the project."""

import sys

from . import inputs, runtime


def main() -> int:
    """Run the command that the first argument names, and return the exit code."""
    code = runtime.early(sys.argv[1:], getattr(inputs, "read", None))
    if code is not None:
        return code
    from . import train  # torch and Lightning take seconds to import

    return train.main()


if __name__ == "__main__":
    raise SystemExit(main())
