"""`ctxpack trust`: actions, what they print, and exit codes. (What they do: ctxpack-pantry, test_trusting.py.)"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ctxpack_cli.arguments import parse_arguments
from ctxpack_trust import generate_key

if TYPE_CHECKING:
    from cli_process import Cli

KEY = generate_key().public
ACTIONS = ("add", "mode", "remove", "list", "show", "check", "deny")


@pytest.fixture
def pub(cli: Cli) -> str:
    (cli.folder / "ci.pub").write_bytes(KEY.as_pem())
    return "ci.pub"


@pytest.mark.parametrize(
    ("first", "after"),
    [
        ("--json trust list", "trust list --json"),
        ("trust --json list", "trust list --json"),
        ("-q --scope S trust mode signed", "trust mode signed -q --scope S"),
        ("trust --scope S -q mode signed --threshold 2", "trust mode --threshold 2 signed --scope S -q"),
        ("--owner O --scope a trust --scope b add PUB", "trust add --owner O --scope a --scope b PUB"),
        ("--registry R trust check U", "trust check U --registry R"),
        ("--image trust deny D --undo", "trust deny D --image --undo"),
        ("--from U trust add --owner O", "trust add --owner O --from U"),
    ],
)
def test_options_may_come_before_the_actions_name(first: str, after: str) -> None:
    """Those of --scope, as often as they are given, in their order."""
    assert parse_arguments(first.split()) == parse_arguments(after.split())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("trust", "the following arguments are required: ACTION"),
        ("trust nonsense", f"no action 'nonsense'; the actions are {', '.join(ACTIONS)}"),
        ("trust -- list", "no action '--'"),
        ("trust list x", "unrecognized arguments: x"),
        ("trust list --scope x", "ctxpack trust list has no option --scope"),
        ("trust add PUB", "the following arguments are required: --owner"),
        ("trust add PUB --own x", "required: --owner"),
        ("trust mode", "the following arguments are required: MODE"),
        ("trust mode signed --threshold two", "argument --threshold: invalid int value: 'two'"),
        ("trust deny", "the following arguments are required: WHAT"),
        ("--threshold", "expected one argument"),
        ("--owner trust", "no command is named"),
    ],
)
def test_bad_usage_of_an_action_says_why(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments(line.split())
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("action", ACTIONS)
def test_each_action_has_a_help(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    for line in (["trust", action, "--help"], ["trust", "-h", action]):
        with pytest.raises(SystemExit) as caught:
            parse_arguments(line)
        assert caught.value.code == 0
        out = capsys.readouterr().out
        assert out.startswith(f"usage: ctxpack trust {action} [")
        assert "--json" in out
    with pytest.raises(SystemExit):
        parse_arguments(["trust", "--help"])
    assert f"\n    {action} " in capsys.readouterr().out


def test_the_policy_is_shown_as_a_table(cli: Cli, pub: str) -> None:
    assert cli("trust", "list").out == "default  accept-any\n"
    added = cli("trust", "add", pub, "--owner", "team")
    assert (added.status, added.out) == (0, f"Trusted: ci, key {KEY.key_id}\n")
    assert added.err == "ctxpack: nothing is required of packs yet: `ctxpack trust mode signed` requires a claim\n"
    assert cli("trust", "add", pub, "--owner", "audit", "--name", "a", "--scope", "ghcr.io/a", "-q").out == (
        f"{KEY.key_id}\n"
    )
    assert cli("trust", "mode", "tofu").out.startswith("default  tofu\n\n")
    cli("trust", "mode", "signed", "--scope", "ghcr.io/team", "--threshold", "2")
    cli("trust", "deny", "sha256:" + "0" * 64, "--outputs")
    assert cli("trust", "list").out == (
        "default       tofu\n"
        "ghcr.io/team  signed, 2 owners\n"
        "\n"
        f"a   owner audit  {KEY.key_id[:16]}  ghcr.io/a\n"
        f"ci  owner team   {KEY.key_id[:16]}  everywhere\n"
        "\n"
        f"denied  outputs  sha256:{'0' * 64}\n"
    )
    assert cli("trust", "list", env={"CTXPACK_TRUST": "signed"}).out.splitlines()[2] == (
        "CTXPACK_TRUST is signed, so nothing is less strict than that"
    )


def test_a_key_is_printed_for_other_programs(cli: Cli, pub: str) -> None:
    cli("trust", "add", pub, "--owner", "team")
    assert cli("trust", "show", "ci", "--pem").out == KEY.as_pem().decode()
    assert cli("trust", "show", "ci", "--pem", "-q").out == KEY.as_pem().decode()
    assert cli("trust", "show", KEY.key_id).out.startswith(
        f"key {KEY.key_id}, ecdsa-p256\nci: owner team, counts everywhere\n-----BEGIN PUBLIC KEY-----\n"
    )
    assert cli("trust", "show", "ci", "--json").document["pem"] == KEY.as_pem().decode()
    unknown = cli("trust", "show", "c")
    assert (unknown.status, unknown.out) == (2, "")
    assert 'did you mean "ci"' in unknown.err


def test_check_ends_with_7_when_the_policy_does_not_admit_the_pack(cli: Cli, project: Path) -> None:
    uri = cli("seed", "-q").out.strip()
    own = cli("trust", "check", uri)
    assert (own.status, own.out.splitlines()) == (
        0,
        [uri, "nobody signed this pack, which you made", "admitted (accept-any by default): made here, by you"],
    )
    cli("push", uri)
    note = "the cache keeps no claims about this pack; --skip-cache asks the registry for them"
    assert cli("trust", "check", uri).out.splitlines()[1] == note
    cli("trust", "mode", "signed")
    stranger = {"XDG_STATE_HOME": str(project / "state"), "CTXPACK_CACHE": str(project / "cache")}
    refused = cli("trust", "check", uri, env=stranger)
    assert refused.status == 7
    assert refused.out.splitlines()[:2] == [uri, "nobody signed this pack"]
    assert "error: " in refused.err
    document = cli("trust", "check", uri, "--json", env=stranger).document
    assert (document["verdict"]["admitted"], document["verdict"]["claims"]) == (False, [])
    inspected = cli("inspect", uri, env=stranger)
    assert inspected.status == 0
    assert "\nclaims\n  nobody signed this pack\n  not admitted (signed by default): " in inspected.out
    assert not (project / "cache" / "v1" / "packs").exists()


def test_a_denial_and_what_it_affects(cli: Cli, project: Path) -> None:
    uri = cli("seed", "-q").out.strip()
    plan = cli("trust", "deny", uri, "--dry-run")
    assert plan.out == f"Would deny: the URI {uri}\n{uri}  denied, refused\n"
    assert "what was copied, moved or exported from here is not known" in plan.err
    assert cli("trust", "deny", uri, "-q").out == f"Denied: the URI {uri}\n"
    assert cli("pull", uri).status == 7
    assert cli("trust", "deny", uri, "--undo").out == f"Allowed: the URI {uri}\n"
    assert cli("pull", uri).status == 0
    nothing = cli("trust", "deny", "0" * 64, "--show-affected")
    assert nothing.out == f"Denied: the key {'0' * 64}\nno cached pack is affected\n"
    assert cli("trust", "deny", "sha256:" + "0" * 64, "--image", "--outputs").status == 2
