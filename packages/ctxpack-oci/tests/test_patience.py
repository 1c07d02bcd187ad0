"""Waits, attempts and Retry-After."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from registry_double import Clock

from ctxpack_identity.errors import Unavailable
from ctxpack_oci.patience import Deadline, Patience, Transient, persist, seconds_after


def test_each_wait_is_twice_the_last_less_jitter(clock: Clock, patience: Patience) -> None:
    def fail(_: Deadline) -> None:
        raise Transient("busy", where="there")

    with pytest.raises(
        Unavailable, match=r"^there: busy \(5 attempts\); try again later; if it stays, ask the operator$"
    ):
        persist(fail, size=0, patience=msgspec.structs.replace(patience, jitter=lambda: 0.0))
    assert clock.waits == [0.25, 0.5, 1.0, 2.0]


def test_a_call_has_more_time_for_more_bytes(clock: Clock, patience: Patience) -> None:
    assert patience.deadline(0).left() == 300
    assert patience.deadline(32 * 1024 * 60).left() == 360


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        (" 120 ", 120.0),
        ("Fri, 15 Jan 2027 08:01:40 GMT", 100.0),
        ("Fri, 15 Jan 2021 08:00:10 GMT", 0.0),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("9" * 5000, None),
    ],
)
def test_retry_after(header: str, seconds: float | None) -> None:
    assert seconds_after(header, now=1_800_000_000.0) == seconds


@given(st.text())
def test_any_retry_after_is_read_without_an_exception(header: str) -> None:
    assert (seconds_after(header, now=0.0) or 0.0) >= 0.0
