"""Laws of a crowd: no more than there may be, from everywhere and from one place; who leaves makes room."""

from __future__ import annotations

import json

import pytest

from foundry_runtime.crowd import Crowd, CrowdLimits


def body_of(refusal: bytes | None) -> tuple[int, str]:
    assert refusal is not None
    head, _, body = refusal.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert "retry-after: 5" in lines
    assert "connection: close" in lines
    assert f"content-length: {len(body)}" in lines
    return int(lines[0].split()[1]), json.loads(body)["error"]["message"]


def test_one_too_many_is_told_to_come_again() -> None:
    crowd = Crowd(CrowdLimits(total=3, per_address=2))
    assert [crowd.enter(host) for host in ("192.0.2.1", "192.0.2.1", "192.0.2.2")] == [None] * 3
    assert body_of(crowd.enter("192.0.2.3")) == (
        503,
        "the server has as many connections as it may have: try again later",
    )
    crowd.leave("192.0.2.2")
    assert body_of(crowd.enter("192.0.2.1")) == (
        429,
        "there are as many connections from this address as there may be: try again later",
    )
    assert crowd.enter("192.0.2.2") is None
    for host in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
        crowd.leave(host)
    assert len(crowd) == 0
    assert not crowd._from  # nothing is kept of those who have left


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_a_network_that_one_machine_has_is_one_place(one: str, other: str, same: bool) -> None:
    crowd = Crowd(CrowdLimits(per_address=1))
    assert crowd.enter(one) is None
    assert (crowd.enter(other) is not None) is same


def test_who_has_no_address_counts_among_all() -> None:
    crowd = Crowd(CrowdLimits(total=2, per_address=1))
    assert crowd.enter(None) is None
    assert crowd.enter(None) is None
    assert body_of(crowd.enter(None))[0] == 503
    crowd.leave(None)
    assert crowd.enter("::1") is None
