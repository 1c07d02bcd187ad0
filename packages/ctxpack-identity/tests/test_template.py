"""Templates: a path is the sum of its parts, and braces are those of str.format without its other features."""

from __future__ import annotations

import re
from string import Formatter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity.template import PathParts, fill_template, split_path, template_fault

NAMES = {"path", "dir", "stem", "suffix"}

names = st.text(st.sampled_from("ab.{}é") | st.characters(exclude_categories=["Cs"], exclude_characters="/\0")).filter(
    lambda name: name not in ("", ".", "..")
)
paths = st.lists(names, min_size=1, max_size=4).map("/".join)
templates = st.lists(
    st.sampled_from(
        ["{path}", "{dir}", "{stem}", "{suffix}", "{{", "}}", "{", "}", "path", "{x}", "/", ".json", "$1", "\\1"]
    )
    | st.text(max_size=2),
    max_size=6,
).map("".join)


def is_right(template: str) -> bool:
    """Return whether a template is one, as the parser of str.format sees it."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError:
        return False
    written = "".join(
        re.sub(r"[{}]", lambda brace: brace[0] * 2, text) + ("" if name is None else f"{{{name}}}")
        for text, name, _, _ in parts
    )
    return {name for _, name, _, _ in parts if name is not None} <= NAMES and written == template


@given(paths, st.booleans())
def test_dir_stem_and_suffix_are_the_path(path: str, folder: bool) -> None:
    parts = split_path(path, folder=folder)
    assert parts.path == path == parts.dir + parts.stem + parts.suffix
    assert fill_template("{dir}{stem}{suffix}", parts) == fill_template("{path}", parts) == path
    assert parts.dir == "".join(f"{name}/" for name in path.split("/")[:-1])
    assert parts.stem
    assert "/" not in parts.stem


@given(paths)
def test_a_suffix_is_a_dot_and_more_without_another_dot(path: str) -> None:
    assert split_path(path, folder=True).suffix == ""
    suffix = split_path(path).suffix
    assert suffix == "" or re.fullmatch(r"\.[^./]+", suffix)
    name = path.rpartition("/")[2]
    assert (suffix == "") == ("." not in name[1:-1] or name.endswith(".") or name.rfind(".") == 0)


@pytest.mark.parametrize(
    ("path", "folder", "parts"),
    [
        ("a", False, ("", "a", "")),
        ("a.b", False, ("", "a", ".b")),
        ("a.b.c", False, ("", "a.b", ".c")),
        ("x.y/a", False, ("x.y/", "a", "")),
        ("x/y/a.b", False, ("x/y/", "a", ".b")),
        (".a", False, ("", ".a", "")),
        (".a.b", False, ("", ".a", ".b")),
        ("x/.a", False, ("x/", ".a", "")),
        ("a.", False, ("", "a.", "")),
        ("a.b.", False, ("", "a.b.", "")),
        ("..a", False, ("", ".", ".a")),
        ("...", False, ("", "...", "")),
        ("v1.2", True, ("", "v1.2", "")),
        ("v1.2", False, ("", "v1", ".2")),
    ],
)
def test_the_parts_of_a_path(path: str, folder: bool, parts: tuple[str, str, str]) -> None:
    assert split_path(path, folder=folder) == PathParts(path, *parts)


@given(templates, paths)
def test_a_template_is_right_where_format_takes_it_and_gives_what_format_gives(template: str, path: str) -> None:
    assert (template_fault(template) == "") == is_right(template)
    if is_right(template):
        parts = split_path(path)
        assert fill_template(template, parts) == template.format(**parts._asdict())


@given(st.text())
def test_any_text_can_be_written_with_its_braces_doubled(text: str) -> None:
    template = text.replace("{", "{{").replace("}", "}}")
    assert template_fault(template) == ""
    assert fill_template(template, split_path("a/b.c")) == text


@given(templates)
def test_the_fault_is_a_part_of_the_template(template: str) -> None:
    assert template_fault(template) in template


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("{", "{"),
        ("}", "}"),
        ("a{b", "{b"),
        ("{name}.json", "{name}"),
        ("{path}{x}{y}", "{x}"),
        ("{}", "{}"),
        ("{ path }", "{ path }"),
        ("{path}}", "}"),
        ("{{{", "{"),
        ("{{path}", "}"),
        ("{path:>9}", "{path:>9}"),
        ("{path!r}", "{path!r}"),
        ("{{path}}{{", ""),
    ],
)
def test_the_first_fault_of_a_template(template: str, fault: str) -> None:
    assert template_fault(template) == fault


def test_what_is_filled_in_is_not_looked_at_again() -> None:
    assert fill_template("{dir}{stem}|{path}", split_path("{stem}/{path}.{{")) == "{stem}/{path}|{stem}/{path}.{{"
    assert fill_template(r"\1{stem}\g<0>", split_path(r"\2.x")) == r"\1\2\g<0>"
