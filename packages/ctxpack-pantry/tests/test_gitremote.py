"""The URL of a git remote is recorded as strangers may read it, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_pantry.gitremote import public_url


@pytest.mark.parametrize(
    ("remote", "shown"),
    [
        ("https://git.example/team/notes.git", "https://git.example/team/notes.git"),
        ("https://bot@git.example/team/notes", "https://git.example/team/notes"),
        ("https://bot:secret@git.example:8443/team/notes", "https://git.example:8443/team/notes"),
        ("https://bot:sec@ret@git.example/team", "https://git.example/team"),
        ("https://git.example/team?token=secret#secret", "https://git.example/team"),
        ("https://git.example#secret", "https://git.example"),
        ("HTTPS://git.example/team", "https://git.example/team"),
        ("ssh://git@git.example:2222/~team/notes", "ssh://git.example:2222/~team/notes"),
        ("git+ssh://git@git.example/team", "ssh://git.example/team"),
        ("git://git.example/team", "git://git.example/team"),
        ("git@git.example:team/notes.git", "ssh://git.example/team/notes.git"),
        ("git@git.example:/srv/notes.git", "ssh://git.example/srv/notes.git"),
        ("git.example:team/notes.git", "ssh://git.example/team/notes.git"),
        ("git@[::1]:notes", "ssh://[::1]/notes"),
    ],
)
def test_userinfo_query_and_fragment_are_cut(remote: str, shown: str) -> None:
    assert public_url(remote) == shown


@pytest.mark.parametrize(
    "remote",
    [
        "",
        "/home/me/notes",
        "../notes",
        "./host:notes",
        "notes",
        "file:///home/me/notes",
        "FILE://localhost/notes",
        "C:/Users/me/notes",
        "C:\\Users\\me\\notes",
        "\\\\server\\me\\notes",
        "ext::sh -c secret",
        "transport::https://bot:secret@git.example/team",
        "https://bot:sec/ret@git.example/team",  # "/" must be escaped there
        "https://secret/x@git.example/team",
        "https://git.example:secret/team",
        "https://git.example/team\nnotes",
        "https://git.example/te am",
        "https://git.example\x9b/team",
        "https:///team",
        f"https://git.example/{'a' * 1000}",
    ],
)
def test_a_path_of_this_machine_and_what_may_hold_a_secret_are_left_out(remote: str) -> None:
    assert public_url(remote) is None


@given(
    st.text(max_size=60)
    | st.from_regex(r"\A(https?|ssh|file)://[a-z:@/?#.]{0,20}@[a-z:@/?#.]{0,20}\Z")
    | st.from_regex(r"\A[a-z]{0,3}@?[a-z.]{1,5}:[a-z:@/]{0,9}\Z")
)
def test_what_is_shown_is_a_url_without_userinfo_that_stays_as_it_is(remote: str) -> None:
    shown = public_url(remote)
    if shown is not None:
        assert shown.startswith(("https://", "http://", "ssh://", "git://"))
        assert shown.isprintable()
        assert not set("@?# ") & set(shown)
        assert public_url(shown) == shown
