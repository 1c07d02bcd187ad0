"""Scopes: one name for each repository, and whole path segments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trust_samples import vectors

from ctxpack_identity import InvalidInput
from ctxpack_trust import canonical_repository, is_within

VECTORS = vectors("scopes.json")


@pytest.mark.parametrize(("name", "canonical"), [(case["name"], case["canonical"]) for case in VECTORS["canonical"]])
def test_a_name_and_its_canonical_form(name: str, canonical: str) -> None:
    assert canonical_repository(name) == canonical
    assert canonical_repository(canonical) == canonical


@pytest.mark.parametrize("name", VECTORS["invalid"])
def test_what_names_no_repository_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        canonical_repository(name)
    assert (caught.value.code, caught.value.where) == ("E_SCOPE", "scope")


@pytest.mark.parametrize(
    ("scope", "repository", "within"),
    [(case["scope"], case["repository"], case["within"]) for case in VECTORS["within"]],
)
def test_what_lies_within(scope: str, repository: str, within: bool) -> None:
    assert is_within(scope, repository) is within


@given(st.text(max_size=40) | st.text("aA0.:/-_[]@oci ", max_size=40))
def test_a_canonical_name_stays_as_it_is(name: str) -> None:
    try:
        canonical = canonical_repository(name)
    except InvalidInput as error:
        assert error.code == "E_SCOPE"  # noqa: PT017
        return
    assert canonical_repository(canonical) == canonical
    assert is_within(canonical, canonical)


SEGMENTS = st.lists(st.sampled_from(["a", "aa", "b", "a-b"]), max_size=4)


@given(SEGMENTS, SEGMENTS, st.sampled_from(["ghcr.io", "oci:"]))
def test_within_is_a_prefix_of_segments(scope: list[str], repository: list[str], host: str) -> None:
    names = ["/".join([host, *parts]) + ("/" if host == "oci:" and not parts else "") for parts in (scope, repository)]
    assert is_within(*names) == (repository[: len(scope)] == scope)
