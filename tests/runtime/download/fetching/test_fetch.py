"""Files over HTTP: whatever line and server do, each byte comes to its place, or the reason is told."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence

import anyio
import pytest
from attrs import evolve

from foundry_proto.transfer import BadPlan, WantedFile
from foundry_runtime.download.fetching import Limits, RemoteFile, fetch_folder
from foundry_runtime.download.fetching.disk import Disk
from foundry_runtime.download.http import open_client
from foundry_runtime.download.sources.api import DownloadFailed, Place
from tests.runtime.download.fetching.remotes import KIB, SMALL, content, fetch, found, remote, remotes
from tests.support.origin import Fault, Origin, origin
from tests.support.serving import until

pytestmark = pytest.mark.anyio

FILE = "/model.onnx"
RECORD = "download.tmp"


async def test_files_come_whole_in_parallel_ranges_and_nothing_twice(server: Origin, place: Place) -> None:
    server.files = {
        "/model.onnx": content(1_000_000),
        "/a/b/config.json": content(100, 1),
        "/empty": b"",
        "/model.onnx.data": content(300_001, 2),
    }
    files = [remote(server, path[1:], hashed="a" in path) for path in server.files]
    size = sum(map(len, server.files.values()))
    told = await fetch(files, place)
    assert found(place) == server.files
    assert server.sent == size
    assert (told[0], told[-1][1]) == (("", 0.0), 1.0)
    assert [fraction for _, fraction in told] == sorted(fraction for _, fraction in told)
    assert server.count("/model.onnx") == 16
    assert await fetch(files, place) == [("", 1.0)]
    assert server.sent == size


async def test_many_small_files_come_and_empty_ones_too(server: Origin, place: Place) -> None:
    server.files = {f"/{number % 7}/{number}": b"x" * (number % 3) for number in range(300)}
    await fetch(remotes(server), place)
    assert found(place) == server.files
    assert len(server.asked) == 200


PASSING = [
    Fault(cut=0),
    Fault(cut=10_000),
    Fault(stall=10_000),
    Fault(silent=True),
    Fault(rate=500),
    Fault(status=408),
    Fault(status=429),
    Fault(status=503),
    Fault(status=500),
    Fault(status=204),
    Fault(shift=1),
    Fault(headers={"Content-Range": "bytes */300000"}),
    Fault(headers={"Content-Range": "bytes 0-65535/300001"}),
    Fault(headers={"Content-Length": "7"}),
    Fault(headers={"Content-Length": "1000000"}),
    Fault(longer=5),
]


async def test_what_fails_in_passing_is_asked_for_again(server: Origin, place: Place) -> None:
    server.files = {f"/{number}": content(150_000, number) for number in range(len(PASSING))}
    server.faults = {f"/{number}": [Fault(), fault] for number, fault in enumerate(PASSING)}
    await fetch(remotes(server, hashed=False), place, limits=evolve(SMALL, silence=0.2))
    assert found(place) == server.files
    counts = {str(fault): server.count(f"/{number}") for number, fault in enumerate(PASSING)}
    assert counts == dict.fromkeys(counts, 4)


async def test_what_came_before_the_line_was_cut_is_not_fetched_again(server: Origin, place: Place) -> None:
    server.files = {FILE: content(60 * KIB)}
    server.faults = {FILE: [Fault(cut=40 * KIB, rate=10_000_000)]}
    await fetch(remotes(server), place)
    first, second = server.asked
    assert (first.range, second.range) == (None, f"bytes={40 * KIB}-{60 * KIB - 1}")
    assert found(place) == server.files


async def test_a_server_is_left_in_peace_for_as_long_as_it_wants(server: Origin, place: Place) -> None:
    server.files = {FILE: content(1000)}
    server.faults = {FILE: [Fault(status=429, headers={"Retry-After": "1"})]}
    await fetch(remotes(server), place)
    first, second = server.asked
    assert second.when - first.when >= 1.0


REFUSALS = [
    (Fault(status=404), "404 Not Found"),
    (Fault(status=410), "410 Gone"),
    (Fault(status=403), "403 Forbidden"),
    (
        Fault(status=429, headers={"Retry-After": "86400"}),
        "429 Too Many Requests, not to be asked again for 86400 seconds",
    ),
    (Fault(zipped=True), "expected the bytes as they are, got Content-Encoding gzip"),
    (Fault(status=302, headers={"Location": FILE}), "expected at most 5 redirects, got more"),
    (Fault(status=304), "304 Not Modified"),
]


@pytest.mark.parametrize(("fault", "reason"), REFUSALS, ids=[reason for _, reason in REFUSALS])
async def test_a_refusal_for_good_is_told_at_once(
    server: Origin, place: Place, fault: Fault, reason: str
) -> None:
    server.files = {FILE: content(1000)}
    server.always = lambda path, ranges: fault
    expected = rf"^model.onnx: {re.escape(reason)} \({server.url}/model.onnx\)$"
    with pytest.raises(DownloadFailed, match=expected):
        await fetch(remotes(server), place)
    assert len(server.asked) <= 6
    assert RECORD in {path.name for path in place.folder.iterdir()}


LASTING = [
    (Fault(status=503), "503 Service Unavailable"),
    (Fault(shift=1), "expected bytes 65536-131071/300000, got bytes 65537-131071/300000"),
    (Fault(headers={"Content-Length": "7"}), "expected 65536 bytes, got a Content-Length of 7"),
    (Fault(longer=5), "expected the bytes that were asked for, got more"),
    (Fault(status=204), "expected status 200 or 206, got 204"),
    (Fault(stall=0), "silent for too long"),
]


@pytest.mark.parametrize(("fault", "reason"), LASTING, ids=[reason for _, reason in LASTING])
async def test_what_never_passes_is_told_in_the_end_and_what_came_is_kept(
    server: Origin, place: Place, fault: Fault, reason: str
) -> None:
    server.files = {FILE: content(300_000)}

    def second(_path: str, ranges: str | None) -> Fault | None:
        start = int(ranges[6:].partition("-")[0]) if ranges else 0
        return fault if 64 * KIB <= start < 128 * KIB else None

    server.always = second
    limits = evolve(SMALL, attempts=3, silence=0.2)
    with pytest.raises(
        DownloadFailed, match=rf"^model.onnx: {re.escape(reason)} \({server.url}/model.onnx\)$"
    ):
        await fetch(remotes(server), place, limits=limits)
    sent = server.sent
    server.always = lambda path, ranges: None
    assert (await fetch(remotes(server), place))[0][1] > 0.6
    assert found(place) == server.files
    assert server.sent - sent <= 2 * 64 * KIB


async def test_damaged_bytes_are_noticed_and_fetched_anew_once(server: Origin, place: Place) -> None:
    server.files = {FILE: content(100_000)}
    server.faults = {FILE: [Fault(corrupt=True)]}
    await fetch(remotes(server), place)
    assert found(place) == server.files
    server.always = lambda path, ranges: Fault(corrupt=True)
    (place.folder / "model.onnx").unlink()
    with pytest.raises(
        DownloadFailed, match=r"^model.onnx: expected SHA-256 [0-9a-f]{64}, got [0-9a-f]{64}$"
    ):
        await fetch(remotes(server), place)
    assert server.sent == 4 * 100_000


async def test_a_server_without_ranges_is_asked_for_whole_files(server: Origin, place: Place) -> None:
    server.files = {FILE: content(300_000), "/config.json": content(100)}
    server.always = lambda path, ranges: Fault(whole=True)
    await fetch(remotes(server), place)
    assert found(place) == server.files
    # What is there already is passed over.
    (place.folder / "model.onnx").unlink()
    server.always = lambda path, ranges: Fault(status=404) if ranges == "bytes=131072-196607" else None
    with pytest.raises(DownloadFailed, match="404"):
        await fetch(remotes(server), place)
    server.always = lambda path, ranges: Fault(whole=True)
    await fetch(remotes(server), place)
    assert found(place) == server.files


async def test_a_redirect_to_another_host_takes_no_secrets_along(server: Origin, place: Place) -> None:
    secrets = {"authorization": "Bearer hf_secret", "x-own": "secret, too"}
    with origin() as other:
        other.files = server.files = {FILE: content(200_000)}
        server.always = lambda path, ranges: (
            Fault(status=307, headers={"Location": f"{FILE}?here"})
            if "here" not in path
            else Fault(status=302, headers={"Location": f"{other.url}{FILE}?sig=1"})
        )
        await fetch([evolve(one, headers=secrets) for one in remotes(server)], place)
        assert found(place) == server.files
        for asked in server.asked:
            assert secrets.items() <= asked.headers.items()
        for asked in other.asked:
            assert asked.path.endswith("?sig=1")
            assert not secrets.keys() & asked.headers.keys()
            assert asked.headers["range"]
        assert len(other.asked) == 4


class Signed:
    """A listing whose addresses are good for so many requests."""

    def __init__(self, server: Origin, good_for: int) -> None:
        self.asked = 0
        self._server, self._good_for = server, good_for
        server.always = self._check

    async def __call__(self) -> Sequence[RemoteFile]:
        self.asked += 1
        return [remote(self._server, path[1:], query=f"?sig={self.asked}") for path in self._server.files]

    def _check(self, path: str, ranges: str | None) -> Fault | None:
        used = sum(asked.path.endswith(f"?sig={self.asked}") for asked in self._server.asked)
        return None if path.endswith(f"?sig={self.asked}") and used <= self._good_for else Fault(status=403)


async def test_addresses_that_expire_midway_are_asked_for_again(server: Origin, place: Place) -> None:
    server.files = {FILE: content(1_000_000), "/config.json": content(100)}
    listing = Signed(server, good_for=6)
    await fetch(listing, place)
    assert found(place) == server.files
    assert 3 <= listing.asked <= 6
    assert server.sent == 1_000_100


async def test_addresses_that_never_work_are_asked_for_once_more(server: Origin, place: Place) -> None:
    server.files = {FILE: content(1000)}
    listing = Signed(server, good_for=0)
    with pytest.raises(DownloadFailed, match="403 Forbidden"):
        await fetch(listing, place)
    assert listing.asked == 2


async def test_files_that_change_at_their_source_are_not_mixed(server: Origin, place: Place) -> None:
    server.files = {FILE: content(1_000_000)}
    signed = Signed(server, good_for=3)

    async def listing() -> Sequence[RemoteFile]:
        server.files = {FILE: content(1_000_000, signed.asked)}
        return await signed()

    with pytest.raises(
        DownloadFailed, match=r"^the files have changed at their source in the meantime: ask again$"
    ):
        await fetch(listing, place)
    signed._good_for = 1000
    await fetch(signed, place)
    assert found(place) == server.files


async def test_who_is_cancelled_has_ended_all_work_and_keeps_what_has_come(
    server: Origin, place: Place
) -> None:
    server.files = {FILE: content(2_000_000)}
    server.rate = 2_000_000
    enough = anyio.Event()

    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            await fetch(
                remotes(server), place, progress=lambda _, fraction: enough.set() if fraction > 0.5 else None
            )

        tasks.start_soon(run)
        await enough.wait()
        tasks.cancel_scope.cancel()
    server.rate = None
    told = await fetch(remotes(server), place)
    assert told[0][1] > 0.5
    assert found(place) == server.files
    # What was in the line was lost, and nothing else.
    assert server.sent <= 2_000_000 + 4 * 64 * KIB


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: data.replace(b" 1 ", b" 9 ", 1)]
)
@pytest.mark.parametrize("hashed", [True, False])
async def test_a_record_that_is_torn_or_of_another_version_costs_bytes_and_nothing_else(
    server: Origin, place: Place, damage: Callable[[bytes], bytes], hashed: bool
) -> None:
    server.files = {FILE: content(300_000), "/config.json": content(100)}
    server.always = lambda path, ranges: Fault(status=404) if ranges == "bytes=131072-196607" else None
    with pytest.raises(DownloadFailed, match="404"):
        await fetch(remotes(server, hashed=hashed), place)
    record = place.folder / RECORD
    record.write_bytes(damage(record.read_bytes()))
    server.always = lambda path, ranges: None
    await fetch(remotes(server, hashed=hashed), place)
    assert found(place) == server.files


@pytest.mark.parametrize(
    "path", ["../model.onnx", "/etc/model.onnx", "C:\\model.onnx", "a/../../b", "con", ""]
)
async def test_names_that_lead_elsewhere_are_refused_before_anything_is_asked(
    server: Origin, place: Place, path: str
) -> None:
    async def listing() -> Sequence[RemoteFile]:
        return [RemoteFile(WantedFile(path=path, size=1), server.url)]

    with pytest.raises(BadPlan, match=r"^expected a path within a folder, got "):
        await fetch(listing, place)
    assert (server.asked, place.folder.exists()) == ([], False)


async def test_an_address_that_is_none_is_told(place: Place) -> None:
    bad = {
        "http://x:y/": "expected an address, got one that is none: Invalid port: 'y'",
        "ftp://x/y": "expected http or https: Request URL has an unsupported protocol 'ftp://'.",
    }
    for url, reason in bad.items():
        with pytest.raises(DownloadFailed, match=rf"^model.onnx: {re.escape(reason)} \({url}\)$"):
            await fetch([RemoteFile(WantedFile(path="model.onnx", size=5), url)], place)


async def test_a_listing_that_fails_is_told_as_it_is(place: Place) -> None:
    async def listing() -> Sequence[RemoteFile]:
        raise DownloadFailed("no such model")

    with pytest.raises(DownloadFailed, match=r"^no such model$"):
        await fetch(listing, place)


async def test_limits_with_which_nothing_would_be_recorded_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^unrecorded: expected at least 4194304 bytes, got 1$"):
        Limits(unrecorded=1)


async def test_who_is_cancelled_while_a_hash_is_computed_does_not_wait_for_it(
    server: Origin, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files = {FILE: content(1000)}
    begun, stopped = threading.Event(), []

    def compute(_disk: Disk, _path: str, stop: threading.Event) -> None:
        begun.set()
        stopped.append(stop.wait(60))

    monkeypatch.setattr(Disk, "sha256", compute)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fetch, remotes(server), place)
        await until(begun.is_set)
        tasks.cancel_scope.cancel()
    assert stopped == [True]
    monkeypatch.undo()
    await fetch(remotes(server), place)
    assert (found(place), len(server.asked)) == (server.files, 1)


async def test_how_much_is_written_at_a_time_can_be_said(server: Origin, place: Place) -> None:
    server.files = {FILE: content(300_000)}
    for size in (1, 100_000, 10**9):

        async def listing() -> Sequence[RemoteFile]:
            return remotes(server)

        async with open_client() as client:
            await fetch_folder(listing, place, lambda *_: None, client=client, buffer_size=size)
        assert found(place) == server.files
        (place.folder / "model.onnx").unlink()
