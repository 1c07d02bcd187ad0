"""Lineages as trees for people, and as graphs for Mermaid and Graphviz.

Names are those of whoever made a pack. In a graph, each becomes a text in quotes that says nothing to the program.
"""

from __future__ import annotations

from ctxpack_cli.packrows import fitted, short_digest

TYPE_CHECKING = False  # typing itself takes 4 ms to load
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ctxpack_pantry import Lineage
    from ctxpack_pantry.lineage import LineagePack, Source, Step

__all__ = ["as_dot", "as_mermaid", "as_text"]

_NAME = 60  # columns of a name or of several tools


class _Row:
    """A line of a tree. uri: of a pack that has lines below it."""

    def __init__(self, text: str, uri: str = "") -> None:
        self.text, self.uri = text, uri


def as_text(lineage: Lineage) -> Iterator[str]:
    """Yield the lines of two trees: what the pack was made from, and what was made from it."""
    packs = {str(pack.uri): pack for pack in lineage.packs}
    first = lineage.packs[0]
    yield f"{first.uri}  {_made_by(first)}".rstrip(" ")
    yield from _tree(str(first.uri), lambda uri: _sources(packs[uri], packs) if uri in packs else [])
    if not lineage.derived:
        return
    users: dict[str, list[_Row]] = {}
    for pack, sources in lineage.derived:
        for name, uri in sources:
            text = (
                f"{short_digest(pack.uri)}  {_made_by(pack)}  ({'items' if name is None else f'input {_name(name)}'})"
            )
            users.setdefault(str(uri), []).append(_Row(text, str(pack.uri)))
    yield ""
    yield "made from it:"
    yield from _tree(str(first.uri), lambda uri: users.get(uri, []))


def _tree(root: str, below: Callable[[str], list[_Row]]) -> Iterator[str]:
    """Yield what is below root as a tree. A pack that was drawn before is not drawn again."""
    drawn = {root}
    rows = below(root)
    stack = [("", row, row is rows[-1]) for row in reversed(rows)]
    while stack:
        margin, row, is_last = stack.pop()
        again = bool(row.uri) and row.uri in drawn
        rows = [] if again or not row.uri else below(row.uri)
        yield f"{margin}{'└── ' if is_last else '├── '}{row.text}{', as above' if again and below(row.uri) else ''}"
        drawn.add(row.uri)
        margin += "    " if is_last else "│   "
        stack += [(margin, row, row is rows[-1]) for row in reversed(rows)]


def _sources(pack: LineagePack, packs: dict[str, LineagePack]) -> list[_Row]:
    rows = [_Row(f"code of {_name(_tool(step))}: {_shown(step.code_hash)}") for step in pack.steps]
    for source in pack.inputs:
        upstream = None if source.uri is None else packs.get(str(source.uri))
        if source.uri is None:
            rows.append(_Row(f"{_name(source.name)}: {_shown(source.digest or '')}"))
        else:
            rows.append(_Row(f"{_name(source.name)}: {_pack(source.uri, upstream)}{_doubt(source)}", str(source.uri)))
    for items in pack.items:
        count = "items" if items.items is None else f"{items.items} item{'' if items.items == 1 else 's'}"
        rows.append(_Row(f"{count} of {_pack(items.uri, packs.get(str(items.uri)))}", str(items.uri)))
    return rows


def _pack(uri: str, pack: LineagePack | None) -> str:
    """Return a pack as part of a line: with all digits unless it is cached, where the first ones are enough."""
    if pack is None:
        return uri
    if pack.missing:
        return f"{uri}, {pack.missing}"
    is_cached = pack.found_in.endswith(uri.rpartition(":")[2])  # the name of its folder
    return f"{short_digest(uri) if is_cached else uri}  {_made_by(pack)}".rstrip(" ")


def _doubt(source: Source) -> str:
    return ", which has other outputs than that input" if source.same is False else ""


