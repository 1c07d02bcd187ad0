"""Templates: where the result of an item lies. SPEC.md, section 9.2."""

from __future__ import annotations

import re

from ctxpack_identity.lighttyping import NamedTuple

__all__ = ["PathParts", "fill_template", "split_path", "template_fault"]

_BRACES = r"\{\{|\}\}|\{(path|dir|stem|suffix)\}|[{}]"  # not compiled here: few contracts are maps


class PathParts(NamedTuple):
    """The path of an item. dir: with a final ``/``, "" at the top; dir + stem + suffix is path."""

    path: str
    dir: str
    stem: str
    suffix: str


def split_path(path: str, *, folder: bool = False) -> PathParts:
    """Return the parts of an item's path, without a final ``/``. A folder has no suffix.

    >>> split_path("a/b.tar.gz")
    PathParts(path='a/b.tar.gz', dir='a/', stem='b.tar', suffix='.gz')
    >>> split_path(".bashrc").suffix, split_path("a.").suffix, split_path("v1.2", folder=True).suffix
    ('', '', '')
    """
    start = path.rfind("/") + 1
    dot = path.rfind(".", start)
    if folder or dot <= start or dot == len(path) - 1:
        dot = len(path)
    return PathParts(path, path[:start], path[start:dot], path[dot:])


def template_fault(template: str) -> str:
    """Return the part of a template that is wrong, "" when none is.

    >>> template_fault("{dir}{stem}.json"), template_fault("{name}.json"), template_fault("a}")
    ('', '{name}', '}')
    """
    for found in re.finditer(_BRACES, template):
        if found[0] in "{}":
            return template[found.start() : template.find("}", found.start()) + 1 or None]
    return ""


def fill_template(template: str, parts: PathParts) -> str:
    """Return the path that a template without fault gives for an item.

    >>> fill_template("{dir}{stem}.{{json}}", split_path("a/b.pdf"))
    'a/b.{json}'
    """
    return template.format(path=parts.path, dir=parts.dir, stem=parts.stem, suffix=parts.suffix)
