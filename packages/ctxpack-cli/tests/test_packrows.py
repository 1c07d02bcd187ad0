"""Packs of the cache as lines: exactly as wide as the terminal allows, whatever packs say of themselves."""

from __future__ import annotations

from typing import Any, NamedTuple
from unicodedata import east_asian_width

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_bundle.packmanifest import Outputs, PackManifest
from ctxpack_cli.packrows import fitted, human_age, long_line, pack_lines, short_digest
from ctxpack_identity import CtxUri, Digest
from ctxpack_pantry import StoredPack

NOW = 1_800_000_000.0
DAY = 86_400.0


class Pack(NamedTuple):
    """What a test says of a pack."""

    digit: str = "a"
    age: float = 2 * DAY
    size: int = 1_300_000_000
    tools: tuple[str, ...] = ("vision-pro",)
    labels: tuple[tuple[str, str], ...] = ()
    created: str = ""

    def stored(self) -> StoredPack:
        digest = f"sha256:{self.digit * 64}"
        manifest = PackManifest(
            contract={"transforms": [{"tool": tool} for tool in self.tools]},
            listings=(),
            outputs=Outputs(digest=Digest(digest), empty_folders=0, files=12, roots=(), size=self.size),
            provenance={"labels": dict(self.labels), "created": self.created},
            schema="ctxpack/pack/v1",
            uri=CtxUri(f"ctx://{digest}"),
        )
        return StoredPack(manifest.uri, "folder", manifest, NOW - self.age)


def lines(*packs: Pack, width: int = 80, **given: Any) -> list[str]:
    return list(pack_lines([pack.stored() for pack in packs], width=width, now=NOW, **given))


def cells(text: str) -> int:
    return sum(2 if east_asian_width(c) in "WF" else 1 for c in text)


MANY = (
    Pack(labels=(("team", "search"), ("corpus", "2026"))),
    Pack("b", 59 * 60, 999, ("parser", "chunker"), (("team", "ads"),)),
    Pack("c", 800 * DAY, 0, ("a-tool-with-a-name-that-goes-on-and-on-and-on",), (("note", "l" * 100),)),
    Pack("d", 3.0, 5 << 40, (), ()),
)


def test_at_80_columns_tools_and_labels_are_side_by_side() -> None:
    assert lines(*MANY) == [
        "aaaaaaaaaaaa     2 d  1.21 GiB  vision-pro               corpus=2026, team=sear…",
        "bbbbbbbbbbbb  59 min     999 B  parser, chunker          team=ads",
        "cccccccccccc     2 y       0 B  a-tool-with-a-name-tha…  note=lllllllllllllllll…",
        "dddddddddddd     now  5.00 TiB",
    ]


def test_at_60_columns_they_are_cut() -> None:
    assert lines(*MANY, width=60) == [
        "aaaaaaaaaaaa     2 d  1.21 GiB  vision-pro     corpus=2026,…",
        "bbbbbbbbbbbb  59 min     999 B  parser, chun…  team=ads",
        "cccccccccccc     2 y       0 B  a-tool-with-…  note=lllllll…",
        "dddddddddddd     now  5.00 TiB",
    ]


def test_without_labels_the_tools_have_all_the_room() -> None:
    tools = "parser", "chunker", "embedder", "indexer"
    assert lines(Pack(tools=tools)) == ["aaaaaaaaaaaa     2 d  1.21 GiB  parser, chunker, embedder, indexer"]


def test_sorted_by_when_they_were_made_the_age_is_that() -> None:
    made = Pack(created="2027-01-05T08:00:00Z"), Pack(created="soon")
    assert [line[12:20].strip() for line in lines(*made, by="created")] == ["10 d", "now"]


def test_a_damaged_pack_is_a_line_that_fits_60_columns() -> None:
    damaged = StoredPack(CtxUri("ctx://sha256:" + "e" * 64), "folder", None, NOW - 40 * 60)
    [line] = pack_lines([damaged], width=60, now=NOW)
    assert line == "eeeeeeeeeeee  40 min  damaged; ctxpack rm removes it"
    assert long_line(damaged) == f"{damaged.uri}  damaged; ctxpack rm removes it"


def test_a_long_line_has_the_whole_uri() -> None:
    pack = Pack(labels=(("team", "search"),), created="2026-11-26T15:19:45Z").stored()
    assert long_line(pack) == f"{pack.uri}  1.21 GiB      12 files  2026-11-26T15:19:45Z  vision-pro  team=search"


TEXT = st.text() | st.text("a\x1b\n\r\u202e\x9b図é\u0301", max_size=200)
PACKS = st.builds(
    Pack,
    digit=st.just("a"),
    age=st.floats(allow_nan=False, allow_infinity=False),
    size=st.integers(0, 1 << 70),
    tools=st.lists(TEXT, max_size=3).map(tuple),
    labels=st.dictionaries(TEXT, TEXT, max_size=3).map(lambda labels: tuple(labels.items())),
    created=TEXT,
)


@given(st.lists(PACKS, min_size=1, max_size=4), st.integers(20, 130), st.sampled_from(["used", "created"]))
def test_whatever_packs_say_each_is_one_printable_line_that_fits(packs: list[Pack], width: int, by: str) -> None:
    made = lines(*packs, width=width, by=by)
    assert len(made) == len(packs)
    for line in made:
        assert cells(line) <= width
        assert line.isprintable()
    for pack in packs:
        assert long_line(pack.stored()).isprintable()


def test_a_text_of_millions_of_characters_is_cut() -> None:
    pack = Pack(tools=("t" * 5_000_000,), labels=(("k", "v" * 5_000_000),))
    assert len(lines(pack)[0]) == 80
    assert len(long_line(pack.stored())) < 1000


@given(st.text(), st.integers(-3, 40))
def test_what_is_fitted_is_printable_and_not_wider(text: str, width: int) -> None:
    shown = fitted(text, width)
    assert shown.isprintable()
    assert cells(shown) <= max(0, width)
    if text.isprintable() and cells(text) <= width:
        assert shown == text


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-1e300, "now"),
        (0, "now"),
        (59.9, "now"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (DAY - 1, "23 h"),
        (DAY, "1 d"),
        (700 * DAY, "700 d"),
        (800 * DAY, "2 y"),
        (1e300, "9999 y"),
    ],
)
def test_an_age_has_at_most_six_characters(seconds: float, shown: str) -> None:
    assert human_age(seconds) == shown
    assert len(shown) <= 6


def test_a_short_digest_is_long_enough_to_stand_for_the_pack() -> None:
    assert short_digest("ctx://sha256:" + "0123456789abcdef" * 4) == "0123456789ab"
