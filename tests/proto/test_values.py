"""The small values that everything stands on: sentinels, errors, events."""

from __future__ import annotations

import pytest
from attrs.exceptions import FrozenInstanceError

from foundry_proto.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from foundry_proto.events import Disconnected, Failure, Response
from foundry_proto.sentinels import ABSENT, NEED_DATA, Absent, NeedData


def test_sentinels_are_alone_of_their_type_and_say_their_name() -> None:
    assert list(Absent) == [ABSENT]
    assert list(NeedData) == [NEED_DATA]
    assert (repr(ABSENT), repr(NEED_DATA)) == ("ABSENT", "NEED_DATA")


def test_what_is_absent_is_false_and_what_is_awaited_is_not() -> None:
    assert (bool(ABSENT), bool(NEED_DATA)) == (False, True)


def test_errors_have_one_base_and_are_told_apart() -> None:
    assert issubclass(LocalProtocolError, ProtocolError)
    assert issubclass(RemoteProtocolError, ProtocolError)
    assert not issubclass(LocalProtocolError, RemoteProtocolError)
    assert not issubclass(RemoteProtocolError, LocalProtocolError)


def test_a_remote_error_carries_the_answer_to_send_if_there_is_one() -> None:
    failure = Failure(status=400, message="no")
    error = RemoteProtocolError("broken", failure)
    assert (str(error), error.failure) == ("broken", failure)
    assert RemoteProtocolError("broken").failure is None


def test_events_are_frozen_and_equal_by_value() -> None:
    assert Disconnected() == Disconnected()
    response = Response(value=5)
    assert response == Response(value=5, status=200, headers=())
    with pytest.raises(FrozenInstanceError):
        response.status = 201  # type: ignore[misc]
