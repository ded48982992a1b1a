"""Laws of the conformance kit: a server that is right passes, and one that is wrong is caught, by the cases
that are meant to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from foundry_proto.conformance import (
    ALL_PROFILES,
    CASES,
    GROUPS,
    HAND_WRITTEN,
    PROFILES,
    Call,
    Case,
    Close,
    Happened,
    Open,
    Receive,
    Report,
    Script,
    Send,
    Sleep,
    Target,
    Together,
    Unmet,
    Untestable,
    derive,
    drive,
    judge,
    judge_all,
    look,
    run_script,
    selected,
    with_known,
)
from foundry_proto.events import Failure, Response
from foundry_proto.operations import ALL, Operations
from tests.support.mutants import MUTANTS, Mutant, meant
from tests.support.small_handlers import HANDLERS
from tests.support.small_server import CHAT_MODEL, OPERATIONS, SmallServer, World, run

ALLOWED = Target(host="test", allow=frozenset({"download", "unload", "shutdown"}))
IDS = [case.id for case in CASES]
EVERY = tuple(PROFILES)


def tried(server: SmallServer | None = None, target: Target = ALLOWED, **more: Any) -> Report:
    return run(run_script(target, EVERY, **more), server)


def outcomes(report: Report, outcome: str) -> set[str]:
    return {verdict.case.id for verdict in report.verdicts if verdict.outcome == outcome}


# The whole.


def test_a_server_that_is_right_passes_every_case() -> None:
    report = tried()
    assert [verdict for verdict in report.verdicts if verdict.outcome != "passed"] == []
    assert [verdict.case.id for verdict in report.verdicts] == IDS
    assert report.conforms
    assert report.count("passed") == len(CASES)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_caught_by_the_cases_meant_to_and_by_no_other(mutant: Mutant) -> None:
    report = tried(mutant.make())
    assert outcomes(report, "failed") == meant(mutant, IDS)
    assert outcomes(report, "untested") | outcomes(report, "not offered") == set()


def test_there_are_mutants_enough_and_each_is_another() -> None:
    assert len(MUTANTS) >= 25
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_each_case_is_a_sentence_with_a_source_and_an_id_of_its_own() -> None:
    assert len(set(IDS)) == len(CASES)
    assert len(HAND_WRITTEN) >= 150
    for case in CASES:
        assert case.requirement.endswith("."), case.id
        assert case.source, case.id
        assert case.profiles, case.id
        assert case.level in ("MUST", "SHOULD", "INFO"), case.id


def test_every_operation_has_cases_of_its_own() -> None:
    named = Counter(case.id.split(".")[1] for case in derive(ALL))
    assert set(named) == {operation.name for operation in ALL}


def test_an_operation_that_an_embedder_has_added_has_cases_too() -> None:
    (added,) = [row for row in OPERATIONS if row.name == "get_response"]
    cases = derive(Operations([added]))
    assert [case.id for case in cases] == ["op.get_response.method"]
    assert [case.profiles for case in cases] == [("extra",)]


def test_each_profile_says_what_it_requires_and_core_requires_nothing_optional() -> None:
    assert set(ALL_PROFILES) < set(PROFILES)
    assert PROFILES["core"].requires.isdisjoint(GROUPS)
    for name, profile in PROFILES.items():
        groups = {case.group for case in selected(CASES, [name])}
        assert profile.requires <= groups, name


# What a server lacks.


def test_what_is_not_allowed_is_not_done() -> None:
    server = SmallServer(now=1000.0)
    server.load(server.models[1])
    report = tried(server, Target(host="test"))
    untested = outcomes(report, "untested")
    assert not server.stopped
    assert [model.id for model in server.models if model.cached] == [CHAT_MODEL, server.models[2].id]
    assert CHAT_MODEL in server.loaded
    assert {"core.shutdown.answer", "download.cached", "unload.force", "unload.all"} <= untested
    assert outcomes(report, "failed") == set()
    reasons = {verdict.message for verdict in report.verdicts if verdict.outcome == "untested"}
    assert reasons == {
        "it downloads: --allow download",
        "it ends the server: --allow shutdown",
        "it unloads a model that was in memory before: --allow unload",
    }


def test_a_group_that_is_absent_is_not_offered_and_never_passed() -> None:
    rows = [row for row in ALL if row.name not in ("completions", "embeddings", "watch")]
    report = tried(SmallServer(operations=Operations(rows), watch=False))
    assert report.target.absent == set(GROUPS)
    absent = {case.id for case in CASES if case.group in GROUPS}
    assert outcomes(report, "not offered") == absent
    assert outcomes(report, "failed") == set()
    assert report.conforms


def test_a_group_that_a_profile_requires_fails_where_it_is_absent() -> None:
    rows = [row for row in ALL if row.name != "watch" and row.profile != "core"]
    report = tried(SmallServer(operations=Operations(rows), watch=False))
    failed = outcomes(report, "failed")
    assert {"models.list", "core.status.pid", "op.core_status.answers"} <= failed
    assert not report.conforms


def _without_list(server: Any, request: Any) -> Any:
    yield Response(value=())


def test_where_no_model_is_found_what_needs_one_is_untested() -> None:
    server = SmallServer(models=[])
    report = tried(server)
    untested = {
        verdict.case.id: verdict.message for verdict in report.verdicts if verdict.outcome == "untested"
    }
    assert untested["chat.object"] == "no model was named, and none is listed"
    assert untested["load.uncached"] == "the catalogue has no model that is not here"
    assert untested["catalog.texts"] == "the catalogue is empty"
    assert untested["embeddings.one"] == "no model that gives vectors was found"


def test_a_model_that_does_not_answer_is_said_to() -> None:
    found = run(look(Target(host="test", model="no-such-model")))
    assert found.model_trouble.startswith("no-such-model does not answer: status 404")
    assert found.listed == ""


def _refusing_until_loaded(server: Any, request: Any) -> Any:
    model = server.find(request.value.model)
    if model is not None and model.id not in server.loaded:
        yield Failure(status=400, message="Model not loaded")
        return
    yield from HANDLERS["chat_completions"](server, request)


def test_a_model_that_must_be_loaded_first_is_loaded() -> None:
    server = SmallServer(handlers={**HANDLERS, "chat_completions": _refusing_until_loaded})
    found = run(look(Target(host="test", model="tiny-chat")), server)
    assert (found.model_trouble, found.loader, found.listed) == ("", "/openai/load/", CHAT_MODEL)


def test_a_server_of_the_newer_kind_is_known_by_its_own_routes() -> None:
    rows = [row for row in ALL if row.profile == "core" or row.name == "chat_completions"]
    found = run(look(Target(host="test")), SmallServer(operations=Operations(rows), watch=False))
    assert (found.loader, found.get, found.model_trouble) == ("/models/load/", "/v1/models", "")


def test_a_server_that_answers_nothing_as_it_should_has_no_model() -> None:
    rows = [row for row in ALL if row.name == "openapi"]
    found = run(look(Target(host="test")), SmallServer(operations=Operations(rows), watch=False))
    assert (found.loader, found.get) == ("", "/v1/models")
    assert found.model_trouble == "no model was named, and none is listed"


def test_a_server_that_is_not_there_is_said_to_be_not() -> None:
    with pytest.raises(Unmet, match="expected a connection to the server, got none"):
        tried(SmallServer(stopped=True))


@pytest.mark.parametrize("name", ["list_models", "chat_completions", "cached_models"])
def test_a_look_at_a_server_survives_what_is_broken(name: str) -> None:
    def broken(_: str, operation: str, data: bytes) -> bytes:
        return b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{" if operation == name else data

    found = run(look(Target(host="test")), SmallServer(rewrite=broken))
    assert found.host == "test"

    def garbage(_: str, operation: str, data: bytes) -> bytes:
        return b"nonsense\r\n\r\n" if operation == name else data

    report = tried(SmallServer(rewrite=garbage))
    assert not report.conforms


def test_a_server_that_closes_without_a_word_may_refuse_so() -> None:
    """Where HTTP lets a server close instead of answering."""

    class Closing(SmallServer):
        pass

    def shut(_: str, name: str, data: bytes) -> bytes:
        return (
            b"" if data.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431", b"HTTP/1.1 5")) and not name else data
        )

    report = tried(SmallServer(rewrite=shut))
    framing = {
        verdict.case.id
        for verdict in report.verdicts
        if verdict.outcome == "failed" and verdict.case.id.startswith("http.")
    }
    assert framing == set()


# Judging.


def one_case(script: Callable[[Target], Script[Any]], **more: Any) -> Case:
    fields = {"level": "MUST", "profiles": ("openai",), "group": "chat", **more}
    return Case(id="x.y", requirement="It does.", source="none", script=script, **fields)


def passing(_: Target) -> Script[None]:
    yield Sleep(0)


def failing(_: Target) -> Script[None]:
    yield Sleep(1.5)
    raise Unmet("body", "expected a, got b")


def untestable(_: Target) -> Script[None]:
    yield Sleep(0)
    raise Untestable("there is no b")


def test_a_verdict_says_what_was_expected_and_how_long_it_took() -> None:
    verdict = run(judge(one_case(failing), Target(), ["openai"]))
    assert (verdict.outcome, verdict.aspect, verdict.message) == ("failed", "body", "expected a, got b")
    assert (verdict.seconds, verdict.bad) == (1.5, True)
    verdict = run(judge(one_case(untestable), Target(), ["openai"]))
    assert (verdict.outcome, verdict.message, verdict.bad) == ("untested", "there is no b", False)
    assert not run(judge(one_case(failing, level="INFO"), Target(), ["openai"])).bad


def test_a_known_deviation_is_no_failure_and_its_end_is_one() -> None:
    known = {"x.y": "nobody needs it"}
    failed = with_known(run(judge(one_case(failing), Target(), ["openai"])), known)
    assert (failed.outcome, failed.bad) == ("known", False)
    assert failed.message == "expected a, got b (known: nobody needs it)"
    passed = with_known(run(judge(one_case(passing), Target(), ["openai"])), known)
    assert (passed.outcome, passed.bad) == ("unexpected pass", True)
    assert passed.message == "expected to fail: nobody needs it"
    skipped = with_known(run(judge(one_case(untestable), Target(), ["openai"])), known)
    assert skipped.outcome == "untested"


def test_a_run_ends_in_time_and_says_what_it_could_not_try() -> None:
    slow = one_case(failing, order="alone")
    told: list[str] = []
    script = judge_all(
        [slow, evolve_id(slow, "x.z")], Target(), ["openai"], limit=1.0, tell=lambda v: told.append(v.case.id)
    )
    report = run(script)
    assert [verdict.outcome for verdict in report.verdicts] == ["failed", "untested"]
    assert report.verdicts[1].message == "the time for the run was over"
    assert told == ["x.y", "x.z"]


def evolve_id(case: Case, name: str) -> Case:
    return evolve(case, id=name)


def test_an_error_of_the_kits_own_is_not_taken_for_a_verdict() -> None:
    def broken(_: Target) -> Script[None]:
        yield Open()
        raise KeyError("oops")

    world = World(SmallServer())
    with pytest.raises(KeyError):
        world.run(judge(one_case(broken), Target(), ["openai"]))
    assert world.open == 0


def test_connections_that_a_case_leaves_open_are_closed_however_it_ends() -> None:
    def leaving(target: Target) -> Script[None]:
        yield Open()
        yield Together((passing(target), _opening()))
        yield Call(_opening)
        raise Unmet("body", "expected a, got b")

    world = World(SmallServer())
    world.run(judge(one_case(leaving), Target(), ["openai"]))
    assert world.open == 0


def _opening() -> Script[None]:
    happened: Happened = yield Open()
    yield Send(happened.connection, b"GET / HT")
    second: Happened = yield Open()
    yield Close(second.connection)


def test_what_one_of_several_scripts_raises_is_raised_when_all_have_ended() -> None:
    ended: list[str] = []

    def slow() -> Script[None]:
        yield Sleep(5)
        ended.append("slow")

    def together(target: Target) -> Script[None]:
        yield Together((failing(target), slow()))

    verdict = run(judge(one_case(together), Target(), ["openai"]))
    assert (verdict.outcome, ended) == ("failed", ["slow"])


def test_scripts_are_driven_without_a_loop() -> None:
    def perform(step: Any) -> Any:
        return Happened(at=7.0)

    def outer() -> Script[float]:
        happened: Happened = yield Sleep(1)
        more: float = yield Call(inner)
        return happened.at + more

    def inner() -> Script[float]:
        happened: Happened = yield Receive(1, 2.0)
        return happened.at

    assert drive(outer(), perform) == 14.0


def test_a_target_with_a_prefix_and_a_key_is_asked_so() -> None:
    seen: list[bytes] = []

    def note(data: bytes) -> bytes:
        seen.append(data)
        return data.replace(b" /mounted/", b" /")

    report = tried(
        SmallServer(read=note),
        evolve(ALLOWED, prefix="/mounted", key="secret"),
        cases=[case for case in CASES if case.id.startswith("chat.o")],
    )
    assert report.conforms
    assert all(b"Authorization: Bearer secret\r\n" in data and b" /mounted/" in data for data in seen)
