"""``push OWNER/NAME``: put an exported model and its card on the Hugging Face hub. It imports no torch."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import UserError, reason, require
from . import PROGRAM, exports

FILES = ("README.md", "model.onnx", "model.pt2", "reference.json")  # what `export` writes and others may read


def main(args: list[str]) -> int:
    """Make the repository if it is not there, and put the files there in one commit: all of them, or none.

    Raises:
        UserError: Nothing was exported, the hub refuses, or it can't be reached.
    """
    text = (
        "Put what export has written, with its model card and the run's config.yaml, on the Hugging Face hub, as a"
        " model. A new repository is private. Log in before by: hf auth login, or set HF_TOKEN."
    )
    parser = argparse.ArgumentParser(f"{PROGRAM} push", description=text, allow_abbrev=False)
    parser.add_argument("repository", metavar="OWNER/NAME", help="the model's repository on the hub")
    parser.add_argument("run", nargs="?", metavar="RUN", help="name or folder of a run (default: the newest finished)")
    parser.add_argument("--public", action="store_true", help="where the repository is new, everybody can see it")
    options = parser.parse_args(args)
    require("hub", "huggingface_hub")
    folder, run = exports.find(options.run)
    sent = [file for name in FILES if (file := folder / name).is_file()] + ([run.config_file] if run else [])
    address = _push(options.repository, sent, run.name if run else folder.name, not options.public)
    print(f"{address}: {', '.join(file.name for file in sent)}")
    return 0


def _push(repository: str, files: list[Path], name: str, private: bool) -> str:
    """Send the files, and return the repository's address."""
    from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    if get_token() is None:
        raise UserError("push needs a token of the Hugging Face hub that may write: hf auth login, or HF_TOKEN.")
    hub, operations = HfApi(), [CommitOperationAdd(file.name, file) for file in files]
    try:
        address = hub.create_repo(repository, private=private, exist_ok=True)
        hub.create_commit(address.repo_id, operations, commit_message=f"Run {name}")
        return str(address)
    except (HFValidationError, OfflineModeIsEnabled) as error:
        raise UserError(reason(error)) from error
    except HfHubHTTPError as error:
        raise UserError(f"the hub refuses {repository}: {error.server_message or reason(error)}") from error
    except Exception as error:  # whatever a network raises
        raise UserError(
            f"{constants.ENDPOINT} can't be reached, or the sending broke off: {reason(error)}. Nothing has changed in"
            f" {repository}, for all files come there in one commit. Type the same command again."
        ) from error
