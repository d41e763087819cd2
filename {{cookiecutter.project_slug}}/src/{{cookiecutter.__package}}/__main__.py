"""Run the trainer script: ``python -m <package> fit``."""

from .train import main

if __name__ == "__main__":
    raise SystemExit(main())
