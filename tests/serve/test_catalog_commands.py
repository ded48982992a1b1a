"""Laws of the commands about the public catalogue: what is listed, announced and got, with and without it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.published.kept import KEPT_FILE
from foundry_serve.cli import getting, known
from tests.runtime.models.folders import write_folder
from tests.support.command import call, foundry
from tests.support.fake_catalog import FakeCatalog, entry, fake_catalog
from tests.support.scripted_source import ScriptedSource

PHI = "phi-4-mini-instruct-generic-cpu"
DEFAULT = "smollm2-135m-instruct-generic-cpu:1"


@pytest.fixture
def catalog() -> Iterator[FakeCatalog]:
    with fake_catalog(entry()) as made:
        yield made


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "ein Zuhause ☕"


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> ScriptedSource:
    made = ScriptedSource(prefix="azureml://")
    monkeypatch.setattr(getting, "make_sources", lambda _: [made])
    return made


def listed(home: Path, catalog: FakeCatalog, *options: str) -> tuple[list[str], str]:
    """The ids that are listed, and what stands on standard error."""
    done = call(home, "model", "list", "--json", *options, FOUNDRY_CATALOG=catalog.url)
    assert done.exit_code == 0
    return [one["id"] for one in json.loads(done.stdout)], done.stderr


def test_the_first_list_asks_and_later_ones_do_not(home: Path, catalog: FakeCatalog) -> None:
    for _ in range(2):
        assert listed(home, catalog) == ([f"{PHI}:2", DEFAULT], "")
        assert len(catalog.asked) == 1
    catalog.entries = ()
    assert listed(home, catalog, "--refresh") == ([DEFAULT], "")
    # Another catalogue, or none, has other models.
    assert json.loads(call(home, "model", "ls", "--json").stdout)[0]["id"] == DEFAULT


def test_without_a_network_the_kept_list_is_shown_with_a_line_that_it_is_old(
    home: Path, catalog: FakeCatalog
) -> None:
    listed(home, catalog)
    catalog.statuses = [404]
    told = (
        "foundry: the catalogue could not be reached, its list is less than a minute old:"
        f" {catalog.url}/entities/crossRegion: 404 Not Found\n"
    )
    for options in (["--refresh"], []):
        assert listed(home, catalog, *options) == ([f"{PHI}:2", DEFAULT], told)
    assert len(catalog.asked) == 2
    kept = home / "cache" / KEPT_FILE
    two_days_ago = json.loads(kept.read_bytes())
    two_days_ago["savedAtUnix"] -= 2 * 86_400
    kept.write_text(json.dumps({**two_days_ago, "problem": None}))
    assert listed(home, catalog) == (
        [f"{PHI}:2", DEFAULT],
        f"foundry: the list of the catalogue at {catalog.url} is 2 days old: foundry model list --refresh\n",
    )


def test_a_machine_that_never_was_on_a_network_waits_once_and_shortly(
    home: Path, catalog: FakeCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "SHORT", 0.1)
    catalog.hangs = True
    write_folder(home / "cache" / "models" / "p" / "m", "mine:1")
    told = (
        "foundry: the catalogue could not be reached, only what is on this machine is known:"
        f" {catalog.url}: no answer within 0.1 seconds\n"
    )
    for _ in range(2):
        assert listed(home, catalog) == (["mine:1", DEFAULT], told)
    assert len(catalog.asked) == 1


def test_a_newer_version_is_announced_and_got_and_the_older_stays(
    home: Path, catalog: FakeCatalog, source: ScriptedSource
) -> None:
    models = home / "cache" / "models"
    write_folder(models / "Microsoft" / f"{PHI}-1", f"{PHI}:1")
    done = call(home, "model", "list", FOUNDRY_CATALOG=catalog.url)
    assert done.stderr == f"foundry: {PHI}:2 is newer than {PHI}:1: foundry model download {PHI}\n"
    by_id = {
        one["id"]: one["newerVersion"]
        for one in json.loads(call(home, "model", "list", "--json", FOUNDRY_CATALOG=catalog.url).stdout)
    }
    assert by_id == {f"{PHI}:1": f"{PHI}:2", f"{PHI}:2": None, DEFAULT: None}
    about = call(home, "model", "info", "phi-4-mini", FOUNDRY_CATALOG=catalog.url).stdout
    assert f"Newer version       {PHI}:2\n" in about
    folder = models / "Microsoft" / f"{PHI}-2"
    for times in (1, 1):
        done = call(home, "model", "download", "phi-4-mini", FOUNDRY_CATALOG=catalog.url)
        assert (done.exit_code, done.stdout) == (0, f"{PHI}:2 is in {folder}\n")
        assert done.stderr == f"foundry: {PHI}:1 is still here: foundry cache remove {PHI}:1\n"
        assert [one.id for one in source.fetched] == [f"{PHI}:2"] * times
    assert json.loads((folder / "inference_model.json").read_bytes())["alias"] == "phi-4-mini"
    assert call(home, "model", "list", FOUNDRY_CATALOG=catalog.url).stderr == ""
    # By its full id the older one can be had, and removed; the alias would be a guess.
    done = call(home, "cache", "remove", "phi-4-mini", FOUNDRY_CATALOG=catalog.url)
    assert done.stderr == (f"foundry: phi-4-mini means several models that are here: {PHI}:2, {PHI}:1\n")
    done = call(home, "cache", "remove", "PHI-4-mini:1", FOUNDRY_CATALOG=catalog.url)
    assert done.exit_code == 0
    assert [one.id for one in ModelDirectory(home).entries()] == [f"{PHI}:2"]


def test_who_wants_a_model_has_the_catalogue_asked_if_its_list_is_not_new(
    home: Path, catalog: FakeCatalog, source: ScriptedSource
) -> None:
    catalog.entries = ()
    listed(home, catalog)
    kept = home / "cache" / KEPT_FILE
    old = json.loads(kept.read_bytes())
    kept.write_text(json.dumps({**old, "savedAtUnix": old["savedAtUnix"] - 5 * 3600}))
    catalog.entries = [entry()]
    done = call(home, "model", "download", "phi-4-mini", FOUNDRY_CATALOG=catalog.url)
    assert done.exit_code == 0
    assert len(catalog.asked) == 2
    # A name that a new list does not have is not asked for again.
    done = call(home, "model", "download", "nobody", FOUNDRY_CATALOG=catalog.url)
    assert (done.exit_code, done.stderr) == (
        1,
        "foundry: Model nobody was not found in the catalog or local cache.\n",
    )
    assert len(catalog.asked) == 2


def test_what_is_not_known_for_want_of_a_network_is_told_so(home: Path, catalog: FakeCatalog) -> None:
    catalog.statuses = [404, 404]
    for command in (("model", "download", "phi-4-mini"), ("model", "run", "phi-4-mini", "x")):
        done = call(home, *command, FOUNDRY_CATALOG=catalog.url)
        assert (done.exit_code, done.stdout) == (1, "")
        first, second = done.stderr.splitlines()
        assert first.startswith(
            "foundry: the catalogue could not be reached, only what is on this machine is known: "
        )
        assert second == "foundry: Model phi-4-mini was not found in the catalog or local cache."


@pytest.mark.parametrize("address", ["mirror", "http://a b"])
def test_an_address_that_is_none_is_named(home: Path, address: str) -> None:
    done = call(home, "model", "list", FOUNDRY_CATALOG=address)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == (
        f'foundry: FOUNDRY_CATALOG: expected http(s)://HOST[:PORT][/PATH] or off, got "{address}"\n'
    )


def test_a_command_of_its_own_asks_through_the_real_client(home: Path, catalog: FakeCatalog) -> None:
    done = foundry(home, "model", "list", "--json", FOUNDRY_CATALOG=catalog.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert [one["id"] for one in json.loads(done.stdout)] == [f"{PHI}:2", DEFAULT]
    assert catalog.seen[0].agent == "AzureAiStudio"
    catalog.statuses = [404]
    catalog.entries = [5]
    done = foundry(home, "model", "list", "--json", "--refresh", FOUNDRY_CATALOG=catalog.url)
    (line,) = done.stderr.splitlines()
    assert line.startswith("foundry: the catalogue could not be reached, its list is ")
    done = foundry(home, "model", "list", "--json", "--refresh", FOUNDRY_CATALOG=catalog.url)
    assert (done.returncode, done.stderr) == (0, "")
