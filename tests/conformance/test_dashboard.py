"""The example page in a real browser: it is built with Vite, served as files, and shows what others write."""

import functools
import http.server
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers import ROOT, copy_application, javascript, output, running, start_dev

HERE = Path(__file__).parent
DASHBOARD = ROOT / "examples" / "dashboard"
NO_REQUEST = "succeeded\n\u2013\nlatency\n\u2013\ntokens\n0\ncost\n$0.00"


@pytest.fixture(scope="session")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert found, "the page is tested in Chromium: run `make setup`, or install it (Debian: apt-get install chromium)"
    return found


def build(target: Path, server_url: str, site_url: str) -> None:
    """Build the page as a newcomer would, for a server."""
    assert (DASHBOARD / "node_modules" / "vite").is_dir(), "run `make setup`, or `npm ci` in examples/dashboard"
    subprocess.run(
        ["npm", "run", "--silent", "build", "--", "--outDir", target, "--emptyOutDir", "--logLevel", "warn"],
        cwd=DASHBOARD,
        env=os.environ | {"VITE_CONVEX_URL": server_url, "VITE_CONVEX_SITE_URL": site_url},
        check=True,
        timeout=50,
    )


@contextmanager
def files_served(folder: Path) -> Iterator[str]:
    """Serve the files of a folder, as any web server would, and yield their address."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("folder", [HERE, DASHBOARD], ids=lambda folder: folder.name)
def test_packages_come_from_whatever_registry_is_configured(folder: Path) -> None:
    assert '"resolved"' not in (folder / "package-lock.json").read_text(encoding="utf-8")


def test_page(tmp_path: Path, chromium: str) -> None:
    project = copy_application(tmp_path / "app")
    server = start_dev(project, "--data", ":memory:", env={"AI_PUBLIC_LOGGING": "true"})
    screenshot = ROOT / "build" / "dashboard.png"
    with running(server):
        key = json.loads((project / ".reactor" / "dev.json").read_text())["adminKey"]
        build(tmp_path / "page", server.url, server.site_url)
        with files_served(tmp_path / "page") as url:
            steps = dict(output(javascript("js_dashboard", url, server.url, key, chromium, str(screenshot))))
    assert steps == {
        "at first": [NO_REQUEST, "20"],
        "pushed": ["succeeded\n50%\nlatency\n1.5 sec\ntokens\n2,000\ncost\n$0.50", "0"],
        "from the page": 1,
        "bots": ["blocked"] + 5 * ["challenged"] + 2 * ["allowed"],
        "first page": [11, "sample m m m19 m18 m17 m16 m15 m14 m13 m12"],
        "second page": 19,
        "last page": [23, "m0"],
        "skipped": ["Choose a provider to see its minutes.", 0],
        "asked for": [True, ["overloaded", "ok"]],
        "loads": 1,
        "unauthenticated": "Sign in",
        "loading": "Signing in…",
        "authenticated": "Signed in as Ann\nSign out",
        "remembered": "Signed in as Ann\nSign out",
        "errors": [],
        "with a scope": "2",
        "signed out": "Sign in",
        "refused": "There is no sign-in without a provider unless AI_PUBLIC_LOGGING=true is set.\nSign in",
    }
