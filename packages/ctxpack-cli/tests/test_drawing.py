"""Lineages as trees and graphs, in which a name is never anything but a name."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ctxpack_cli.drawing import as_dot, as_mermaid, as_text
from ctxpack_identity import CtxUri, Digest
from ctxpack_pantry.lineage import Derived, ItemSource, Lineage, LineagePack, Source, Step

DIGEST = Digest("sha256:" + "0" * 64)


def uri_of(digit: str) -> CtxUri:
    return CtxUri(f"ctx://sha256:{digit * 64}")


def pack(digit: str, tool: str = "", **more: Any) -> LineagePack:
    """Return a cached pack, which one tool made."""
    return LineagePack(
        uri_of(digit),
        f"cache/v1/packs/{digit * 64}",
        created="2026-11-26T15:19:45Z",
        outputs=DIGEST,
        steps=(Step(tool or f"tool-{digit}", "1", "sha256:" + "c" * 64, "undeclared"),),
        **more,
    )


INDEX = pack(
    "a",
    "index",
    inputs=(Source("chunks", DIGEST, uri_of("b"), same=True), Source("model", DIGEST, uri_of("d"))),
    items=(ItemSource(uri_of("e"), 120, None),),
)
CHUNKS = pack("b", "chunker", inputs=(Source("raw", DIGEST, None), Source("again", DIGEST, uri_of("e"), same=False)))
MISSING = LineagePack(uri_of("d"), "", "not found")
OLD = pack("e", "old", inputs=(Source("raw", DIGEST, None),))
REPORT = Derived(pack("f", "report"), (("index", uri_of("a")),))
NEXT = Derived(pack("9", "next"), ((None, uri_of("a")), ("report", uri_of("f"))))
LINEAGE = Lineage(uri_of("a"), (INDEX, CHUNKS, MISSING, OLD), (REPORT, NEXT), complete=True)


def test_a_lineage_is_two_trees() -> None:
    assert (
        "\n".join(as_text(LINEAGE))
        == f"""\
{uri_of("a")}  index 1  2026-11-26
├── code of index 1: sha256:cccccccccccc
├── chunks: bbbbbbbbbbbb  chunker 1  2026-11-26
│   ├── code of chunker 1: sha256:cccccccccccc
│   ├── raw: sha256:000000000000
│   └── again: eeeeeeeeeeee  old 1  2026-11-26, which has other outputs than that input
│       ├── code of old 1: sha256:cccccccccccc
│       └── raw: sha256:000000000000
├── model: {uri_of("d")}, not found
└── 120 items of eeeeeeeeeeee  old 1  2026-11-26, as above

