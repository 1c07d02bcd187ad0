"""An explanation as text: one fact a line, old to new, in a fixed order; nothing in it can control a terminal."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ctxpack_cli.explanation import explanation_lines

OLD, NEW = "ctx://sha256:" + "1" * 64, "ctx://sha256:" + "2" * 64
A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def group(*files: dict[str, Any], count: int | None = None, size: int = 0) -> dict[str, Any]:
    return {"count": len(files) if count is None else count, "size": size, "files": list(files)}


def files(*, sought: bool = True, **groups: dict[str, Any]) -> dict[str, Any]:
    kinds = ("added", "removed", "changed", "renamed")
    return {kind: groups.get(kind, group()) for kind in kinds} | {"renames_sought": sought}


def root(old: str | None = A, new: str | None = B, **members: Any) -> dict[str, Any]:
    return {"old": old, "new": new, "files": None, "unlisted": [], "packages": None, **members}


def transform(tool: str = "ocr", old: int | None = 0, new: int | None = 0, **members: Any) -> dict[str, Any]:
    return {"tool": tool, "old": old, "new": new, "changes": [], "code": None, "environment": None, **members}


def document(*transforms: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {
        "old": {"uri": OLD, "found_in": "/cache", "is_contract_file": False},
        "new": {"uri": NEW, "found_in": "contract.json", "is_contract_file": True},
        "nearest": False,
        "transforms": list(transforms),
        "inputs": [],
        "changes": [],
        "outputs": None,
        **members,
    }


def facts(*transforms: dict[str, Any], shorten: bool = True, **members: Any) -> list[str]:
    """Return the lines after those that name the two sides."""
    lines = list(explanation_lines(document(*transforms, **members), shorten=shorten))
    assert lines[:3] == [f"old  {OLD}  in /cache", f"new  {NEW}  of contract.json", ""]
    return lines[3:]


def test_every_part_in_order() -> None:
    one = transform(
        code=root(files=files(changed=group({"path": "clean.py", "size": 2048, "old_size": 1024}))),
        environment=root(
            files=files(changed=group({"path": "", "size": 11, "old_size": 11})),
            packages=[
                {"name": "numpy", "old": ["1.0"], "new": ["2.0"]},
                {"name": "idna", "old": ["3", "4"], "new": []},
            ],
        ),
        changes=[{"at": "/params/dpi", "old": 300, "new": 600}, {"at": "/tool_version", "old": "1", "new": "2"}],
    )
    two = transform("embed", 0, 1, code=root("opaque", B), changes=[{"at": "/params/x", "new": None}])
    raw = root(
        files=files(
            added=group({"path": "b.pdf", "size": 3}, {"path": "empty/", "size": 0}, count=314, size=4096),
            removed=group({"path": "gone.pdf", "size": 1}),
            renamed=group({"path": "d", "size": 5, "old_path": "c"}),
        )
    )
    assert facts(
        one,
        two,
        transform("old", 2, None),
        inputs=[
            {"name": "raw", **raw},
            {"name": "model", **root(unlisted=["old", "new"])},
            {"name": "extra", **root(None, B)},
            {"name": "less", **root(A, None)},
        ],
        changes=[{"at": "/command", "old": ["sh"], "new": "undeclared"}, {"at": "/variables/X", "old": "1"}],
    ) == [
        "code of ocr: clean.py changed, 1.00 KiB → 2.00 KiB",
        f"code of embed (transform 1): opaque → {B}",
        "environment of ocr: package numpy: 1.0 → 2.0",
        "environment of ocr: package idna: 3, 4 → none",
        "environment of ocr: the file changed, 11 B",
        "input raw: b.pdf added, 3 B",
        "input raw: empty/ added",
        "input raw: and 312 more added, 314 together, 4.00 KiB",
        "input raw: gone.pdf removed, 1 B",
        "input raw: c → d renamed, 5 B",
        f"input model: {A} → {B}; no listing on the old and the new side",
        f"input extra: added, {B}",
        f"input less: removed, {A}",
        "ocr: /params/dpi 300 → 600",
        'ocr: /tool_version "1" → "2"',
        "transform embed (transform 1): was transform 0",
        "embed (transform 1): /params/x none → null",
        "transform old (transform 2): removed",
        '/command ["sh"] → "undeclared"',
        '/variables/X "1" → none',
    ]


def test_outputs_and_what_was_not_looked_for() -> None:
    outputs = root(files=files(sought=False, changed=group({"path": "out/r", "size": 1, "old_size": 1})))
    assert facts(outputs=outputs) == [
        "outputs: out/r changed, 1 B",
        "outputs: too many files for a look at which were renamed",
    ]


def test_a_lock_file_with_the_same_packages() -> None:
    environment = root(files=files(changed=group({"path": "", "size": 1, "old_size": 2})), packages=[])
    assert facts(transform(environment=environment)) == [
        "environment of ocr: the text differs, the packages do not",
        "environment of ocr: the file changed, 2 B → 1 B",
    ]


def test_wide_values_and_long_lists_are_cut_unless_all_is_asked_for() -> None:
    changes = [{"at": f"/params/{number}", "old": "x" * 100, "new": 1} for number in range(22)]
    short, long = facts(transform(changes=changes)), facts(transform(changes=changes), shorten=False)
    assert short[0] == f'ocr: /params/0 "{"x" * 58}… → 1'
    assert (len(short), short[-1]) == (21, "ocr: and 2 more values")
    assert (len(long), long[0]) == (22, f'ocr: /params/0 "{"x" * 100}" → 1')
    packages = [{"name": f"p{number}", "old": [], "new": [""]} for number in range(21)]
    lines = facts(transform(environment=root(packages=packages)))
    assert lines[0] == "environment of ocr: package p0: none → any"
    assert lines[20] == "environment of ocr: and 1 more packages"


def test_wide_values_are_cut_around_what_differs() -> None:
    prompt = "Extract every table. " * 10
    words = ["python", "convert.py", "--language", "en", "--layout", "columns", "--dpi", "300", "--quiet"]
    changed = [*words[:7], "600", *words[8:]]
    changes = [{"at": "/params/prompt", "old": f"{prompt}1", "new": f"{prompt}2"}]
    lines = facts(
        transform(changes=changes),
        changes=[{"at": "/command", "old": words, "new": changed}, {"at": "/command", "old": words, "new": words[:6]}],
    )
    assert lines == [
        f'ocr: /params/prompt …{prompt[-19:]}1" → …{prompt[-19:]}2"',
        '/command/7 "300" → "600"',
        '/command/6 "--dpi" "300" "--quiet" → none',
    ]


def test_nothing_differs() -> None:
    assert facts() == ["nothing differs; its pack is in /cache"]
    new = document()["new"] | {"is_contract_file": False}
    assert list(explanation_lines(document(new=new)))[-1] == "nothing differs"


def test_the_nearest_pack_is_called_so() -> None:
    assert next(iter(explanation_lines(document(nearest=True)))) == f"old  {OLD}  in /cache, the nearest pack"


HOSTILE = st.text(st.sampled_from("a\x1b\n\r\u202e\x9b\0"), min_size=1, max_size=5)


@given(HOSTILE, HOSTILE, HOSTILE)
def test_no_line_can_control_a_terminal(one: str, other: str, value: str) -> None:
    differing = root(
        files=files(added=group({"path": one, "size": 1})), packages=[{"name": one, "old": [other], "new": []}]
    )
    lines = list(
        explanation_lines(
            document(
                transform(one, code=differing, environment=differing, changes=[{"at": f"/{one}", "old": value}]),
                inputs=[{"name": one, **differing}],
                changes=[{"at": f"/{other}", "old": {one: value}, "new": other}],
            )
        )
    )
    assert all(line.isprintable() for line in lines)
