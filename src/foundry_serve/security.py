"""Who may talk to a server: one pure function of a request's head, the peer's address and the bound names.

Knows: the rules against web pages (DNS rebinding, foreign origins), the origins that may, and the keys.
Refuses to know: sockets, files and settings (`serving.py` makes a policy of them), and what a request does.

The order: the host, then the origin, then the key. A page's preflight carries no key and gets its answer
before that is asked for.

Sources: the Fetch standard (`Origin`, CORS), Fetch Metadata (`Sec-Fetch-Site`), RFC 9110, sections 7.2 and
11.6, RFC 6750.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Final

from attrs import evolve, field, frozen

from foundry_proto.events import Failure, Headers, Response
from foundry_proto.exchange import Asked

__all__ = ["ANY", "ORIGIN", "Names", "Policy", "bound_names", "is_key"]

ANY: Final = "*"
"""In a list: whatever there is."""

ORIGIN: Final = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[^\s/?#@:\[\]]+)(:[0-9]{1,5})?")
"""An origin as browsers write it, or one of the two words that stand for several."""

_KEY: Final = re.compile(r"[!-~]{16,512}")
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s/?#@:\[\],]+)(:[0-9]{0,5})?")
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_PREFLIGHT_SECONDS: Final = b"600"
_EXPOSED: Final = b"retry-after, x-request-id"
_NAMES: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}(, ?[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}){0,63}")
"""A list of header names (RFC 9110, section 5.6.2)."""
_LOOKED_AT: Final = frozenset(
    {
        b"host",
        b"origin",
        b"sec-fetch-site",
        b"upgrade",
        b"authorization",
        b"api-key",
        b"access-control-request-method",
        b"access-control-request-headers",
        b"access-control-request-private-network",
    }
)
_UNDISTURBED: Final = ("same-origin", "none")
"""What `Sec-Fetch-Site` says of a request that no other page has made."""

_NO_KEY: Final = Failure(
    status=401,
    message="authorization: expected Bearer and one of the server's keys, got nothing",
    code="invalid_api_key",
    headers=((b"www-authenticate", b"Bearer"),),
)
_WRONG_KEY: Final = evolve(_NO_KEY, message="authorization: expected one of the server's keys, got another")


@frozen
class Names:
    """The names that a server has: what `Host` may say."""

    exact: frozenset[str]
    """Names and addresses, in the form that `_plain` gives."""
    any_address: bool = False
    """Whether any address will do, since the server is bound to all of its machine's. A page that was led
    here by DNS comes with a name, never with an address."""
    anything: bool = False
    """Whether nothing is checked."""

    def __contains__(self, name: str) -> bool:
        if self.anything or name in self.exact:
            return True
        return self.any_address and _is_address(name)


def bound_names(
    host: str, addresses: Iterable[str], machine: Iterable[str] = (), more: Iterable[str] = ()
) -> Names:
    """The names of a server.

    Args:
        host: What it was asked to listen on.
        addresses: The addresses that it is bound to.
        machine: What the machine is called: counts where the server is bound to all of its addresses.
        more: Further names that proxies or users have for it; `*` stands for all.
    """
    exact, any_address = {*_LOOPBACK}, False
    for address in map(ipaddress.ip_address, addresses):
        if address.is_unspecified:
            any_address = True
            exact.update(map(_plain, machine))
        elif not address.is_loopback:
            exact.add(str(address))
            exact.add(_plain(host))
    more = [*more]
    exact.update(map(_plain, more))
    return Names(frozenset(exact), any_address, ANY in more)


def is_key(text: str) -> bool:
    """Whether a text can be a key: long enough not to be guessed, and of visible ASCII characters."""
    return _KEY.fullmatch(text) is not None


def _digest(key: str) -> bytes:
    return sha256(key.encode()).digest()


def _digests(keys: Iterable[str]) -> tuple[bytes, ...]:
    return tuple(map(_digest, keys))


@frozen(kw_only=True)
class Policy:
    """A gate (`foundry_proto.exchange.Gate`): call it with what is asked."""

    names: Names
    origins: frozenset[str] = frozenset()
    """The other origins whose pages may use the server; `*` stands for all."""
    keys: tuple[bytes, ...] = field(default=(), converter=_digests, repr=False)
    """One of these is needed, if there are any. Only their digests are kept, which are equally long."""

    def __call__(self, asked: Asked) -> Headers | Failure | Response[None]:
        """Decide on a request.

        Returns:
            Headers that every answer to it has; or the answer itself.
        """
        said: dict[bytes, list[str]] = {}
        for name, value in asked.headers:
            if name in _LOOKED_AT:
                said.setdefault(name, []).append(value.decode("latin-1"))
        hosts = said.get(b"host", []) if asked.authority is None else [asked.authority]
        if (failure := self._check_host(hosts)) is not None:
            return failure
        origins = said.get(b"origin", [])
        sharing = self._sharing(origins) if self.origins else ()
        if (failure := self._check_page(asked, hosts, said)) is not None:
            return failure
        if asked.method == "OPTIONS":
            wanted = said.get(b"access-control-request-method")
            if wanted and len(sharing) > 1 and asked.allow:
                return _preflight(asked, said, sharing)
        elif self.keys and (failure := self._check_key(asked, said)) is not None:
            # A page that may use the server may also read why it may not.
            return evolve(failure, headers=(*failure.headers, *sharing))
        return sharing

    def _check_host(self, hosts: Sequence[str]) -> Failure | None:
        """Refuse names that are not the server's: a page may have had its own name lead here."""
        for host in hosts:  # h11 lets one pass at most; HTTP/1.0 may have none, as no browser does
            if (name := _name_in(host)) is None:
                return Failure(status=400, message=f"host: expected a name and a port, got {_shown(host)}")
            if name not in self.names:
                message = f"host: expected a name of this server, got {_shown(host)}"
                return Failure(status=421, message=message, code="unknown_host")
        return None

    def _sharing(self, origins: Sequence[str]) -> Headers:
        """Tell a browser whether a page may read the answer, and caches that not every page may."""
        vary = (b"vary", b"origin")
        if not origins or not all(map(self._may_use, origins)):
            return (vary,)
        allowed = (b"access-control-allow-origin", origins[0].encode("latin-1"))
        return (allowed, (b"access-control-expose-headers", _EXPOSED), vary)

    def _may_use(self, origin: str) -> bool:
        return origin in self.origins or ANY in self.origins

    def _check_page(
        self, asked: Asked, hosts: Sequence[str], said: Mapping[bytes, Sequence[str]]
    ) -> Failure | None:
        """Refuse what another site's page has a browser send, wherever that could do or cost something."""
        operation = asked.operation
        if operation is None or (operation.safe and b"upgrade" not in said):
            return None
        origins = said.get(b"origin", ())
        for origin in origins:
            scheme, _, place = origin.partition("://")
            own = scheme in ("http", "https") and place in hosts
            if not own and not self._may_use(origin):
                return _forbidden(f"origin: expected one that may use this server, got {_shown(origin)}")
        if not origins and ANY not in self.origins:
            for site in said.get(b"sec-fetch-site", ()):
                if site not in _UNDISTURBED:
                    message = f"sec-fetch-site: expected {' or '.join(_UNDISTURBED)}, got {_shown(site)}"
                    return _forbidden(message)
        return None

    def _check_key(self, asked: Asked, said: Mapping[bytes, Sequence[str]]) -> Failure | None:
        """Refuse who has no key. All are compared, each in a time that does not tell how much of it fits."""
        if asked.operation is not None and asked.operation.public:
            return None
        given = [*said.get(b"api-key", ())]
        for value in said.get(b"authorization", ()):
            scheme, _, credentials = value.partition(" ")
            if scheme.lower() == "bearer":
                given.append(credentials.strip())
        if not given:
            return _NO_KEY
        fitting = [hmac.compare_digest(digest, key) for digest in map(_digest, given) for key in self.keys]
        return None if any(fitting) else _WRONG_KEY