made from it:
├── ffffffffffff  report 1  2026-11-26  (input index)
│   └── 999999999999  next 1  2026-11-26  (input report)
└── 999999999999  next 1  2026-11-26  (items)"""
    )


def test_a_circle_is_drawn_once() -> None:
    one = pack("1", inputs=(Source("two", DIGEST, uri_of("2")),))
    two = pack("2", inputs=(Source("one", DIGEST, uri_of("1")), Source("two", DIGEST, uri_of("2"))))
    tree = list(as_text(Lineage(uri_of("1"), (one, two), (), complete=True)))
    assert [line for line in tree if "as above" in line] == [
        "    ├── one: 111111111111  tool-1 1  2026-11-26, as above",
        "    └── two: 222222222222  tool-2 1  2026-11-26, as above",
    ]


def test_a_pack_of_a_registry_is_shown_with_all_digits() -> None:
    there = pack("2")._replace(found_in="registry.example/team/packs")
    one = pack("1", inputs=(Source("two", DIGEST, uri_of("2")),))
    assert f"two: {uri_of('2')}  tool-2 1" in "\n".join(as_text(Lineage(uri_of("1"), (one, there), (), complete=True)))


def test_a_chain_of_a_hundred_packs_is_drawn() -> None:
    uris = [CtxUri(f"ctx://sha256:{number:064x}") for number in range(100)]
    packs = tuple(
        pack("1", inputs=(Source("before", DIGEST, uris[number + 1]),) if number < 99 else ())._replace(uri=uri)
        for number, uri in enumerate(uris)
    )
    assert len(list(as_text(Lineage(uris[0], packs, (), complete=True)))) == 200


def test_a_lineage_is_a_flowchart_of_mermaid() -> None:
    assert list(as_mermaid(LINEAGE)) == [
        "flowchart LR",
        '    p0["aaaaaaaaaaaa<br>index 1"]',
        '    p1["bbbbbbbbbbbb<br>chunker 1"]',
        '    p2["dddddddddddd<br>not found"]',
        '    p3["eeeeeeeeeeee<br>old 1"]',
        '    p4["ffffffffffff<br>report 1"]',
        '    p5["999999999999<br>next 1"]',
        '    i6("raw<br>sha256:000000000000")',
        '    p1 -->|"chunks"| p0',
        '    p2 -->|"model"| p0',
        '    p3 -->|"items"| p0',
        '    i6 -->|"raw"| p1',
        '    p3 -->|"again"| p1',
        '    i6 -->|"raw"| p3',
        '    p0 -->|"index"| p4',
        '    p0 -->|"items"| p5',
        '    p4 -->|"report"| p5',
    ]


def test_an_edge_is_drawn_once() -> None:
    """Items of two image manifests of one pack are two sources; a derived pack says of itself what it was made from."""
    items = (ItemSource(uri_of("2"), 1, None), ItemSource(uri_of("2"), 2, DIGEST))
    derived = Derived(pack("3", inputs=(Source("two", DIGEST, uri_of("1")),)), (("two", uri_of("1")),))
    lineage = Lineage(uri_of("1"), (pack("1", items=items), pack("2")), (derived,), complete=True)
    edges = ['    p1 -->|"items"| p0', '    p0 -->|"two"| p2']
    assert [line for line in as_mermaid(lineage) if "-->" in line] == edges


def test_a_lineage_is_a_graph_of_graphviz() -> None:
    graph = list(as_dot(LINEAGE))
    assert graph[:3] == [
        "digraph lineage {",
        "  rankdir=LR;",
        '  p0 [shape=box, label="aaaaaaaaaaaa\\nindex 1"];',
    ]
    assert '  i6 [shape=note, label="raw\\nsha256:000000000000"];' in graph
    assert '  p1 -> p0 [label="chunks"];' in graph
    assert graph[-1] == "}"


HOSTILE = 'a"]; click p0 "javascript:alert(1)" %% <script>\n`}|\\" & #quot; [x]\x1b'


def test_a_hostile_name_is_a_text_in_each_form() -> None:
    hostile = pack("1", HOSTILE, inputs=(Source(HOSTILE, DIGEST, None),))
    lineage = Lineage(uri_of("1"), (hostile,), (), complete=True)
    mermaid = "\n".join(as_mermaid(lineage))
    assert not set("`{}%&<>\\") & set(mermaid.replace("<br>", "").replace("-->", ""))
    assert "#34;#93;#59; click p0 #34;javascript:alert#40;1#41;#34;" in mermaid
    dot = "\n".join(as_dot(lineage))
    assert r"a\"]; click p0 \"javascript:alert(1)\" %% <script>\\u000a" in dot
    assert len("\n".join(as_text(lineage)).splitlines()) == 3


NAME = st.text() | st.text('"\\[](){}|<>#;&%`\n\r\x1b\u202e ab', max_size=70)
# A line of each language in which every name stands between quotes that it cannot end.
MERMAID = re.compile(r'    (([pi]\d+([\[(])"[^"`<>]*"[\])])|([pi]\d+ -->\|"[^"`<>]*"\| [pi]\d+))')
DOT = re.compile(r'  [pi]\d+ ((\[shape=(box|note), )|(-> [pi]\d+ \[))label="([^"\\]|\\.)*"\];')


@given(NAME, NAME, NAME, NAME)
def test_no_name_gets_out_of_its_quotes(tool: str, name: str, digest: str, created: str) -> None:
    one = pack(
        "1", tool, inputs=(Source(name, digest, None), Source(name, None, uri_of("2")), Source(name, None, None))
    )
    derived = Derived(pack("3", tool), ((name, uri_of("1")), (None, uri_of("1"))))
    lineage = Lineage(uri_of("1"), (one._replace(created=created),), (derived,), complete=True)
    for line in as_text(lineage):
        assert line.isprintable()
        assert len(line) < 400
    for line in list(as_mermaid(lineage))[1:]:
        assert line.isprintable()
        assert MERMAID.fullmatch(line.replace("<br>", " "))
    for line in list(as_dot(lineage))[2:-1]:
        assert line.isprintable()
        assert DOT.fullmatch(line)
