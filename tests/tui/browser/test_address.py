"""Where the browser's server listens without being told to, and its token."""

from __future__ import annotations

import pytest

from tpe_core.errors import TpeError
from tpe_tui.browser.address import check_host, is_loopback, is_token, new_token, shown_address

REMOTE = ["0.0.0.0", "::", "192.168.1.4", "example.org", "", "2001:db8::1", "127.0.0.1.example.org", "localhost."]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_a_loopback_host_is_taken_without_a_flag(host: str) -> None:
    assert is_loopback(host)
    check_host(host, allow_remote=False)


@pytest.mark.parametrize("host", REMOTE)
def test_any_other_host_is_refused_without_the_flag_and_taken_with_it(host: str) -> None:
    with pytest.raises(TpeError, match="add --allow-remote"):
        check_host(host, allow_remote=False)
    check_host(host, allow_remote=True)


def test_tokens_are_long_different_and_need_no_escaping_in_an_address() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(token) == 32 and token.replace("-", "").replace("_", "").isalnum() for token in tokens)


@pytest.mark.parametrize("given", ["", "x", "TOKEN", "token ", "token/", "tokenx", "töken", "\udc80"])
def test_nothing_but_the_token_is_the_token(given: str) -> None:
    assert is_token("token", "token")
    assert not is_token(given, "token")


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "http://127.0.0.1:80/t/"), ("::1", "http://[::1]:80/t/"), ("0.0.0.0", "http://127.0.0.1:80/t/")],
)
def test_the_address_can_be_opened_as_it_is(host: str, address: str) -> None:
    assert shown_address(host, 80, "t") == address
