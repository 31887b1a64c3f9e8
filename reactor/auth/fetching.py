"""Getting the documents of issuers, on threads.

Owns one thread for each fetch under way. Promises that nothing blocks the event loop, that answers are bounded in size,
that redirects are not followed, and that a fetch which is given up ends its connection. Used by the cache of keys.
"""

import asyncio
import http.client
import socket
import ssl
import threading
from collections.abc import Callable
from email.message import Message
from functools import cache, partial
from pathlib import Path
from typing import Final, Protocol, TypeVar
from urllib.parse import urlsplit

from reactor.auth.config import jwks_file
from reactor.limits import MAX_AUTH_DOCUMENT_BYTES

T = TypeVar("T")

JSON_TYPES: Final = ("application/json", "application/jwk-set+json")
SHOWN_BODY: Final = 200  # characters of an error's body that are repeated


class FetchFailed(Exception):
    """A document could not be had. `is_passing` says that trying again later may help."""

    def __init__(self, text: str, *, is_passing: bool) -> None:
        self.is_passing = is_passing
        super().__init__(text)


class Fetch(Protocol):
    """Gets the bytes at an address."""

    async def __call__(self, address: str, /) -> bytes:
        """Return the document at an http(s) URL or in a file.

        Raises:
            FetchFailed: it can't be had.
        """


class ThreadedFetch:
    """Implements `Fetch` with the standard library."""

    def __init__(self, folder: Callable[[], Path], seconds: float) -> None:
        """
        Args:
            folder: gives where relative file names begin, which may change with the project.
            seconds: how long the network may be silent; who calls bounds the time in all, by cancelling.
        """
        self._folder = folder
        self._seconds = seconds

    async def __call__(self, address: str, /) -> bytes:
        """Return the document at an http(s) URL or in a file; see `Fetch`."""
        file = jwks_file(address)
        if file is None:
            request = _HttpGet(address, self._seconds)
            get, give_up = request.get, request.give_up
        else:
            get, give_up = partial(_read_file, self._folder(), file), _nothing
        try:
            return await in_thread(get)
        finally:
            give_up()


class _HttpGet:
    """One GET on a connection of its own."""

    def __init__(self, url: str, seconds: float) -> None:
        self._parts = urlsplit(url)
        self._seconds = seconds
        self._socket: socket.socket | None = None

    def get(self) -> bytes:
        """Return the body of the answer. Blocking."""
        parts = self._parts
        assert parts.hostname is not None
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=self._seconds, context=_trusted()
            )
        else:
            connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=self._seconds)
        try:
            connection.connect()
            self._socket = connection.sock
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("GET", target, headers={"Accept": "application/json", "User-Agent": "reactor"})
            with connection.getresponse() as response:
                body = response.read(MAX_AUTH_DOCUMENT_BYTES + 1)
                if response.length and len(body) <= MAX_AUTH_DOCUMENT_BYTES:
                    raise http.client.IncompleteRead(body, response.length)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise FetchFailed(f"{type(error).__name__}: {error}", is_passing=True) from error
        finally:
            connection.close()
        return _checked(response.status, response.reason, response.headers, body)

    def give_up(self) -> None:
        """Make `get` end soon, if it has not: what it waits for will not come."""
        if self._socket is not None:
            try:
                # The plain form: a TLS socket's own would change state that the other thread is using.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
            except OSError:
                pass  # it is closed


@cache
def _trusted() -> ssl.SSLContext:
    """Return the certificates of the machine, which take a while to read."""
    return ssl.create_default_context()


def _checked(status: int, reason: str, headers: Message, body: bytes) -> bytes:
    if status != 200:
        shown = body[:SHOWN_BODY].decode("utf-8", "replace")
        text = f"{status} {reason} {shown}".rstrip()
        raise FetchFailed(text, is_passing=status >= 500 or status in (408, 429))
    if len(body) > MAX_AUTH_DOCUMENT_BYTES:
        raise FetchFailed(f"the answer is larger than {MAX_AUTH_DOCUMENT_BYTES} bytes", is_passing=False)
    charset = headers.get_content_charset("utf-8")
    if headers.get_content_type() not in JSON_TYPES or charset not in ("utf-8", "utf8"):
        raise FetchFailed(
            f"its Content-Type is {headers.get('content-type', 'missing')!r}, not {' or '.join(JSON_TYPES)} in utf-8",
            is_passing=False,
        )
    return body


def _read_file(folder: Path, name: str) -> bytes:
    try:
        with (folder / name).open("rb") as stream:
            body = stream.read(MAX_AUTH_DOCUMENT_BYTES + 1)
    except (OSError, ValueError) as error:
        raise FetchFailed(f"{error}: {name}", is_passing=False) from error
    if len(body) > MAX_AUTH_DOCUMENT_BYTES:
        raise FetchFailed(f"{name} is larger than {MAX_AUTH_DOCUMENT_BYTES} bytes", is_passing=False)
    return body


async def in_thread(work: Callable[[], T]) -> T:
    """Run `work` on a thread of its own, which nobody waits for when this is cancelled, nor at the end of the process.

    A pool would do neither, and one dead issuer could fill it.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def succeed(result: T) -> None:
        if not future.done():
            future.set_result(result)

    def fail(error: Exception) -> None:
        if not future.done():
            future.set_exception(error)

    def run() -> None:
        try:
            report = partial(succeed, work())
        except Exception as error:
            report = partial(fail, error)
        try:
            loop.call_soon_threadsafe(report)
        except RuntimeError:
            pass  # the loop was closed meanwhile

    threading.Thread(target=run, name="reactor auth keys", daemon=True).start()
    return await future


def _nothing() -> None:
    """Reading a file needs no giving up."""
