"""A deep-learning project: `train` names its two classes. They, and what they import, are to be read and changed.

`fit` and `load` are for Python and notebooks; `fit` takes the options of the command line.
"""

from typing import Any

from .runtime.python import Project


def _main(args: Any) -> Any:
    from . import train  # here, for torch takes seconds to import, and some commands do without

    return train.main(args)


_project = Project(_main)
fit, load = _project.fit, _project.load
