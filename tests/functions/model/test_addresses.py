"""Which address a request comes from: nobody chooses it by a header (row 36 of the specification's table)."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.model.addresses import address_key, client_address, trusted_proxies
from reactor import ReactorError

PEER = "198.51.100.7"


@pytest.mark.parametrize(
    ("forwarded", "proxies", "expected"),
    [
        ([], 0, PEER),
        (["192.0.2.1"], 0, PEER),  # nobody is trusted
        (["192.0.2.1"], 1, "192.0.2.1"),
        (["6.6.6.6, 192.0.2.1"], 1, "192.0.2.1"),  # what the client wrote itself is to the left
        (["6.6.6.6", "192.0.2.1"], 1, "192.0.2.1"),
        (["6.6.6.6, 192.0.2.1, 10.0.0.1"], 2, "192.0.2.1"),
        (["10.0.0.1"], 2, PEER),  # it has come past one of the proxies
        (["unknown"], 1, PEER),
        ([""], 1, PEER),
        (["192.0.2.1:443"], 1, "192.0.2.1"),
        (["[2001:db8::1]:443"], 1, "2001:db8::1"),
    ],
)
def test_defect_36_only_what_proxies_of_ours_wrote_is_believed(
    forwarded: list[str], proxies: int, expected: str
) -> None:
    assert client_address(PEER, forwarded, proxies) == expected


@given(lie=st.text(alphabet="0123456789abcdef.:, unknow", max_size=60), proxies=st.integers(1, 3))
def test_defect_36_a_client_changes_nothing_by_what_it_sends(lie: str, proxies: int) -> None:
    ours = ", ".join(["192.0.2.1", *["10.0.0.1"] * (proxies - 1)])
    for forwarded in ([lie, ours], [f"{lie}, {ours}"]):
        assert client_address(PEER, forwarded, proxies) == "192.0.2.1"


@given(network=st.integers(0, 2**64 - 1), hosts=st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=2))
def test_defect_36_a_network_of_ipv6_is_one_client(network: int, hosts: list[int]) -> None:
    addresses = [ipaddress.IPv6Address(network << 64 | host) for host in hosts]
    if any(address.ipv4_mapped for address in addresses):
        return
    assert len({address_key(str(address)) for address in addresses}) == 1


def test_defect_36_addresses_that_are_written_otherwise_are_the_same() -> None:
    assert address_key("::ffff:192.0.2.1") == address_key(" 192.0.2.1 ") == "192.0.2.1"
    assert address_key("2001:DB8:0:0::1") == address_key("2001:db8::2%eth0") == "2001:db8::/64"
    assert address_key("192.0.2.1") != address_key("192.0.2.2")


@pytest.mark.parametrize("text", [None, "", "unknown", "-", "localhost", "300.1.1.1"])
def test_defect_36_what_is_no_address_is_nobody(text: str | None) -> None:
    assert address_key(text) is None
    assert client_address(text, [], 0) is None


def test_the_number_of_proxies_is_checked() -> None:
    assert trusted_proxies({}) == 0
    assert trusted_proxies({"TRUSTED_PROXIES": "2"}) == 2
    for wrong in ("", "-1", "1.5", "17", "all"):
        with pytest.raises(ReactorError, match="TRUSTED_PROXIES"):
            trusted_proxies({"TRUSTED_PROXIES": wrong})
