"""Laws of the configuration: which place counts, and that what is wrong is named with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from foundry_runtime.models.settings import write_models_folder
from foundry_serve.config import BadConfig, Config, settings
from foundry_serve.config_sources import load_config
from foundry_serve.kinds import BadValue, Kind, choice, file_mode, number, switch, text, texts, whole
from tests.support.command import call


def load(home: Path, content: str = "", flags: dict[str, object] | None = None, **variables: str) -> Config:
    return loaded(home, content, flags, **variables)[0]


def loaded(
    home: Path, content: str = "", flags: dict[str, object] | None = None, **variables: str
) -> tuple[Config, dict[str, str]]:
    if content:
        (home / "config.toml").write_text(content, "utf-8")
    found = load_config(flags, environment={"FOUNDRY_HOME": str(home), **variables})
    return found.config, dict(found.sources)


def test_each_place_counts_more_than_the_one_before_it(tmp_path: Path) -> None:
    file = "drain = 1\nhead_timeout = 2\nverbose = true\n"
    assert load(tmp_path) == Config()
    config, sources = loaded(
        tmp_path, file, {"drain": "4"}, FOUNDRY_DRAIN="3", FOUNDRY_HEAD_TIMEOUT="5", FOUNDRY_PORT=""
    )
    assert config == Config(drain=4, head_timeout=5, verbose=True)
    assert sources == {
        "drain": "--drain",
        "head_timeout": "FOUNDRY_HEAD_TIMEOUT",
        "verbose": str(tmp_path / "config.toml"),
    }


def test_where_models_are_is_decided_by_the_same_order(tmp_path: Path) -> None:
    write_models_folder(tmp_path, tmp_path / "remembered")
    config, sources = loaded(tmp_path)
    assert (config.cachedir, sources) == (
        str(tmp_path / "remembered"),
        {"cachedir": str(tmp_path / "settings.json")},
    )
    config, sources = loaded(tmp_path, 'cachedir = "größe"')
    assert (config.cachedir, sources) == (
        str(tmp_path / "größe"),
        {"cachedir": str(tmp_path / "config.toml")},
    )
    found = load_config(environment={"FOUNDRY_HOME": str(tmp_path)})
    assert found.directory.models == tmp_path / "größe"


def test_a_file_of_another_name_must_be_there(tmp_path: Path) -> None:
    other = tmp_path / "my settings.toml"
    with pytest.raises(BadConfig) as missing:
        load(tmp_path, FOUNDRY_CONFIG=str(other))
    assert str(missing.value) == f"FOUNDRY_CONFIG: {other}: No such file or directory"
    other.write_text("drain = 2")
    assert load(tmp_path, "drain = 3", FOUNDRY_CONFIG=str(other)).drain == 2


@pytest.mark.parametrize(
    ("content", "variables", "message"),
    [
        ("drian = 3", {}, "{home}/config.toml: drian: no such setting; did you mean drain?"),
        (
            "head-timeout = 3",
            {},
            "{home}/config.toml: head-timeout: no such setting; did you mean head_timeout?",
        ),
        ("colour = 3", {}, "{home}/config.toml: colour: no such setting"),
        ("[serve]\ndrain = 3", {}, "{home}/config.toml: serve: no such setting"),
        ("drain = ", {}, "{home}/config.toml: expected TOML: Invalid value (at end of document)"),
        ("drain = '3 s'", {}, '{home}/config.toml: drain: expected a number of at least 0, got "3 s"'),
        ("verbose = 1", {}, "{home}/config.toml: verbose: expected true or false, got 1"),
        ("", {"FOUNDRY_DRIAN": "3"}, "FOUNDRY_DRIAN: no such setting; did you mean FOUNDRY_DRAIN?"),
        ("", {"FOUNDRY_HOMES": "3"}, "FOUNDRY_HOMES: no such setting; did you mean FOUNDRY_HOME?"),
        ("", {"FOUNDRY_PORT": "65536"}, 'FOUNDRY_PORT: expected a whole number from 0 to 65535, got "65536"'),
        ("", {"FOUNDRY_ENGINE": "v8"}, 'FOUNDRY_ENGINE: expected one of auto, batched, genai, got "v8"'),
    ],
    ids=str,
)
def test_what_is_wrong_is_named_with_its_place(
    tmp_path: Path, content: str, variables: dict[str, str], message: str
) -> None:
    with pytest.raises(BadConfig) as wrong:
        load(tmp_path, content, None, **variables)
    assert str(wrong.value) == message.format(home=tmp_path)


def test_variables_of_other_programs_are_passed_over(tmp_path: Path) -> None:
    assert load(tmp_path, FOUNDRY_TEST_HOME="x", FOUNDRY_TOKEN_SERVICE="y", FOUNDRYDRAIN="z") == Config()


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        (text, "a b", "a b"),
        (text, "", None),
        (text, 5, None),
        (texts, "a, b,,", ("a", "b")),
        (texts, ["a", "b,c"], ("a", "b,c")),
        (texts, ["a", 5], None),
        (texts, 5, None),
        (switch, "Yes", True),
        (switch, "off", False),
        (switch, False, False),
        (switch, "maybe", None),
        (switch, 0, None),
        (number(0), "1e3", 1000.0),
        (number(0), 5, 5.0),
        (number(0), "inf", None),
        (number(0), float("nan"), None),
        (number(0), True, None),
        (number(1), 0.5, None),
        (whole(0, 9), "9", 9),
        (whole(0, 9), 10, None),
        (whole(1), "0", None),
        (whole(1), "1" * 19, None),
        (whole(1), 1.0, None),
        (whole(0), False, None),
        (choice("a", "b"), "b", "b"),
        (choice("a", "b"), "c", None),
        (choice("a", "b"), ["a"], None),
        (file_mode, "0660", 0o660),
        (file_mode, 0o600, 0o600),
        (file_mode, "1777", None),
        (file_mode, "8", None),
    ],
    ids=lambda value: value.noun if isinstance(value, Kind) else str(value),
)
def test_a_text_and_a_typed_value_are_read_alike(kind: Kind, given: object, value: object) -> None:
    if value is None:
        with pytest.raises(BadValue):
            kind.value_of(given)
    else:
        read = kind.value_of(given)
        assert (read, type(read)) == (value, type(value))
        assert kind.value_of(read) == read


def test_every_default_is_a_value_of_its_setting() -> None:
    for one in settings():
        if one.default is not None:
            assert one.kind.value_of(one.default) == one.default, one.name
            assert one.show(one.default)


def test_config_show_says_where_each_value_came_from(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("drain = 1.5\nhead_timeout = 9")
    options = ("config", "show", "--head-timeout", 8)
    done = call(tmp_path, *options, FOUNDRY_VERBOSE="yes")
    assert done.exit_code == 0
    rows = [line.split(None, 2) for line in done.stdout.splitlines()]
    assert len(rows) == 2 + len(list(settings()))
    assert rows[0] == ["Setting", "Value", "From"]
    assert ["drain", "1.5", str(tmp_path / "config.toml")] in rows
    assert ["head_timeout", "8", "--head-timeout"] in rows
    assert ["verbose", "true", "FOUNDRY_VERBOSE"] in rows
    assert ["port", "-", "default"] in rows
    told = json.loads(call(tmp_path, *options, "--json").stdout)
    assert {"name": "head_timeout", "value": 8.0, "shown": "8", "from": "--head-timeout"} in told
    path = call(tmp_path, "config", "path")
    assert path.stdout == f"{tmp_path / 'config.toml'}\n"


def test_no_command_goes_on_with_a_file_that_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("drane = 1")
    done = call(tmp_path, "service", "start")
    said = f"foundry: {tmp_path / 'config.toml'}: drane: no such setting; did you mean drain?\n"
    assert (done.exit_code, done.stdout, done.stderr) == (1, "", said)


def test_cache_cd_says_when_another_place_counts_more(tmp_path: Path) -> None:
    done = call(tmp_path, "cache", "cd", tmp_path / "new", FOUNDRY_CACHEDIR=str(tmp_path / "old"))
    assert done.exit_code == 0
    assert done.stderr == f"foundry: but FOUNDRY_CACHEDIR says {tmp_path / 'old'}, and counts more\n"
