"""The command line: ``python -m <package> fit``, or the console script that is named after the project."""

import sys
from typing import Any

from . import runtime


def read(paths: Any, facts: Any) -> Any:
    """Read new inputs for a model that was exported."""
    from . import inputs  # here, for NumPy takes longer than most commands that need no torch

    return inputs.read(paths, facts)


def main() -> int:
    """Run the command that the first argument names, and return the exit code."""
    code = runtime.early(sys.argv[1:], read)  # commands that need no torch
    if code is None:
        from . import train

        code = train.main(sys.argv[1:])
    return code


if __name__ == "__main__":
    raise SystemExit(main())
