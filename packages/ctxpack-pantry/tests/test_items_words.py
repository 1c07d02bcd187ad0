"""The words of a map's command, and the paths that take the places in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity import InvalidInput
from ctxpack_pantry.items.words import fill_words, is_batch, require_words

parts = st.sampled_from(["{item}", "{out}", "{batch}", "{", "}", "{{", "}}", "{x}", "{}", "a", " ", "item", "out"])
words = st.lists(st.lists(parts, max_size=5).map("".join), max_size=4)


@given(words, st.text(max_size=6) | st.just("{out}"), st.text(max_size=6) | st.just("{item}"))
def test_exactly_the_places_are_replaced_and_each_once(command: list[str], item: str, out: str) -> None:
    expected = []
    for word in command:
        filled = ""
        while word:
            for place, path in (("{item}", item), ("{out}", out)):
                if word.startswith(place):
                    filled, word = filled + path, word[len(place) :]
                    break
            else:
                filled, word = filled + word[0], word[1:]
        expected.append(filled)
    assert fill_words(command, {"item": item, "out": out}) == expected


@given(words)
def test_a_command_names_item_and_out_or_a_batch_alone(command: list[str]) -> None:
    text = " ".join(command)
    named = {name for name in ("item", "out", "batch") if f"{{{name}}}" in text}
    assert is_batch(command) == ("batch" in named)
    if named in ({"item", "out"}, {"batch"}):
        require_words(command, "here")
        return
    with pytest.raises(InvalidInput) as caught:
        require_words(command, "here")
    assert caught.value.code == "E_COMMAND"
    assert caught.value.where == "here"
