"""What a hub that refuses means: asked of a real server on this machine, through the hub's own library."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

# in a process of its own: the library reads where the hub is when it is imported
ASKED = """
import json, os, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REFUSALS = {"gated": (403, "GatedRepo"), "private": (401, "RepoNotFound"), "expired": (401, "")}

class Hub(BaseHTTPRequestHandler):
    def do_GET(self):
        code, name = next((REFUSALS[key] for key in REFUSALS if key in self.path), (404, "RepoNotFound"))
        self.send_response(code)
        if name:
            self.send_header("X-Error-Code", name)
        self.send_header("Content-Length", "0")
        self.end_headers()
    do_HEAD = do_GET
    def log_message(self, *arguments):
        pass

hub = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=hub.serve_forever, daemon=True).start()
os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{hub.server_port}"

from limpet.errors import LimpetError
from limpet.training.base.locate import resolve
from limpet.training.data.reading.sources import read_source

said = {}
for token in ("", "hf_secret"):
    os.environ["HF_TOKEN"] = token
    for name in REFUSALS:
        for kind in ("model", "dataset"):
            try:
                if kind == "model":
                    resolve(f"org/{name}")
                else:
                    read_source(f"hub:org/{name}", None, None, target_columns=("label",))
            except LimpetError as error:
                key = f"{name} {kind}{' with a token' if token else ''}"
                said[key] = [error.exit_code, error.message, error.hint.replace(os.environ["HF_ENDPOINT"], "HUB")]
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, str]]:
    ours = {"HF_HUB_OFFLINE": "0", "HF_DATASETS_OFFLINE": "0", "HF_HOME": str(tmp_path_factory.mktemp("hf"))}
    done = subprocess.run(
        [sys.executable, "-c", ASKED], capture_output=True, text=True, check=True, env={**os.environ, **ours}
    )
    assert "hf_secret" not in done.stdout
    answers: dict[str, tuple[int, str, str]] = json.loads(done.stdout)
    return answers


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_what_is_gated_names_where_to_ask_for_access(said: dict[str, tuple[int, str, str]], kind: str) -> None:
    page = "HUB/org/gated" if kind == "model" else "HUB/datasets/org/gated"
    code, message, hint = said[f"gated {kind}"]
    assert code == 1 and "org/gated is gated" in message and "there is no token here" in message
    assert hint == f"hf auth login, or export HF_TOKEN=..., with an account that has access by {page}"
    code, message, hint = said[f"gated {kind} with a token"]
    assert code == 1 and "was not let in" in message
    assert hint == f"ask for access at {page}, then run the command again"


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_what_is_private_or_absent_is_not_found(said: dict[str, tuple[int, str, str]], kind: str) -> None:
    code, message, hint = said[f"private {kind}"]
    assert code == 3 and "org/private" in message and "hf auth login" in hint
    code, message, hint = said[f"private {kind} with a token"]
    assert code == 3 and "none that this machine's token may read" in message and "hf auth whoami" in hint


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_token_that_is_not_accepted_is_named(said: dict[str, tuple[int, str, str]], kind: str) -> None:
    code, message, hint = said[f"expired {kind} with a token"]
    assert code == 1 and message == "The hub does not accept the token of this machine, for org/expired."
    assert "unset HF_TOKEN" in hint
