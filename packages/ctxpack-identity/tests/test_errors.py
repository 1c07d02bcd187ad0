"""Errors: one line for a person, stable fields for a program, and pickling."""

from __future__ import annotations

import copy
import errno
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity import ContractInvalid, CtxPackError, errors, parse_contract_file, parse_uri
from ctxpack_identity.disk import local_failure
from ctxpack_identity.errors import InvalidInput, Unavailable, printable, shortened

CLASSES = [getattr(errors, name) for name in errors.__all__ if isinstance(getattr(errors, name), type)]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "it failed"),
        ({"where": "a.json"}, "a.json: it failed"),
        ({"expected": "1"}, "it failed: expected 1"),
        ({"got": "2"}, "it failed: got 2"),
        ({"expected": "1", "got": "2"}, "it failed: expected 1, got 2"),
        ({"fix": "try again"}, "it failed; try again"),
        (
            {"where": "a.json", "expected": "1", "got": "2", "fix": "try again"},
            "a.json: it failed: expected 1, got 2; try again",
        ),
    ],
)
def test_the_text_has_the_fields_that_are_set_in_one_order(fields: dict[str, str], text: str) -> None:
    assert str(CtxPackError("it failed", **fields)) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ü 😀", "plain ü 😀"),
        ("a\nb\r\t", "a\\u000ab\\u000d\\u0009"),
        ("\x1b[31mred", "\\u001b[31mred"),
        ("\x9b31m", "\\u009b31m"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\u2066\u2028\ufeff", "\\u2066\\u2028\\ufeff"),
        ("\udcff", "\\udcff"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert str(InvalidInput("x", where=text, got=text, fix=text)) == f"{shown}: x: got {shown}; {shown}"


@pytest.mark.parametrize("field", ["where", "expected", "got", "fix"])
def test_a_message_shows_both_ends_of_a_part_that_is_too_long(field: str) -> None:
    text = f"begins {'/n' * 5000} ends"
    error = InvalidInput("it failed", **{field: text})
    assert getattr(error, field) == text
    assert len(str(error)) < 500
    assert all(part in str(error) for part in ("it failed", "begins /n", f"({len(text)} characters)", "/n ends"))


@given(st.text(max_size=1000))
def test_a_text_of_usual_length_is_shown_whole(text: str) -> None:
    assert len(shortened(text)) < 440
    assert shortened(text) == text or len(text) > 400


def test_a_machine_without_memory_is_told_from_a_disk_without_room() -> None:
    error = local_failure(OSError(errno.ENOMEM, "Cannot allocate memory"), "cannot read", "a", elsewhere="try later")
    assert (error.code, str(error)) == (
        "E_MEMORY",
        "a: cannot read: memory ran out; give this process more memory (`ulimit -v`), or try later",
    )


@given(st.text())
def test_every_message_is_one_printable_encodable_line(text: str) -> None:
    message = str(CtxPackError(text, where=text, expected=text, got=text, fix=text))
    assert message.isprintable()
    message.encode()


@pytest.mark.parametrize("error", CLASSES)
def test_every_class_has_its_own_stable_code(error: type[CtxPackError]) -> None:
    assert error.code.startswith("E_")
    assert sum(other.code == error.code for other in CLASSES) == 1
    assert error("x").code == error.code
    assert error("x", code="E_OTHER").code == "E_OTHER"


def test_only_unavailable_may_be_retried() -> None:
    assert [error for error in CLASSES if error.may_retry] == [Unavailable]


@pytest.mark.parametrize("error", CLASSES)
@pytest.mark.parametrize("travel", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_a_copied_or_pickled_error_keeps_all_fields(error: type[CtxPackError], travel: Any) -> None:
    sent = error("what", where="where", expected="expected", got="got", fix="fix", code="E_CODE")
    came = travel(sent)
    assert type(came) is error
    assert vars(came) == vars(sent)
    assert str(came) == str(sent)


def test_a_pickled_contract_error_keeps_its_faults() -> None:
    with pytest.raises(ContractInvalid) as caught:
        parse_contract_file("{}", where="c.json")
    came = pickle.loads(pickle.dumps(caught.value))
    assert type(came) is ContractInvalid
    assert str(came) == str(caught.value)
    assert came.faults == caught.value.faults
    assert (came.code, came.where) == ("E_MISSING", "c.json")


def test_errors_come_back_from_a_process_pool() -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
        with pytest.raises(ContractInvalid, match="/inputs: expected"):
            processes.submit(parse_contract_file, "{}").result()
        with pytest.raises(InvalidInput, match="not a ctx URI"):
            processes.submit(parse_uri, "x").result()
