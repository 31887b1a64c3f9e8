"""What a server process reads from its environment.

Owns the names of those variables, limits excepted. Promises that one that is set and can't be honoured stops the start
and is named, since ignoring it would put data or keys where the operator does not expect them. Used by `dev`, `serve`
and `admin-key`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from reactor.cli.database import data_below, read_database
from reactor.errors import InvalidArgument
from reactor.limits import Limits, knobs
from reactor.runtime.project import read_options
from reactor.server.app import Deployment

CLOUD_ORIGIN: Final = "CONVEX_CLOUD_ORIGIN"
SITE_ORIGIN: Final = "CONVEX_SITE_ORIGIN"
_TRUE, _FALSE = frozenset({"true", "1"}), frozenset({"", "false", "0"})


class Settings(msgspec.Struct, frozen=True):
    """The environment of a server, understood."""

    limits: Limits
    instance_name: str | None
    instance_secret: str | None
    redact_logs: bool
    cloud_origin: str | None
    site_origin: str | None
    folder: Path | None  # of data, by DATABASE_URL
    has_sample: bool  # REACTOR_DETERMINISM_SAMPLE is set, which goes before the project's own

    def deployment(
        self,
        project: Path | None,
        data: str | None,
        *,
        development: bool = False,
        address: str | None = None,
        site_address: str | None = None,
    ) -> Deployment:
        """Return the deployment of a project, or of what is deployed to it, under these settings; not open yet.

        Args:
            address: where it will be served; its public address unless the environment names another.
            site_address: the same for its HTTP actions.

        Raises:
            InvalidArgument: `data` and DATABASE_URL contradict each other.
            PushError: in development, when its pyproject.toml can't be used.
        """
        limits = self.limits
        if development and project is not None and not self.has_sample:
            sample = read_options(project).determinism_sample
            if sample is not None:
                limits = msgspec.structs.replace(limits, determinism_sample=sample)
        return Deployment(
            project,
            data=data_below(self.folder, data),
            limits=limits,
            instance_name=self.instance_name,
            instance_secret=self.instance_secret,
            redact_logs=self.redact_logs,
            development=development,
            cloud_origin=self.cloud_origin or address,
            site_origin=self.site_origin or site_address,
        )


def read_settings(environ: Mapping[str, str], *, needs_origins: bool = False) -> Settings:
    """Return the settings in `environ`.

    Args:
        needs_origins: whether the public addresses must be given, as in production.

    Raises:
        InvalidArgument: a variable is missing, malformed or asks for what this version can't do; it is named.
    """
    folder = read_database(environ)
    for variable in (CLOUD_ORIGIN, SITE_ORIGIN):
        _check_origin(variable, environ.get(variable), is_required=needs_origins)
    return Settings(
        limits=Limits.from_environ(environ),
        instance_name=environ.get("INSTANCE_NAME") or environ.get("CONVEX_DEPLOYMENT_NAME") or None,
        instance_secret=environ.get("INSTANCE_SECRET") or None,
        redact_logs=_flag(environ, "REDACT_LOGS_TO_CLIENT"),
        cloud_origin=environ.get(CLOUD_ORIGIN) or None,
        site_origin=environ.get(SITE_ORIGIN) or None,
        folder=folder,
        has_sample=knobs()["determinism_sample"].env in environ,
    )


def find_project(folder: Path) -> Path:
    """Return the project's folder, made absolute.

    Raises:
        InvalidArgument: there is no project in it.
        PushError: its pyproject.toml can't be used.
    """
    project = folder.resolve()
    options = read_options(project)
    if not (project / options.schema).is_file() and not (project / options.functions).is_dir():
        raise InvalidArgument(
            f"There is no project in {project}: neither {options.schema} nor {options.functions}/. "
            "Create one with `reactor init`, or name another folder with --project."
        )
    return project


def _check_origin(variable: str, value: str | None, *, is_required: bool) -> None:
    if not value:
        if is_required:
            raise InvalidArgument(
                f"{variable} is not set. It is the address under which clients reach this server, such as "
                f"{variable}=https://api.example.com; `serve` does not guess it."
            )
        return
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise InvalidArgument(f"{variable}={value} is not an address such as https://api.example.com")


def _flag(environ: Mapping[str, str], variable: str) -> bool:
    text = environ.get(variable, "").lower()
    if text not in _TRUE | _FALSE:
        raise InvalidArgument(f"{variable}={environ[variable]} must be true or false")
    return text in _TRUE
