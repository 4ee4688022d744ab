"""Where notifications may go: hosts that the site has named, at addresses open to the public.

A client chooses the URL that we call. Without these checks it could have us call the FHIR store,
the metadata service of a cloud, or anything else that trusts our address.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from typing import Any
from urllib.parse import SplitResult, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from fhir_gateway.topics.config import SubscriptionConfig

LONGEST_URL = 1_000
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class EndpointRefused(Exception):
    """The URL may not be called; the text says why and may go to the client."""


class Outbound:
    """Judges endpoints, and makes the connections to them."""

    def __init__(self, config: SubscriptionConfig) -> None:
        self._hosts = config.hosts
        self._plain = config.plain_http
        self._networks = [ipaddress.ip_network(one) for one in config.private_networks]

    def check(self, url: str) -> None:
        """Refuse a URL by what it says; where its name leads is checked when it is called.

        Raises:
            EndpointRefused: scheme, user, fragment, host or address are not allowed.
        """
        parts = _split(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and self._plain):
            raise EndpointRefused("an endpoint is an https URL")
        if parts.username is not None or parts.password is not None or parts.fragment:
            raise EndpointRefused("an endpoint has no user, password or fragment")
        host, port = (parts.hostname or "").lower(), parts.port
        if not host or not any(_is_of(host, port, one.lower()) for one in self._hosts):
            raise EndpointRefused("the host of the endpoint is not one that this site allows")
        literal = _literal(host)
        if literal is not None:
            self.check_address(literal)

    def check_address(self, address: Address) -> None:
        """Refuse loopback, private and other special addresses that the site has not named."""
        for one in (address, *_within(address)):
            if any(one in network for network in self._networks):
                return
        for one in (address, *_within(address)):
            if not one.is_global or one.is_multicast:
                raise EndpointRefused("the endpoint leads to an address that is not public")

    def session(self) -> aiohttp.ClientSession:
        """A session that connects to addresses that were checked and to no others.

        Redirects are not to be followed: they lead to places that nobody has checked.
        """
        connector = aiohttp.TCPConnector(
            resolver=_Checking(self), use_dns_cache=False, limit=32, limit_per_host=4
        )
        return aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
        )


class _Checking(AbstractResolver):
    """Resolves a name and leaves out what may not be called; what is left is connected to."""

    def __init__(self, outbound: Outbound) -> None:
        self._outbound = outbound
        self._inner = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises OSError when no address is allowed."""
        found: Sequence[ResolveResult] = await self._inner.resolve(host, port, family)
        allowed = []
        for one in found:
            try:
                self._outbound.check_address(ipaddress.ip_address(one["host"].partition("%")[0]))
            except (EndpointRefused, ValueError):
                continue
            allowed.append(one)
        if not allowed:
            raise OSError("no address of this host may be called")
        return allowed

    async def close(self) -> None:
        """Nothing is held."""
        await self._inner.close()


def _split(url: Any) -> SplitResult:
    if not isinstance(url, str) or len(url) > LONGEST_URL or not url.isascii():
        raise EndpointRefused("an endpoint is a URL of ASCII characters")
    if not url.isprintable() or any(one in url for one in ' \\"<>'):
        raise EndpointRefused("an endpoint is a URL")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise EndpointRefused("an endpoint is a URL") from error
    return parts


def _is_of(host: str, port: int | None, allowed: str) -> bool:
    """Whether host (and port, where it names one) are what the setting says; never by a prefix."""
    name, _, wanted = allowed.rpartition(":") if ":" in allowed else (allowed, "", "")
    if wanted and str(port) != wanted:
        return False
    if name.startswith("*."):
        return host.endswith(name[1:]) and len(host) > len(name) - 1
    return host == name


def _within(address: Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that an IPv6 address stands for: mapped, NAT64, 6to4, Teredo."""
    if not isinstance(address, ipaddress.IPv6Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in NAT64:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [one for one in found if one is not None]


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:  # 127.1, 0x7f000001 and other spellings that a resolver takes for an address
        return ipaddress.ip_address(socket.inet_aton(host))
    except OSError:
        return None