def _made_by(pack: LineagePack) -> str:
    day = fitted(pack.created.partition("T")[0], 10)
    return "  ".join(part for part in (_name(", ".join(map(_tool, pack.steps))), day) if part)


def as_mermaid(lineage: Lineage) -> Iterator[str]:
    """Yield the lines of a Mermaid flowchart (mermaid.js.org/syntax/flowchart.html)."""
    nodes, edges = _graph(lineage)
    yield "flowchart LR"
    for name, (lines, is_pack) in nodes.items():
        left, right = ("[", "]") if is_pack else ("(", ")")
        yield f'    {name}{left}"{"<br>".join(map(_entities, lines))}"{right}'
    for source, result, label in edges:
        yield f'    {source} -->|"{_entities(label)}"| {result}'


def as_dot(lineage: Lineage) -> Iterator[str]:
    """Yield the lines of a graph of Graphviz (graphviz.org/doc/info/lang.html)."""
    nodes, edges = _graph(lineage)
    yield "digraph lineage {"
    yield "  rankdir=LR;"
    for name, (lines, is_pack) in nodes.items():
        label = "\\n".join(map(_escaped, lines))
        yield f'  {name} [shape={"box" if is_pack else "note"}, label="{label}"];'
    for source, result, label in edges:
        yield f'  {source} -> {result} [label="{_escaped(label)}"];'
    yield "}"


_Nodes = dict[str, tuple[list[str], bool]]
_Edges = list[tuple[str, str, str]]


def _graph(lineage: Lineage) -> tuple[_Nodes, _Edges]:
    """Return nodes, by a name of ours, as lines of text and whether it is a pack; and edges with a label."""
    names: dict[str, str] = {}
    nodes: _Nodes = {}
    edges: _Edges = []

    def node(key: str, lines: list[str], *, is_pack: bool) -> str:
        name = names.setdefault(key, f"{'p' if is_pack else 'i'}{len(names)}")
        nodes.setdefault(name, ([line for line in lines if line], is_pack))
        return name

    def pack_node(uri: str, pack: LineagePack | None = None) -> str:
        more = [_name(", ".join(map(_tool, pack.steps))), pack.missing] if pack else []
        return node(uri, [short_digest(uri), *more], is_pack=True)

    every = [*lineage.packs, *(derived.pack for derived in lineage.derived)]
    for pack in every:
        pack_node(pack.uri, pack)
    for pack in every:
        for source in pack.inputs:
            if source.uri is None:
                lines = [_name(source.name), _shown(source.digest or "")]
                made_of = node(f"{source.digest or pack.uri} {source.name}", lines, is_pack=False)
            else:
                made_of = pack_node(source.uri)
            edges.append((made_of, pack_node(pack.uri), _name(source.name)))
        for items in pack.items:
            edges.append((pack_node(items.uri), pack_node(pack.uri), "items"))
    for derived, sources in lineage.derived:
        for name, uri in sources:
            edges.append((pack_node(uri), pack_node(derived.uri), "items" if name is None else _name(name)))
    return nodes, list(dict.fromkeys(edges))


def _tool(step: Step) -> str:
    return f"{step.tool} {step.tool_version}".strip(" ")


def _name(text: str) -> str:
    return fitted(text, _NAME)


def _shown(digest: str) -> str:
    """Return a digest, shortened, or the word that is there instead, such as "opaque"."""
    return f"sha256:{short_digest(digest)}" if digest.startswith("sha256:") else fitted(digest, _NAME)


def _entities(text: str) -> str:
    """Return text with all that may mean something in Mermaid, or in the HTML that it makes, as a numbered entity."""
    return "".join(c if c.isalnum() or c in " .,:_-+=/…" else f"#{ord(c)};" for c in text)


def _escaped(text: str) -> str:
    """Return text between the quotes of a label of Graphviz, where "&" begins an entity."""
    return text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
