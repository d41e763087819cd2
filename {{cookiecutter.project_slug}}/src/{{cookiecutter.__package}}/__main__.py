"""Run the trainer script: ``python -m <package> fit``."""

from . import signals

if __name__ == "__main__":
    signals.install()  # a signal may come in the seconds that the import of torch and Lightning takes
    from .train import main

    raise SystemExit(main())
