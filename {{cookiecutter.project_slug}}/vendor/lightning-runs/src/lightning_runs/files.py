"""Files that are written whole or not at all, and their paths in messages."""

import contextlib
import os
import secrets
from pathlib import Path


def write_whole(file: Path, content: str | bytes | memoryview, previous: Path | None = None) -> None:
    """Write a file, or leave it as it was. Bytes, unlike text, are on the disk when this returns.

    An existing file is renamed to the path ``previous`` first; None overwrites it.
    """
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            if not isinstance(content, str):
                stream.flush()
                os.fsync(stream.fileno())
        if previous is not None and file.exists():
            os.replace(file, previous)
        os.replace(temporary, file)
    except OSError as error:
        error.filename = error.filename or str(file)  # a full disk names none
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def relative_path(path: Path) -> str:
    """Return a path as a user would type it: relative if it lies below the working directory."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
