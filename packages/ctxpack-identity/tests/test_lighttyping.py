"""The substitutes for typing behave like the real ones, in all uses made of them."""

from __future__ import annotations

import pickle
import typing

import pytest

from ctxpack_identity import Digest, Tree, TreeEntry, lighttyping
from ctxpack_identity.hashing.scan import Found


class Real(typing.NamedTuple):
    """TreeEntry, made with typing."""

    path: str
    size: int
    sha256: str
    executable: bool = False


def test_a_named_tuple_has_the_fields_and_defaults_typing_would_give_it() -> None:
    assert TreeEntry._fields == Real._fields
    assert TreeEntry._field_defaults == Real._field_defaults
    assert tuple(TreeEntry("a", 1, "x")) == tuple(Real("a", 1, "x")) == ("a", 1, "x", False)
    assert repr(TreeEntry("a", 1, "x")) == repr(Real("a", 1, "x")).replace("Real", "TreeEntry")
    with pytest.raises(TypeError, match="missing 2 required positional arguments: 'size' and 'sha256'"):
        TreeEntry("a")  # type: ignore[call-arg]


def test_a_named_tuple_keeps_its_methods_doc_and_module() -> None:
    assert TreeEntry("a/", 0, "").is_empty_folder
    assert TreeEntry.__doc__ is not None
    assert TreeEntry.__doc__.startswith("One file, or one empty folder")
    assert (TreeEntry.__module__, Found.__module__) == ("ctxpack_identity.tree", "ctxpack_identity.hashing.scan")


def test_a_named_tuple_can_be_pickled() -> None:
    tree = Tree(Digest("sha256:" + "0" * 64), "folder", 0, 0)
    assert pickle.loads(pickle.dumps(tree)) == tree
    assert type(pickle.loads(pickle.dumps(tree))) is Tree


def test_every_exported_name_exists() -> None:
    assert all(hasattr(lighttyping, name) and hasattr(typing, name) for name in lighttyping.__all__)
