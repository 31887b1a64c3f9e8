"""A component by itself: the smallest application that mounts it, for tests of the component's own package.

Used by the pytest plugin (`reactor_component`), and by component authors who want the mount otherwise.
"""

from collections.abc import Mapping
from pathlib import Path

from reactor.errors import InvalidArgument


def write_app(
    folder: Path,
    package: str,
    *,
    name: str | None = None,
    env: Mapping[str, str] | None = None,
    http_prefix: str | None = None,
) -> Path:
    """Write a project into `folder` that mounts the component `package` and has nothing else; return the folder.

    Args:
        package: what to import, such as `rate_limiter` or `acme.limiter`.
        name: what to mount it as; by default the component's own name.
        env: texts for the environment variables it declares.
        http_prefix: where its HTTP routes appear.

    Raises:
        InvalidArgument: `package` is no name that can be imported.
    """
    if not all(part.isidentifier() for part in package.split(".")):
        raise InvalidArgument(f"{package!r} is no package that can be imported")
    functions = folder / "functions"
    functions.mkdir(parents=True, exist_ok=True)
    (functions / "app.py").write_text(
        f"from reactor import define_app\nfrom {package} import component\n\napp = define_app()\n"
        f"app.use(component, name={name!r}, env={dict(env or {})!r}, http_prefix={http_prefix!r})\n",
        encoding="utf-8",
    )
    return folder
