"""Where the outside world reaches a deployment.

Owns the two addresses and what stands for them when nobody gave one. Promises that neither ends with a slash, so that a
path can be put behind it. Used by `host`, which hands them to whoever makes URLs: environment variables, files, auth.
"""

from typing import Final, Self

import msgspec

DEFAULT_CLOUD: Final = "http://127.0.0.1:3210"
HTTP_PREFIX: Final = "/http"  # of HTTP actions, where they have no port of their own


class Origins(msgspec.Struct, frozen=True):
    """`cloud` is the address of the API and of files, `site` that of HTTP actions."""

    cloud: str
    site: str

    @classmethod
    def of(cls, cloud: str | None, site: str | None) -> Self:
        """Return the addresses given; without a `site`, HTTP actions are below the other one."""
        cloud = (cloud or DEFAULT_CLOUD).rstrip("/")
        return cls(cloud, (site or cloud + HTTP_PREFIX).rstrip("/"))
