"""Files with the official JavaScript client, as Convex's documentation has a browser upload and show them."""

from pathlib import Path

from tests.servers import copy_fixture, javascript, output, running, start_dev


def test_upload_show_and_delete(tmp_path: Path) -> None:
    """URLs are used as they come: `dev` knows under which address it is reached."""
    server = start_dev(copy_fixture(tmp_path / "app"))
    with running(server):
        assert output(javascript("js_files", server.url)) == [
            ["uploaded", [200, "string"]],
            ["served by", [True, True]],
            ["downloaded", [200, "image/png", 700_000, True]],
            ["part", [206, "bytes 251-255/700000", [0, 1, 2, 3, 4]]],
            ["preflight", [200, "https://app.example", "content-type"]],
            ["row", [True, 700_000, "image/png", ["_creationTime", "_id", "contentType", "sha256", "size"]]],
            ["reversed", True],
            ["of nothing", None],
            ["after", [None, 404, []]],
            ["again", True],
        ]
