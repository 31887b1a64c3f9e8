"""What of a project is uploaded, in which form, and that no upload can do harm where it is unpacked."""

import io
import stat
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.errors import DeployRefused, InvalidArgument
from reactor.limits import MAX_DEPLOY_FILES
from reactor.runtime.project import read_options
from reactor.server.deploys.archive import pack, unpack
from reactor.server.deploys.selection import project_files

MOST = 10_000
NAMES = st.lists(
    st.from_regex(r"[a-z_][a-z0-9_.]{0,8}", fullmatch=True).filter(lambda part: not part.startswith(".")),
    min_size=1,
    max_size=4,
).map("/".join)


def written(folder: Path, files: dict[str, bytes]) -> dict[str, Path]:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return {name: folder / name for name in files}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@given(st.dictionaries(NAMES, st.binary(max_size=200), max_size=6))
def test_an_archive_gives_back_what_was_packed_and_depends_on_nothing_else(files: dict[str, bytes]) -> None:
    folders = {parent for name in files for parent in Path(name).parents}
    files = {name: content for name, content in files.items() if Path(name) not in folders}
    with TemporaryDirectory() as place:
        first, second, target = (Path(place, name) for name in ("first", "second", "target"))
        for folder in (first, second, target):
            folder.mkdir()
        data = pack(written(first, files))
        assert data == pack(dict(reversed(written(second, files).items())))
        assert unpack(data, target, MOST) == len(files)
        assert contents(target) == files


def archive(
    *entries: tuple[str, bytes], mode: int = stat.S_IFREG | 0o644, packing: int = zipfile.ZIP_DEFLATED
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries:
            entry = zipfile.ZipInfo("x")
            entry.filename = name  # as it is: the constructor would make it harmless
            entry.external_attr = mode << 16
            entry.compress_type = packing
            file.writestr(entry, content)
    return buffer.getvalue()


def doubled() -> bytes:
    with pytest.warns(UserWarning, match="Duplicate name"):
        return archive(("a", b"1"), ("a", b"2"))


def lying() -> bytes:
    """An archive that says of a large file that it is small."""
    size = MOST * 10
    return archive(("a", b"x" * size)).replace(size.to_bytes(4, "little"), (10).to_bytes(4, "little"))


HOSTILE: dict[str, Callable[[], bytes]] = {
    "climbing": lambda: archive(("../out", b"1")),
    "climbing inside": lambda: archive(("a/../../out", b"1")),
    "absolute": lambda: archive(("/tmp/reactor-out", b"1")),
    "a drive": lambda: archive(("C:out", b"1")),
    "a backslash": lambda: archive(("..\\out", b"1")),
    "hidden": lambda: archive((".env", b"1")),
    "hidden below": lambda: archive(("a/.git/config", b"1")),
    "an empty part": lambda: archive(("a//b", b"1")),
    "no name": lambda: archive(("", b"1")),
    "a control character": lambda: archive(("a\nb", b"1")),
    "a long name": lambda: archive(("a" * 300, b"1")),
    "deep": lambda: archive(("a/" * 100 + "b", b"1")),
    "a link": lambda: archive(("a", b"/etc/passwd"), mode=stat.S_IFLNK | 0o777),
    "a device": lambda: archive(("a", b""), mode=stat.S_IFCHR | 0o666),
    "a folder": lambda: archive(("a/", b"")),
    "twice": doubled,
    "a file and a folder": lambda: archive(("a", b"1"), ("a/b", b"2")),
    "a folder and a file": lambda: archive(("a/b", b"1"), ("a", b"2")),
    "empty": lambda: b"",
    "text": lambda: b"hello",
    "half": lambda: archive(("a", b"x" * 5000))[:100],
    "damaged": lambda: archive(("a", b"\x00\xff" * 3), packing=zipfile.ZIP_STORED).replace(b"\x00\xff", b"\x00\xfe", 1),
    "an unusual packing": lambda: archive(("a", b"x" * 100), packing=zipfile.ZIP_BZIP2),
    "a lie about sizes": lying,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_is_written_outside_whatever_an_archive_says(name: str, tmp_path: Path) -> None:
    data = HOSTILE[name]()
    target = tmp_path / "inner" / "target"
    target.mkdir(parents=True)
    with pytest.raises(DeployRefused) as refused:
        unpack(data, target, MOST)
    assert refused.value.rule == "InvalidArchive"
    assert [path for path in contents(tmp_path) if not path.startswith("inner/target/")] == []
    assert not Path("/tmp/reactor-out").exists()


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=8))
def test_garbled_archives_are_refused_or_harmless(changes: list[tuple[int, int]]) -> None:
    data = bytearray(archive(("a.py", b"x = 1\n" * 20), ("b/c.py", b"y = 2\n")))
    for place, byte in changes:
        data[place % len(data)] = byte
    with TemporaryDirectory() as place:
        target = Path(place, "target")
        target.mkdir()
        with suppress(DeployRefused):
            unpack(bytes(data), target, MOST)
        assert set(Path(place).iterdir()) == {target}


