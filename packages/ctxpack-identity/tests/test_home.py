"""The home folder, and what ``~`` becomes; a folder called ``~`` is never the answer."""

from __future__ import annotations

import os
import pwd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity.home import home_folder, with_home

NOBODY = "~nobody-has-this-name"


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whom the system does not know, as in many containers."""

    def unknown(number: int) -> pwd.struct_passwd:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)


def test_home_is_the_variable() -> None:
    assert home_folder({"HOME": "/home/ann"}) == "/home/ann"


def test_without_the_variable_it_is_what_the_system_says() -> None:
    assert home_folder({}) == pwd.getpwuid(os.getuid()).pw_dir


@pytest.mark.parametrize("home", ["", "relative", "~", "./x"])
def test_a_home_that_is_no_absolute_path_is_none(home: str) -> None:
    assert home_folder({"HOME": home}) == ""
    assert with_home("~", {"HOME": home}) == ""
    assert with_home("~/x", {"HOME": home}) == ""


@pytest.mark.usefixtures("homeless")
def test_a_user_without_a_home_has_none() -> None:
    assert home_folder({}) == ""
    assert with_home("~/x", {}) == ""


@pytest.mark.parametrize(
    ("path", "home", "expected"),
    [
        ("~", "/home/ann", "/home/ann"),
        ("~/", "/home/ann", "/home/ann/"),
        ("~/x/~", "/home/ann", "/home/ann/x/~"),
        ("~/x", "/home/ann/", "/home/ann/x"),
        ("~", "/", "/"),
        ("~/x", "/", "/x"),
        ("x/~", "", "x/~"),
        ("./~", "", "./~"),
        ("", "", ""),
        (NOBODY, "/home/ann", ""),
        (f"{NOBODY}/x", "/home/ann", ""),
    ],
)
def test_a_leading_tilde_is_a_home_folder(path: str, home: str, expected: str) -> None:
    assert with_home(path, {"HOME": home}) == expected


def test_another_user_has_a_home_too() -> None:
    user = pwd.getpwuid(os.getuid())
    assert with_home(f"~{user.pw_name}/x", {"HOME": ""}) == f"{user.pw_dir.rstrip('/')}/x"


@given(st.text("~/ab.").map(lambda path: "~" + path), st.text("~/ab."))
def test_what_began_with_a_tilde_is_absolute_or_nothing(path: str, home: str) -> None:
    found = with_home(path, {"HOME": home})
    assert found == "" or os.path.isabs(found)
