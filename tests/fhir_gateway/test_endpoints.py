"""What may be called: named hosts at public addresses, whatever a name resolves to."""

from __future__ import annotations

import ipaddress
import socket

import aiohttp
import pytest

from fhir_gateway.topics.config import SubscriptionConfig
from fhir_gateway.topics.endpoints import EndpointRefused, Outbound


def outbound(*hosts, **changes):
    return Outbound(SubscriptionConfig(hosts=hosts, **changes))


@pytest.mark.parametrize(
    ("hosts", "url"),
    [
        (("ehr.example.org",), "https://ehr.example.org/hook?x=y"),
        (("ehr.example.org",), "https://EHR.example.org:8443/hook"),
        (("ehr.example.org:8443",), "https://ehr.example.org:8443/hook"),
        (("*.example.org",), "https://a.b.example.org/hook"),
        (("8.8.8.8",), "https://8.8.8.8/hook"),
    ],
)
def test_a_named_host_may_be_called(hosts, url):
    outbound(*hosts).check(url)


@pytest.mark.parametrize(
    ("hosts", "url"),
    [
        ((), "https://ehr.example.org/hook"),
        (("ehr.example.org",), "http://ehr.example.org/hook"),
        (("ehr.example.org",), "https://ehr.example.org.evil.net/hook"),
        (("ehr.example.org",), "https://notehr.example.org/hook"),
        (("ehr.example.org",), "https://evil.net/?ehr.example.org"),
        (("ehr.example.org",), "https://ehr.example.org@evil.net/hook"),
        (("ehr.example.org",), "https://evil.net\\@ehr.example.org/hook"),
        (("ehr.example.org:8443",), "https://ehr.example.org/hook"),
        (("*.example.org",), "https://example.org/hook"),
        (("*.example.org",), "https://evilexample.org/hook"),
        (("127.0.0.1",), "https://127.0.0.1/hook"),
        (("127.1",), "https://127.1/hook"),
        (("0x7f000001",), "https://0x7f000001/hook"),
        (("localhost",), "https://localhost/" + "x" * 2000),
    ],
)
def test_any_other_may_not(hosts, url):
    with pytest.raises(EndpointRefused):
        outbound(*hosts).check(url)


SPECIAL = [
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "::ffff:10.0.0.1",
    "ff02::1", "64:ff9b::a00:1", "2002:a00:1::",
]  # fmt: skip


@pytest.mark.parametrize("address", SPECIAL)
def test_special_addresses_are_not_called(address):
    with pytest.raises(EndpointRefused):
        outbound().check_address(ipaddress.ip_address(address))


def test_a_network_that_the_site_names_is_called():
    allowed = outbound(private_networks=("10.1.0.0/16",))

    allowed.check_address(ipaddress.ip_address("10.1.2.3"))
    allowed.check_address(ipaddress.ip_address("::ffff:10.1.2.3"))
    with pytest.raises(EndpointRefused):
        allowed.check_address(ipaddress.ip_address("10.2.0.1"))


async def test_a_name_that_leads_to_a_special_address_is_not_connected_to():
    guard = outbound("localhost", plain_http=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.5)
        url = f"http://localhost:{listener.getsockname()[1]}/hook"
        guard.check(url)  # by its name alone it may be

        async with guard.session() as session:
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get(url)

        with pytest.raises(TimeoutError):
            listener.accept()