def test_bombs_and_swarms(tmp_path: Path) -> None:
    with pytest.raises(DeployRefused, match=f"REACTOR_DEPLOY_BYTES={MOST}") as refused:
        unpack(archive(("a", b"x" * MOST), ("b", b"x")), tmp_path, MOST)
    assert refused.value.rule == "DeployTooLarge"
    with pytest.raises(DeployRefused, match=f"{MAX_DEPLOY_FILES + 1} files"):
        unpack(archive(*((f"f{number}", b"") for number in range(MAX_DEPLOY_FILES + 1))), tmp_path, MOST)


APP = {
    "schema.py": b"import tables",
    "tables.py": b"",
    "functions/a.py": b"def later():\n    from shared import tool\n",
    "functions/deep/b.py": b"import own_component",
    "functions/prompt.txt": b"hello",
    "shared/__init__.py": b"",
    "shared/tool.py": b"import far",
    "shared/data.json": b"{}",
    "far.py": b"",
    "own_component/__init__.py": b"",
    "own_component/functions/c.py": b"import only_there",
    "only_there.py": b"",
    "pyproject.toml": b'[tool.reactor]\ndeploy = ["keys.json", "texts"]\n',
    "keys.json": b"{}",
    "texts/one.txt": b"1",
}
LEFT_OUT = {
    ".env": b"SECRET",
    ".env.local": b"SECRET",
    ".git/config": b"",
    ".reactor/dev.json": b"KEY",
    "functions/__pycache__/a.pyc": b"",
    "functions/.hidden.py": b"",
    "texts/.env": b"SECRET",
    "node_modules/x/index.js": b"",
    "unrelated.py": b"",
    "other/notes.txt": b"",
    "tests/test_a.py": b"",
    "_generated/api.py": b"",
}


def test_what_the_server_needs_and_nothing_else(tmp_path: Path) -> None:
    written(tmp_path, APP | LEFT_OUT)
    assert set(project_files(tmp_path, read_options(tmp_path))) == set(APP)


def test_generated_python_goes_along_where_it_is_imported(tmp_path: Path) -> None:
    generated = {"_generated/__init__.py": b"", "_generated/api.py": b"", "_generated/api.d.ts": b""}
    written(tmp_path, {"functions/a.py": b"from _generated import api"} | generated)
    assert sorted(project_files(tmp_path, read_options(tmp_path))) == [
        "_generated/__init__.py",
        "_generated/api.py",
        "functions/a.py",
    ]


def test_functions_further_down(tmp_path: Path) -> None:
    files = {
        "pyproject.toml": b'[tool.reactor]\nfunctions = "src/functions"\nschema = "src/schema.py"\n',
        "src/schema.py": b"import src.tables",
        "src/tables.py": b"",
        "src/functions/a.py": b"",
    }
    written(tmp_path, files | {"src/unrelated.py": b""})
    assert set(project_files(tmp_path, read_options(tmp_path))) == set(files)


def test_links_that_lead_out_of_the_project(tmp_path: Path) -> None:
    root = tmp_path / "app"
    written(root, {"functions/a.py": b"", "secrets.py": b""})
    written(tmp_path, {"outside.py": b"", "folder/x.py": b""})
    (root / "functions" / "inside.py").symlink_to("../secrets.py")
    assert set(project_files(root, read_options(root))) == {"functions/a.py", "functions/inside.py"}
    (root / "functions" / "out.py").symlink_to("../../outside.py")
    with pytest.raises(InvalidArgument, match=r"out\.py is a link that leads out of the project"):
        project_files(root, read_options(root))
    (root / "functions" / "out.py").unlink()
    (root / "functions" / "more").symlink_to("../../folder")
    with pytest.raises(InvalidArgument, match="more is a link to a folder"):
        project_files(root, read_options(root))


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/passwd", "missing.txt", "."])
def test_extras_are_in_the_project(name: str, tmp_path: Path) -> None:
    (tmp_path / "outside.txt").write_text("")
    root = tmp_path / "app"
    written(root, {"functions/a.py": b"", "pyproject.toml": f'[tool.reactor]\ndeploy = ["{name}"]\n'.encode()})
    with pytest.raises(InvalidArgument, match="which is not in the project"):
        project_files(root, read_options(root))