def _preflight(asked: Asked, said: Mapping[bytes, Sequence[str]], sharing: Headers) -> Response[None]:
    """Answer a page's question what it may send (the Fetch standard, "CORS-preflight request")."""
    wanted = ", ".join(said.get(b"access-control-request-headers", ()))
    headers = [
        (b"access-control-allow-methods", ", ".join(asked.allow).encode()),
        (b"access-control-max-age", _PREFLIGHT_SECONDS),
    ]
    if wanted and _NAMES.fullmatch(wanted):
        headers.append((b"access-control-allow-headers", wanted.encode()))
    if b"access-control-request-private-network" in said:
        headers.append((b"access-control-allow-private-network", b"true"))
    return Response(value=None, status=204, headers=(*headers, *sharing))


def _forbidden(message: str) -> Failure:
    return Failure(status=403, message=message, code="foreign_origin")


@lru_cache(maxsize=64)
def _name_in(host: str) -> str | None:
    """The name of a `Host`; `None` where it is malformed. Most requests have the same."""
    match = _HOST.fullmatch(host)
    return None if match is None else _plain(match[1])


def _plain(name: str) -> str:
    """A name in one form: lower case, an address as it is written shortest."""
    name = name.lower().removesuffix(".")
    try:
        return str(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        return name


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _shown(text: str) -> str:
    return text[:80]
