"""Methods that do something at one of their calls."""

from collections.abc import Callable
from functools import wraps
from itertools import count
from typing import Any


def acting(method: Any, call: int, act: Callable[[], None], after: bool = False) -> Any:
    """Return a method whose call of this number, from 1, does something before or after its work."""
    calls = count(1)

    @wraps(method)
    def changed(*args: Any, **kwargs: Any) -> Any:
        is_call = next(calls) == call
        if is_call and not after:
            act()
        result = method(*args, **kwargs)
        if is_call and after:
            act()
        return result

    return changed
