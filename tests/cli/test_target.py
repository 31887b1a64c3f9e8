"""Which server a command talks to, and what `dev` writes for it."""

import stat
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.cli.target import (
    KEY_VARIABLE,
    URL_VARIABLE,
    Target,
    dev_file,
    find_target,
    remove_dev_file,
    with_variables,
    write_dev_file,
    write_env_local,
)
from reactor.errors import InvalidArgument

DEV = Target("http://127.0.0.1:3210", "name|abc", 7, "http://127.0.0.1:3211")
ENVIRON = {URL_VARIABLE: "http://env", KEY_VARIABLE: "env|key"}


def test_flags_win_over_environment_and_file(tmp_path: Path) -> None:
    write_dev_file(tmp_path, DEV)
    assert find_target("http://flag", "flag|key", ENVIRON, tmp_path) == Target("http://flag", "flag|key")


def test_a_flag_does_not_borrow_the_key_of_another_server(tmp_path: Path) -> None:
    assert find_target("http://flag", None, ENVIRON, tmp_path) == Target("http://flag", None)


def test_environment_wins_over_file(tmp_path: Path) -> None:
    write_dev_file(tmp_path, DEV)
    assert find_target(None, None, ENVIRON, tmp_path) == Target("http://env", "env|key")


@pytest.mark.parametrize("url", ["127.0.0.1:3210", "localhost", "ftp://host", "http://"])
def test_what_is_no_url_is_refused_with_an_example(tmp_path: Path, url: str) -> None:
    with pytest.raises(InvalidArgument, match=r"expected something like 'http://127\.0\.0\.1:3210'"):
        find_target(url, None, {}, tmp_path)
    with pytest.raises(InvalidArgument, match="expected something like"):
        find_target(None, None, {URL_VARIABLE: url}, tmp_path)


def test_an_empty_variable_names_nothing(tmp_path: Path) -> None:
    write_dev_file(tmp_path, DEV)
    assert find_target(None, None, {URL_VARIABLE: "", KEY_VARIABLE: ""}, tmp_path) == DEV


def test_the_running_dev_is_found(tmp_path: Path) -> None:
    write_dev_file(tmp_path, DEV)
    assert find_target(None, None, {}, tmp_path) == DEV


def test_no_server_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="reactor dev"):
        find_target(None, None, {}, tmp_path)


def test_a_key_needs_its_url(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="--url"):
        find_target(None, "key", {}, tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"url": 3}'])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    write_dev_file(tmp_path, DEV)
    dev_file(tmp_path).write_bytes(content)
    with pytest.raises(InvalidArgument, match=r"dev\.json"):
        find_target(None, None, {}, tmp_path)


def test_the_dev_file_is_for_its_owner_only(tmp_path: Path) -> None:
    write_dev_file(tmp_path, DEV)
    assert stat.S_IMODE(dev_file(tmp_path).stat().st_mode) == 0o600
    assert msgspec.json.decode(dev_file(tmp_path).read_bytes())["adminKey"] == "name|abc"
    assert [path.name for path in dev_file(tmp_path).parent.iterdir()] == ["dev.json"]


def test_only_its_writer_removes_the_dev_file(tmp_path: Path) -> None:
    write_dev_file(tmp_path, DEV)
    remove_dev_file(tmp_path, 8)
    assert dev_file(tmp_path).exists()
    remove_dev_file(tmp_path, 7)
    assert not dev_file(tmp_path).exists()
    remove_dev_file(tmp_path, 7)


def test_env_local_is_created_for_its_owner(tmp_path: Path) -> None:
    write_env_local(tmp_path, DEV)
    file = tmp_path / ".env.local"
    assert file.read_text() == f"{URL_VARIABLE}=http://127.0.0.1:3210\n{KEY_VARIABLE}='name|abc'\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_other_lines_and_the_mode_stay(tmp_path: Path) -> None:
    file = tmp_path / ".env.local"
    file.write_text(f"# mine\nA=1\n{URL_VARIABLE}=old\nB='x=y'")
    file.chmod(0o640)
    write_env_local(tmp_path, DEV)
    assert file.read_text() == (
        f"# mine\nA=1\n{URL_VARIABLE}=http://127.0.0.1:3210\nB='x=y'\n{KEY_VARIABLE}='name|abc'\n"
    )
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("package", "variable"),
    [
        ('{"devDependencies": {"vite": "^6"}}', "VITE_CONVEX"),
        ('{"dependencies": {"next": "15"}}', "NEXT_PUBLIC_CONVEX"),
    ],
)
def test_a_front_end_gets_its_variables(tmp_path: Path, package: str, variable: str) -> None:
    (tmp_path / "package.json").write_text(package)
    write_env_local(tmp_path, DEV)
    text = (tmp_path / ".env.local").read_text()
    assert f"{variable}_URL=http://127.0.0.1:3210\n" in text
    assert f"{variable}_SITE_URL=http://127.0.0.1:3211\n" in text


@pytest.mark.parametrize("package", ["{", "[]", '{"dependencies": 3}', '{"dependencies": {"react": "19"}}'])
def test_any_other_package_gets_none(tmp_path: Path, package: str) -> None:
    (tmp_path / "package.json").write_text(package)
    write_env_local(tmp_path, DEV)
    assert len((tmp_path / ".env.local").read_text().splitlines()) == 2


lines = st.lists(st.sampled_from(["", "# x", "A=1", "export B=2", "C", "OURS=old", " OURS = old", "OURSELF=3"]))


@given(lines, st.booleans())
def test_setting_variables_is_idempotent_and_touches_no_other_line(before: list[str], ends_open: bool) -> None:
    text = "".join(f"{line}\n" for line in before)
    text = text.removesuffix("\n") if ends_open else text
    after = with_variables(text, {"OURS": "new", "ALSO": "this"})

    def others(text: str) -> list[str]:
        return [line for line in text.splitlines() if line.partition("=")[0].strip() not in ("OURS", "ALSO")]

    assert with_variables(after, {"OURS": "new", "ALSO": "this"}) == after
    assert others(after) == others(text)
    assert after.splitlines().count("OURS=new") == 1
    assert after.splitlines().count("ALSO=this") == 1
