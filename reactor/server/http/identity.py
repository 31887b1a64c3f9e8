"""On whose behalf a request is made, and whether it may do what it asks for.

Promises that anything a client may send gives an identity or an `Error` with an HTTP status, and one refusal for all
endpoints of administrators. Used by every endpoint.
"""

from collections.abc import Awaitable, Callable

from starlette.requests import Request

from reactor.auth.admin_key import split_impersonation
from reactor.auth.identity import ANONYMOUS, Identity
from reactor.errors import Error, Forbidden, InvalidArgument
from reactor.server.backend import Backend
from reactor.server.http.errors import HttpError
from reactor.server.permissions import NEEDS_ADMIN, READ_ONLY
from reactor.server.sync.ports import CheckAdmin

Identify = Callable[[str], Awaitable[Identity]]


async def caller_of(request: Request, backend: Backend) -> Identity:
    """Return on whose behalf a request is made; see `identity`."""
    authorization, admin_key = request.headers.get("authorization"), request.query_params.get("adminKey")
    if authorization is None and admin_key is None:
        return ANONYMOUS
    return await identity(authorization, admin_key, backend.check_admin, backend.identify)


async def admin_of(request: Request, backend: Backend, *, writes: bool = False) -> Identity:
    """Return the administrator who makes a request.

    Raises:
        Forbidden: `BadDeployKey`; it is somebody else's, or `writes` with a read-only key.
        Error: as `identity`.
    """
    caller = await caller_of(request, backend)
    if caller.kind != "admin":
        raise Forbidden("BadDeployKey", NEEDS_ADMIN)
    if writes and caller.read_only:
        raise Forbidden("BadDeployKey", READ_ONLY)
    return caller


def check_admin_key(key: str, backend: Backend) -> Identity:
    """Return the administrator whose key came in the body of a request.

    Raises:
        Forbidden: `BadDeployKey`.
        HttpError: 400, a garbled identity after the key.
    """
    return _admin(key, backend.check_admin)


async def identity(
    authorization: str | None, admin_key: str | None, check_admin: CheckAdmin, identify: Identify
) -> Identity:
    """Return on whose behalf a request is made.

    Args:
        authorization: the header, if there is one.
        admin_key: `?adminKey=`, which counts only without that header.
        check_admin: as for a session.
        identify: gives the user of a token.

    Raises:
        HttpError: 400 for a malformed header.
        Unauthenticated: a user's token was refused.
        AuthProviderFailed, AuthProviderUnavailable, Overloaded: it can't be checked.
        Forbidden: `BadDeployKey`.
        ProtocolError: `InvalidHeaderFailure`, a garbled identity after the key.
    """
    if authorization is None:
        return ANONYMOUS if admin_key is None else _admin(admin_key, check_admin)
    if len(authorization) < 7:
        raise HttpError(400, "InvalidHeaderFailure", "The Authorization header is too short.")
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return await identify(credentials.strip())
    if scheme.lower() == "convex":
        return _admin(credentials.strip(), check_admin)
    raise HttpError(
        400, "InvalidAdminKey", "The Authorization header must be 'Bearer <token>' or 'Convex <admin key>'."
    )


async def identity_or_anonymous(authorization: str | None, check_admin: CheckAdmin, identify: Identify) -> Identity:
    """Return on whose behalf a request is made that may have a header meant for somebody else: nobody, if it is bad.

    Raises:
        AuthProviderUnavailable, Overloaded: it may be good, but can't be checked now.
    """
    try:
        return await identity(authorization, None, check_admin, identify)
    except Error as error:
        if error.retryable:
            raise
        return ANONYMOUS


def _admin(text: str, check_admin: CheckAdmin) -> Identity:
    key, attributes = split_impersonation(text)
    try:
        return check_admin(key, attributes)
    except InvalidArgument as error:
        raise HttpError(400, "InvalidHeaderFailure", str(error)) from None
