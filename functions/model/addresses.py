"""Which address a request comes from, and by which key it is counted.

Everybody can send `X-Forwarded-For`, so of what it lists only the entries at its end are believed, those that proxies
of ours have written: as many as the environment variable TRUSTED_PROXIES says. Used by `functions/http`, and by what
counts or remembers clients.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Final

from functions.model.settings import number

TRUSTED_PROXIES: Final = "TRUSTED_PROXIES"
MAX_PROXIES: Final = 16
NETWORK_BITS: Final = 64  # of IPv6: what one household or one machine gets, and can pick addresses from at will


def trusted_proxies(variables: Mapping[str, str]) -> int:
    """Return how many proxies stand in front: 0 unless TRUSTED_PROXIES says otherwise.

    Raises:
        ReactorError: code `INVALID_SETTING`.
    """
    return int(number(variables, TRUSTED_PROXIES, 0, 0, MAX_PROXIES, whole=True))


def client_address(peer: str | None, forwarded: Sequence[str], proxies: int) -> str | None:
    """Return the address of the client, or None when it is not known.

    Args:
        peer: the other end of the connection.
        forwarded: the values of all `X-Forwarded-For` headers, in their order.
        proxies: how many proxies of ours the request has come through. Each has added whom it got it from, so the
            client is what the first of them has added: the `proxies`-th entry from the right. Should there be fewer
            entries, the request has come another way, and only the connection is believed.
    """
    entries = [entry.strip() for header in forwarded for entry in header.split(",")]
    if proxies and len(entries) >= proxies:
        known = _parsed(entries[-proxies])
        if known is not None:
            return str(known)
    known = None if peer is None else _parsed(peer)
    return None if known is None else str(known)


def address_key(address: str | None) -> str | None:
    """Return what an address is counted under, or None for what is no address, which many may share.

    An IPv6 address counts as its network of 64 bits, and an IPv4 address that is written as an IPv6 one as itself.
    """
    known = None if address is None else _parsed(address)
    if isinstance(known, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((known, NETWORK_BITS), strict=False))
    return None if known is None else str(known)


def remembered(address: str | None) -> str | None:
    """Return what is stored of a client's address: what it is counted under, or the text itself if it is no address."""
    return address_key(address) or address


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    bare = text.strip()
    if bare.startswith("["):  # [::1]:443
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:  # 192.0.2.1:443
        bare = bare.partition(":")[0]
    try:
        address = ipaddress.ip_address(bare.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
