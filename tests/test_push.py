"""``push`` against a stand-in of the hub's HTTP interface, on loopback: what arrives, and what is said."""

import base64
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from project import PACKAGE, TEMPLATE, clean_environment

TOKEN = "hf_of_a_test"
BINARY = bytes(range(256)) * 300  # what a model file holds is of no matter here


class Hub(ThreadingHTTPServer):
    """Takes a repository, its large files, and a commit; ``break_at`` names a path at which it hangs up."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.created: list[dict[str, Any]] = []
        self.large: dict[str, bytes] = {}
        self.files: dict[str, bytes] = {}
        self.commits: list[str] = []
        self.break_at: str | None = None
        self.status = 200
        self.address = f"http://127.0.0.1:{self.server_port}"

    def answer(self, path: str, body: bytes) -> Any:
        """The answer to a request, as https://huggingface.co/docs/hub/api and the client have it."""
        if path == "/api/repos/create":
            self.created.append(json.loads(body))
            name = "{organization}/{name}".format(**self.created[-1])
            return {"url": f"{self.address}/{name}", "name": name, "id": "1"}
        if path == "/api/validate-yaml":
            card = json.loads(body)["content"]
            assert yaml.safe_load(card.split("---")[1])["library_name"] == "onnx"
            return {"errors": [], "warnings": []}
        if "/preupload/" in path:
            asked = [file["path"] for file in json.loads(body)["files"]]
            return {"files": [{"path": p, "uploadMode": self.mode(p), "shouldIgnore": False} for p in asked]}
        if path.endswith("/objects/batch"):
            found = json.loads(body)["objects"]
            for item in found:  # what has arrived is not asked for again
                if item["oid"] not in self.large:
                    item["actions"] = {"upload": {"href": f"{self.address}/large/{item['oid']}"}}
            return {"transfer": "basic", "objects": found}
        if path.startswith("/large/"):
            self.large[path.removeprefix("/large/")] = body
            return {}
        assert "/commit/" in path, path
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                self.commits.append(value["summary"])
            elif line["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            else:
                self.files[value["path"]] = self.large[value["oid"]]
        return {"commitUrl": f"{self.address}/me/digits/commit/1", "commitOid": "1" * 40, "success": True}

    def mode(self, path: str) -> str:
        """Whether a file is sent by itself."""
        return "lfs" if path.startswith("model.") else "regular"


class Handler(BaseHTTPRequestHandler):
    """Hands what arrives to the hub."""

    server: Hub  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:
        """Answer, refuse, or hang up in the middle."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.server.break_at and self.server.break_at in self.path:
            self.connection.close()
            return
        refused = not self.path.startswith("/large/") and self.headers.get("Authorization") != f"Bearer {TOKEN}"
        status = 401 if refused else self.server.status
        found = self.server.answer(self.path, body) if status == 200 else {"error": "Invalid username or password."}
        self.send_response(status)
        text = json.dumps(found).encode()
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_PUT = do_POST  # noqa: N815

    def log_message(self, *args: Any) -> None:
        """Be silent."""


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the machinery, and a finished run with the files of an export."""
    folder = tmp_path_factory.mktemp("push")
    (folder / "src").mkdir()
    (folder / "src" / PACKAGE).symlink_to(TEMPLATE / "src" / "{{cookiecutter.__package}}", target_is_directory=True)
    (folder / "configs").mkdir()
    (folder / "configs" / "default.yaml").write_text("trainer: {}\n")
    for name in ("first", "plain"):
        run = folder / "runs" / name
        run.mkdir(parents=True)
        (run / "config.yaml").write_text("seed_everything: 0\n")
        (run / "run.json").write_text(json.dumps({"status": "finished", "started": "2026-01-01T00:00:00"}))
    export = folder / "runs" / "first" / "export"
    export.mkdir()
    (export / "README.md").write_text("---\nlibrary_name: onnx\nlicense: mit\n---\n\n# Model card: first\n")
    (export / "model.onnx").write_bytes(BINARY)
    (export / "model.pt2").write_bytes(BINARY[::-1])
    (export / "predictions.sqlite").write_bytes(b"what people have sent")
    return folder


def push(project: Path, address: str, *args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command; large files are sent as by Git LFS, the older of the hub's two ways."""
    environment = clean_environment(project) | {"HF_ENDPOINT": address, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
    environment |= variables
    command = [sys.executable, "-m", PACKAGE, "push", *args]
    return subprocess.run(command, cwd=project, env=environment, text=True, capture_output=True, timeout=120)


def test_the_model_its_card_and_the_configuration_arrive_in_one_commit(project, hub):
    done = push(project, hub.address, "me/digits", "first")

    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{hub.address}/me/digits: README.md, model.onnx, model.pt2, config.yaml\n"
    assert hub.commits == ["Run first"]
    assert hub.created[0]["visibility"] == "private"
    run = project / "runs" / "first"
    sent = {name: (run / "export" / name).read_bytes() for name in ("README.md", "model.onnx", "model.pt2")}
    assert hub.files == {**sent, "config.yaml": (run / "config.yaml").read_bytes()}  # and nothing that was served


def test_a_repository_is_public_only_where_that_is_asked_for(project, hub):
    assert push(project, hub.address, "me/digits", "first", "--public").returncode == 0
    assert hub.created[0]["visibility"] == "public"


def test_what_broke_off_changed_nothing_and_is_sent_by_the_same_command(project, hub):
    hub.break_at = "/commit/"
    broken = push(project, hub.address, "me/digits", "first")

    assert broken.returncode == 1
    assert hub.files == {}
    assert re.search(
        rf"^error: {re.escape(hub.address)} can't be reached, or the sending broke off: .+\. Nothing has changed in"
        r" me/digits, for all files come there in one commit\. Type the same command again\.$",
        broken.stderr,
        re.MULTILINE,
    )
    assert len(hub.large) == 2
    hub.break_at = "/large/"  # they have arrived, so nobody asks for them again
    assert push(project, hub.address, "me/digits", "first").returncode == 0
    assert len(hub.files) == 4


@pytest.mark.parametrize(
    ("args", "variables", "told"),
    [
        (
            ("me/digits",),
            {"HF_TOKEN": ""},
            "error: push needs a token of the Hugging Face hub that may write: hf auth login, or HF_TOKEN.\n",
        ),
        (
            ("me/digits", "first"),
            {"HF_TOKEN": "hf_wrong"},
            "error: the hub refuses me/digits: Invalid username or password.\n",
        ),
        (("me/digits", "first"), {"HF_HUB_OFFLINE": "1"}, "error: Cannot reach http://127.0.0.1:"),
        (("a b/c", "first"), {}, "error: Repo id must use alphanumeric chars"),
        (
            ("me/digits", "plain"),
            {},
            f"error: plain was not exported. Write its files with: python -m {PACKAGE} export plain\n",
        ),
        (("me/digits", "none"), {}, "error: there is no run none in runs (newest: "),
    ],
    ids=["no token", "a wrong token", "offline", "a wrong name", "not exported", "no run"],
)
def test_what_can_not_be_sent_is_told_in_a_line(project, hub, args, variables, told):
    args = (*args, "first") if len(args) == 1 else args
    done = push(project, hub.address, *args, **variables)

    assert done.returncode == 1
    assert done.stderr.startswith(told), done.stderr
    assert done.stderr.count("\n") == 1
    assert hub.files == {}


def test_the_machine_of_a_cloud_goes_on_with_a_run(bake_project):
    task = yaml.safe_load((bake_project() / "scripts" / "skypilot.yaml").read_text())

    assert 'fit --run "$RUN" --resume --trainer.default_root_dir ~/runs' in task["run"]
    assert task["file_mounts"]["~/runs"]["mode"] == "MOUNT_CACHED"


@pytest.mark.slow
def test_skypilot_reads_its_file(bake_project, tmp_path):
    """SkyPilot has a hundred packages, so it gets an environment of its own."""
    file = bake_project({"accelerator": "gpu"}) / "scripts" / "skypilot.yaml"
    python = tmp_path / "environment" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "skypilot"], check=True)
    code = f"import sky; task = sky.Task.from_yaml({str(file)!r}); print(task.run, task.resources, task.storage_mounts)"
    done = subprocess.run([python, "-c", code], cwd=file.parents[1], text=True, capture_output=True, check=True)

    assert '--run "$RUN" --resume' in done.stdout
    assert "L4" in done.stdout
