"""The command line: ``python -m <package> fit``, or the console script that is named after the project."""

import sys
from typing import Any

from . import runtime


def read(paths: Any, facts: Any) -> Any:
    """Read new inputs for a model that was exported."""
    from . import inputs  # here, for NumPy takes longer than most commands that need no torch

    return inputs.read(paths, facts)


def rows(columns: Any, facts: Any) -> Any:
    """Turn what an exported model predicted into a table, in the project's own way if it has one."""
    from . import inputs
    from .runtime.predictions import table

    own = getattr(inputs, "rows", None)
    return own(columns, facts) if own else table(columns, facts.get("class_names"))


def main() -> int:
    """Run the command that the first argument names, and return the exit code."""
    code = runtime.early(sys.argv[1:], read, rows)  # commands that need no torch
    if code is None:
        from . import train

        code = train.main(sys.argv[1:])
    return code


if __name__ == "__main__":
    raise SystemExit(main())
