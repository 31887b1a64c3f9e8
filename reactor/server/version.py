"""Which version of reactor this is. Used by the server and the command line."""

from importlib import metadata


def version() -> str:
    """Return the version of the installed package."""
    try:
        return metadata.version("reactor-db")
    except metadata.PackageNotFoundError:  # run from a checkout
        return "unknown"
