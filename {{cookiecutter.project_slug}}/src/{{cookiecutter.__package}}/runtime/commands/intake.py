"""The inputs of a request: written as files, and read as `predict` reads them, so that both predict the same."""

from __future__ import annotations

import csv
import json
import re
import warnings
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import HTTPException, Request
from starlette.datastructures import UploadFile

from ..errors import UserError, reason
from . import statistics

CELLS = 300_000  # of a table in a request: ten megabytes of commas would take gigabytes
EXAMPLE = '{"inputs": […]}'
Arrays = Mapping[str, np.ndarray]


class Intake:
    """Turn requests into what the model takes.

    Args:
        facts: What is stored with the model.
        read: The project's function that reads files.
        options: The limits of `serve`.
    """

    def __init__(self, facts: dict[str, Any], read: Callable[..., Any], options: Namespace) -> None:
        self.facts, self.read, self.options = facts, read, options
        self.kind = "rows" if "columns" in facts else "texts" if "tokenizer" in facts else "images"
        if self.kind == "images":
            from PIL import Image

            Image.MAX_IMAGE_PIXELS = options.max_pixels  # Pillow looks at it before it decodes an image
            warnings.simplefilter("error", Image.DecompressionBombWarning)

    async def write(self, request: Request, folder: Path) -> tuple[dict[Path, str], int | None]:
        """Write a request's inputs as files; return what each is called, and of JSON the number of inputs.

        What a sender calls a file is never a path: of it, letters and digits of its end are used alone.

        Raises:
            HTTPException: With a sentence that says what is wrong.
        """
        most, kind = self.options.max_inputs, request.headers.get("content-type", "").partition(";")[0].strip().lower()
        request = Request(request.scope, _limited(request.receive, self.options.max_bytes))
        if kind == "application/json" and self.kind != "images":
            file, inputs = folder / "inputs.csv", _inputs(await request.body(), most)
            self._write_csv(file, inputs)
            return {file: ""}, len(inputs)
        if kind != "multipart/form-data":
            way = "files in the field files of multipart/form-data"
            way += f", or {self.kind} as JSON: {EXAMPLE}" * (self.kind != "images")
            raise HTTPException(415, f"the model takes {way}; the request is {kind or 'of no type'}.")
        async with request.form(max_files=most, max_fields=most) as form:
            uploads = [upload for upload in form.getlist("files") if isinstance(upload, UploadFile)]
            if not uploads:
                raise HTTPException(422, "the form has no files in its field files.")
            files = {}
            for i, upload in enumerate(uploads):
                end = re.search(r"\.(?!gz$)[a-z0-9]{1,5}$", (upload.filename or "").lower())
                file, content = folder / f"{i}{end.group() if end else ''}", await upload.read()
                self._check_size(content)
                file.write_bytes(content)
                files[file] = (upload.filename or f"file {i + 1}")[:200]
        return files, None

    def _check_size(self, content: bytes) -> None:
        if self.kind == "images":
            return
        lines, most = max(content.count(b"\n"), content.count(b"\r")), 10 * self.options.max_inputs
        cells = lines + max(content.count(separator) for separator in (b",", b";", b"\t", b"|"))
        if lines > most or cells > CELLS:
            raise HTTPException(413, f"a file has more than {most} lines or {CELLS} cells. Send it in parts.")

    def _write_csv(self, file: Path, inputs: list[Any]) -> None:
        """Write rows or texts as the CSV file that `predict` would be given."""
        if self.kind == "texts":
            names, body = [self.facts.get("text", "text")], []
        else:  # with a number: a row of missing values is a row too
            names, body = [max(self.facts["columns"], key=len, default="") + "#", *self.facts["columns"]], []
        for i, value in enumerate(inputs):
            if not isinstance(value, str if self.kind == "texts" else dict):
                raise HTTPException(422, f"input {i} is no {'text' if self.kind == 'texts' else 'object of columns'}.")
            if isinstance(value, str):
                body.append([value])
                continue
            if missing := [name for name in names[1:] if name not in value]:
                text = f"input {i} lacks columns: {', '.join(missing[:5])}. A missing value is null."
                raise HTTPException(422, text)
            row = [value[name] for name in names[1:]]
            if any(isinstance(cell, dict | list | bool) for cell in row):
                raise HTTPException(422, f"input {i} has a value that is no number, text or null.")
            body.append([i, *("" if cell is None else cell for cell in row)])
        try:
            with file.open("w", encoding="utf-8", newline="") as stream:
                csv.writer(stream, quoting=csv.QUOTE_ALL).writerows([names, *body])
        except UnicodeEncodeError as error:
            raise HTTPException(422, "an input has half a character (a lone surrogate).") from error

    def read_all(self, files: dict[Path, str], count: int | None) -> tuple[list[str], list[Arrays], list[str]]:
        """Return the names, arrays and statistics (JSON) of all inputs.

        Raises:
            HTTPException: With a sentence that says what is wrong.
        """
        names, arrays, kept, most = [], [], [], self.options.max_inputs
        try:
            for name, found in self.read([*files], self.facts):
                if isinstance(found, str):
                    raise UserError(f"{name}: {found}.")
                if len(arrays) == most:
                    raise HTTPException(413, f"there are more than {most} inputs. Send them in parts.")
                names.append(name)
                arrays.append(found)
                kept.append(json.dumps(statistics.of_input(found, self.facts), ensure_ascii=False))
        except HTTPException:
            raise
        except Exception as error:  # decoders raise errors of many types
            text = str(error) if isinstance(error, UserError) else f"the input can't be read: {reason(error)}."
            for file, given in files.items():
                text = text.replace(str(file), given or "inputs")
            raise HTTPException(422, text[:1000]) from error
        if count is not None and count != len(arrays):
            raise HTTPException(422, f"of {count} inputs, {count - len(arrays)} are empty.")
        return names, arrays, kept


def _inputs(body: bytes, most: int) -> list[Any]:
    try:
        inputs = json.loads(body)["inputs"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise HTTPException(422, f"the request is no JSON object such as {EXAMPLE}.") from error
    if not isinstance(inputs, list) or not inputs:
        raise HTTPException(422, "inputs must be a list of at least one input.")
    if len(inputs) > most:
        raise HTTPException(413, f"there are {len(inputs)} inputs, and at most {most} are taken. Send them in parts.")
    return inputs


def _limited(receive: Callable[..., Any], most: int) -> Callable[..., Any]:
    """Receive a request's body up to a number of bytes, whatever its header says of it."""
    count = 0

    async def limited() -> Any:
        nonlocal count
        message = await receive()
        count += len(message.get("body", b""))
        if count > most:
            raise HTTPException(413, f"the request has more than {most} bytes. Send its inputs in parts.")
        return message

    return limited
