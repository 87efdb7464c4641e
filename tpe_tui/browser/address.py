"""Where the browser's server may listen, and the token without which it answers nobody."""

from __future__ import annotations

import ipaddress
import secrets

from tpe_core.errors import TpeError

__all__ = ["LOOPBACK", "check_host", "is_loopback", "is_token", "new_token", "shown_address"]

LOOPBACK = "127.0.0.1"
TOKEN_BYTES = 24


def new_token() -> str:
    """192 random bits, as an address can hold them."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def is_token(given: str, token: str) -> bool:
    """Whether somebody gave the token; how long the answer takes says nothing of it."""
    return secrets.compare_digest(given.encode("utf-8", "replace"), token.encode())


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there: a loopback address, or the name localhost."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_host(host: str, allow_remote: bool) -> None:
    """Raises `TpeError` where other machines could reach `host` and that was not allowed."""
    if not (is_loopback(host) or allow_remote):
        raise TpeError(
            f"other machines can reach {host or 'an empty --host'}, and whoever has the address uses tpe as you, over "
            "plain HTTP: add --allow-remote where that is meant, or leave --host out and forward the port with ssh -L."
        )


def shown_address(host: str, port: int, token: str) -> str:
    """The address to open. One that listens everywhere is shown as this machine's own."""
    name = host.strip("[]")
    name = LOOPBACK if name == "0.0.0.0" else "::1" if name == "::" else name  # noqa: S104  # it is compared, not bound
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/{token}/"
