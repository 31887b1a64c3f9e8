"""Which server a remote command talks to, and the files in which `dev` leaves that answer.

Owns `.reactor/dev.json` (address and admin key of the running `dev`, readable by its owner only) and our lines of
`.env.local`. Promises to touch no other line. Used by `dev` (writes) and the remote commands (read).
"""

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from reactor.cli.console import warn
from reactor.client.address import sync_url
from reactor.errors import InvalidArgument

URL_VARIABLE: Final = "CONVEX_SELF_HOSTED_URL"
KEY_VARIABLE: Final = "CONVEX_SELF_HOSTED_ADMIN_KEY"
CLOUD_KEYS: Final = ("CONVEX_DEPLOY_KEY", "CONVEX_DEPLOYMENT_TOKEN")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.:/@-]*")
_FRONTENDS: Final = {"vite": "VITE_CONVEX", "next": "NEXT_PUBLIC_CONVEX"}


class Target(msgspec.Struct, frozen=True, rename="camel"):
    """A server, and the key that may do everything there."""

    url: str
    admin_key: str | None = None
    pid: int | None = None  # of the `dev` that wrote it
    site_url: str | None = None  # of its HTTP actions


def find_target(url: str | None, admin_key: str | None, environ: Mapping[str, str], project: Path) -> Target:
    """Return the server named by flags, else by the environment, else by the project's running `dev`.

    Raises:
        InvalidArgument: none of them names one, what they name is no URL, or `.reactor/dev.json` is damaged.
    """
    target = _named(url, admin_key, environ, project)
    for name in CLOUD_KEYS:
        if environ.get(name):
            warn(f"{name} is ignored: it is a key of the Convex cloud, and {target.url} is a server of your own.")
    sync_url(target.url)  # refuses what is none, in words that hold for all commands
    return target


def _named(url: str | None, admin_key: str | None, environ: Mapping[str, str], project: Path) -> Target:
    if url is None and admin_key is not None:
        raise InvalidArgument("--admin-key needs --url: a key belongs to one server.")
    if url is not None:
        return Target(url, admin_key)
    if environ.get(URL_VARIABLE):
        return Target(environ[URL_VARIABLE], environ.get(KEY_VARIABLE))
    file = dev_file(project)
    try:
        return msgspec.json.decode(file.read_bytes(), type=Target)
    except FileNotFoundError:
        raise InvalidArgument(
            f"No server to talk to: start `reactor dev` in this project, or give --url or {URL_VARIABLE}."
        ) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise InvalidArgument(f"{file} can't be read ({error}): start `reactor dev` again, or give --url.") from None


def dev_file(project: Path) -> Path:
    """Return where `dev` writes its address."""
    return project / ".reactor" / "dev.json"


def write_dev_file(project: Path, target: Target) -> None:
    """Write `.reactor/dev.json`, whole or not at all, for the owner's eyes only."""
    file = dev_file(project)
    file.parent.mkdir(parents=True, exist_ok=True)
    _replace(file, msgspec.json.format(msgspec.json.encode(target)) + b"\n", mode=0o600)


def remove_dev_file(project: Path, pid: int) -> None:
    """Remove `.reactor/dev.json` unless another `dev` has written it since."""
    file = dev_file(project)
    try:
        if msgspec.json.decode(file.read_bytes(), type=Target).pid == pid:
            file.unlink()
    except (OSError, msgspec.MsgspecError):
        pass  # gone or not ours: nothing is left to undo


def write_env_local(project: Path, target: Target) -> None:
    """Set our variables in `.env.local`, leaving every other line as it was."""
    file = project / ".env.local"
    old = file.read_text(encoding="utf-8") if file.exists() else ""
    new = with_variables(old, _variables(project, target))
    if new != old:
        mode = file.stat().st_mode & 0o777 if file.exists() else 0o600  # it holds the admin key
        _replace(file, new.encode(), mode)


def with_variables(text: str, variables: Mapping[str, str]) -> str:
    """Return the text of an env file with `variables` set: in place where a line sets one, else at the end."""
    missing = dict(variables)
    lines = []
    for line in text.splitlines(keepends=True):
        name = line.partition("=")[0].strip().removeprefix("export ").strip()
        if "=" in line and name in variables:
            if name not in missing:
                continue  # a second setting of the same variable would win over ours
            line = f"{name}={_quoted(missing.pop(name))}\n"
        lines.append(line)
    if missing and lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    return "".join(lines) + "".join(f"{name}={_quoted(value)}\n" for name, value in missing.items())


def _quoted(value: str) -> str:
    """Return `value` so that dotenv readers and shells agree about it: an admin key holds a `|`."""
    return value if _PLAIN.fullmatch(value) else f"'{value}'"


def _variables(project: Path, target: Target) -> dict[str, str]:
    variables = {URL_VARIABLE: target.url}
    if target.admin_key is not None:
        variables[KEY_VARIABLE] = target.admin_key
    dependencies = _package_dependencies(project / "package.json")
    for package, name in _FRONTENDS.items():
        if package in dependencies:
            variables[f"{name}_URL"] = target.url
            if target.site_url is not None:
                variables[f"{name}_SITE_URL"] = target.site_url
    return variables


def _package_dependencies(file: Path) -> set[str]:
    try:
        package = msgspec.json.decode(file.read_bytes())
        return set(package.get("dependencies", {})) | set(package.get("devDependencies", {}))
    except (OSError, msgspec.MsgspecError, AttributeError, TypeError):
        return set()  # no front end here, or one we can't recognise


def _replace(file: Path, content: bytes, mode: int) -> None:
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with open(handle, "wb") as stream:
            stream.write(content)
        os.chmod(temporary, mode)
        os.replace(temporary, file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
