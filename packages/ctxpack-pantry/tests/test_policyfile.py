"""The user's policy file: what counts as none, what is refused, and how it is written."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ctxpack_identity import InvalidInput
from ctxpack_pantry.policyfile import Trust, load_policy, save_policy
from ctxpack_trust import NO_POLICY, Rule, TrustPolicy, encode_policy

SIGNED = NO_POLICY._replace(default=Rule("signed"))


def sign(policy: TrustPolicy) -> TrustPolicy:
    return policy.with_rule("", Rule("signed"))


@pytest.fixture
def trust(tmp_path: Path) -> Trust:
    """Where a policy would be; its folder is missing."""
    return Trust(str(tmp_path / "config" / "ctxpack" / "policy.json"))


@pytest.fixture
def policy(trust: Trust) -> Path:
    """A policy that asks for signatures."""
    path = Path(trust.path)
    path.parent.mkdir(parents=True)
    path.write_bytes(encode_policy(SIGNED))
    path.chmod(0o600)
    return path


def test_without_a_file_no_policy_holds(trust: Trust) -> None:
    assert trust.read() == b""
    assert load_policy(trust) == NO_POLICY


@pytest.mark.parametrize("link", ["policy.json", "ctxpack", "config"])
def test_a_link_that_leads_nowhere_is_no_missing_policy(trust: Trust, policy: Path, tmp_path: Path, link: str) -> None:
    """As when the disk with a user's dotfiles is not mounted."""
    [at] = [path for path in (policy, *policy.parents) if path.name == link]
    moved = tmp_path / "dotfiles"
    at.rename(moved)
    at.symlink_to(moved)
    assert load_policy(trust) == SIGNED
    moved.rename(tmp_path / "away")
    for use in (trust.read, lambda: save_policy(trust, sign)):
        with pytest.raises(InvalidInput) as caught:
            use()
        assert str(caught.value).startswith(f"{at}: the policy is lost: this link leads nowhere: got {moved}; mend it")
    assert not os.path.lexists(moved)
    at.unlink()
    assert trust.read() == b""


def test_a_link_stays_one_when_the_policy_is_changed(trust: Trust, policy: Path, tmp_path: Path) -> None:
    moved = tmp_path / "dotfiles" / "policy.json"
    moved.parent.mkdir()
    policy.rename(moved)
    policy.symlink_to(moved)
    save_policy(trust, lambda policy: policy.with_rule("", Rule("reject")))
    assert policy.is_symlink()
    assert load_policy(trust).default == Rule("reject")
    assert encode_policy(load_policy(trust)) == moved.read_bytes()


@pytest.mark.parametrize("mode", [0o660, 0o620, 0o606, 0o602, 0o666])
def test_a_policy_that_others_may_write_is_refused(trust: Trust, policy: Path, mode: int) -> None:
    policy.chmod(mode)
    with pytest.raises(InvalidInput, match="others may write the policy; chmod go-w "):
        trust.read()
    policy.chmod(mode & ~0o022)
    assert load_policy(trust) == SIGNED


def test_what_a_killed_process_left_is_swept_by_the_next_change(trust: Trust, policy: Path) -> None:
    draft = Path(f"{policy}.new")
    draft.write_bytes(b"half of a pol")
    draft.chmod(0o666)
    save_policy(trust, sign)
    assert {path.name for path in policy.parent.iterdir()} == {"policy.json", "policy.json.lock"}
    assert stat.S_IMODE(policy.stat().st_mode) == 0o600
