"""The library's wheel: `cruft update` says "Good work" even if it could not bring the new one."""

import tomllib
import zipfile
from pathlib import Path

PROJECT = Path(__file__).parents[1]


def test_vendor_has_the_wheel_that_pyproject_names() -> None:
    pyproject = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = pyproject["tool"]["uv"]["sources"]["lightning-runs"]["path"]  # the library is published? Remove this file
    assert [f"vendor/{file.name}" for file in PROJECT.glob("vendor/lightning_runs-*.whl")] == [wheel]
    assert "lightning-runs @ {root:uri}/" + wheel in pyproject["project"]["dependencies"]
    assert zipfile.ZipFile(PROJECT / wheel).testzip() is None
