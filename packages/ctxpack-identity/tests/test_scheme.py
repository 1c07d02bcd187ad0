"""Which paths are URLs, and what is shown of a URL."""

from __future__ import annotations

import pytest

from ctxpack_identity.scheme import scheme_fault, scheme_of, shown_url


@pytest.mark.parametrize(
    ("path", "scheme"),
    [
        ("s3://b/k", "s3"),
        ("HTTPS://host/", "https"),
        ("git+ssh://host/x", "git+ssh"),
        ("s3:/b/k", ""),
        ("./s3://b/k", ""),
        ("/s3://b", ""),
        ("a b://c", ""),
        ("://b", ""),
        ("c://windows", ""),
        ("1a://b", ""),
        ("", ""),
        (" s3://b", ""),
    ],
)
def test_a_scheme_is_at_the_start_and_has_at_least_two_characters(path: str, scheme: str) -> None:
    assert scheme_of(path) == scheme


@pytest.mark.parametrize("url", ["s3://b", "hf://datasets/a/b@main/c", "https://host/a?b=c:d", "store://b/a: b"])
def test_a_url_that_names_something_has_no_fault(url: str) -> None:
    assert scheme_fault(url) == ""


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://b/k", "s3://b/k"),
        ("https://me:hunter2@host/a/b?sig=hunter2", "https://host/a/b"),
        ("https://hunter2@host", "https://host"),
        ("https://host?sig=hunter2://", "https://host"),
        ("sftp://me:hun@ter2@host/p@th", "sftp://host/p@th"),
    ],
)
def test_user_password_and_query_are_not_shown(url: str, shown: str) -> None:
    assert shown_url(url) == shown
