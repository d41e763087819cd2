"""The command line: ``python -m PACKAGE fit``, or the console script that is named after the project."""

from . import project

main = project.main

if __name__ == "__main__":
    raise SystemExit(main())
