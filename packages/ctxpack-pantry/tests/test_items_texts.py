"""Many texts in little memory, and the paths that lie within some."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_pantry.items.texts import Texts, within

texts = st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.just("\udcff"), max_size=20)
segments = st.sampled_from(["a", "b", "ab", "a.b", "\u00fc", " "])
paths = st.lists(segments, min_size=1, max_size=4).map("/".join)


@given(texts)
def test_texts_are_a_sequence_of_what_was_added(given: list[str]) -> None:
    found = Texts()
    assert [found.add(text) for text in given] == [*range(len(given))]
    assert [*found] == given
    assert found[1:-1] == given[1:-1]
    assert len(found) == len(given)


@pytest.mark.parametrize("number", [-1, 1, 2])
def test_other_numbers_have_no_text(number: int) -> None:
    found = Texts()
    found.add("one")
    with pytest.raises(IndexError):
        found[number]


@given(st.sets(paths, max_size=5), paths, st.sampled_from(["", "/"]))
def test_within_are_the_paths_themselves_and_what_lies_below(some: set[str], path: str, end: str) -> None:
    expected = any(path == one or path.startswith(f"{one}/") for one in some)
    assert within(some)(path + end) == expected
