"""Trust: who may say that a pack is what its contract gave. The verbs that read and change the user's policy."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from typing import Any, NamedTuple

from ctxpack_identity import CtxUri, InvalidInput, parse_digest, parse_uri, uri_digest
from ctxpack_identity.faults import did_you_mean
from ctxpack_identity.hashing.filehash import unreadable
from ctxpack_pantry.affected import Affected, Denial, find_affected
from ctxpack_pantry.context import Context
from ctxpack_pantry.deciding import Judgement
from ctxpack_pantry.judging import judge
from ctxpack_pantry.policyfile import load_policy, save_policy
from ctxpack_pantry.scopes import canonical_scope
from ctxpack_pantry.verdict import Verdict, verdict_of
from ctxpack_trust import (
    MODES,
    PublicKey,
    Rule,
    Signer,
    TrustPolicy,
    encode_policy,
    parse_public_key,
)

__all__ = [
    "Denial",
    "Denied",
    "ShownKey",
    "Trusted",
    "trust_add",
    "trust_check",
    "trust_deny",
    "trust_list",
    "trust_mode",
    "trust_remove",
    "trust_show",
]

Document = dict[str, Any]

_MAX_KEY_FILE = 64 << 10  # bytes
_FEWEST_DIGITS = 8  # of a key id that stand for the key of a signer

_is_key_id = re.compile(r"[0-9a-f]{64}").fullmatch
_is_digits = re.compile(rf"[0-9a-f]{{{_FEWEST_DIGITS},64}}").fullmatch
_is_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}").fullmatch  # POLICY.md of ctxpack-trust
_KINDS = {"image": "images", "key": "keys", "outputs": "outputs", "uri": "uris"}


class Trusted(NamedTuple):
    """The policy, and what else decides. file: its path, "" when no home folder is known; at_least: CTXPACK_TRUST."""

    file: str
    at_least: str
    policy: TrustPolicy

    def as_json(self) -> Document:
        policy = self.policy
        return {
            "schema": "ctxpack/trust/v1",
            "file": self.file,
            "at_least": self.at_least,
            "default": policy.default._asdict(),
            "scopes": [{"scope": scope, **rule._asdict()} for scope, rule in sorted(policy.scopes.items())],
            "signers": [_signer(policy, signer) for signer in _sorted(policy.signers)],
            "denied": {kind: sorted(values) for kind, values in policy.deny._asdict().items()},
        }


class ShownKey(NamedTuple):
    """A key, and what the policy says of it. signers: its names there. added: the name that it got now, "" for none.

    seen_on: the pack from whose claims it was taken, None for a file.
    """

    key: PublicKey
    signers: tuple[Signer, ...]
    denied: bool
    added: str = ""
    seen_on: CtxUri | None = None

    def as_json(self) -> Document:
        return {
            "schema": "ctxpack/trust-key/v1",
            "key_id": self.key.key_id,
            "algorithm": self.key.algorithm,
            "pem": self.key.as_pem().decode(),
            "denied": self.denied,
            "signers": [
                {"name": one.name, "owner": one.owner, "scopes": list(one.scopes)} for one in _sorted(self.signers)
            ],
            "added": self.added or None,
            "seen_on": self.seen_on,
        }


class Denied(NamedTuple):
    """What is denied now, or, with undo, no longer. changed: whether it was otherwise before, and not a dry run.

    signers: names of the signers with a denied key. affected: None when nobody asked.
    """

    denial: Denial
    undo: bool
    changed: bool
    signers: tuple[str, ...]
    affected: Affected | None = None

    def as_json(self) -> Document:
        return {
            "schema": "ctxpack/trust-deny/v1",
            "kind": self.denial.kind,
            "value": self.denial.value,
            "denied": not self.undo,
            "changed": self.changed,
            "signers": list(self.signers),
            "affected": None if self.affected is None else self.affected.members(),
        }


def trust_list(context: Context) -> Trusted:
    """Return the policy of the user. Raises: InvalidInput, LocalFailure when it cannot be read."""
    return _trusted(context, load_policy(context.trust))


def trust_add(
    context: Context,
    owner: str,
    *,
    pub: str | bytes | None = None,
    uri: CtxUri | None = None,
    key_id: str = "",
    scopes: Sequence[str] = (),
    name: str = "",
) -> ShownKey:
    """Add a signer to the policy. No mode changes; a notice says so where no claim is required yet.

    pub: the path of a public key (PEM), or the key itself. uri: instead, a pack whose claims say the key; key_id: the
    digits that it begins with, where several signed the pack. scopes: where its claims count; everywhere if empty.
    name: by default the stem of the path, or owner. A signer that is there already, just so, is no error.
    Raises: InvalidInput (E_KEY, E_SCOPE, E_POLICY_FILE, E_USAGE), also when not exactly one key signed the pack;
    NotFound, IntegrityError, AccessDenied, Unavailable for the pack; LocalFailure.
    """
    if (pub is None) == (uri is None):
        raise InvalidInput(
            "which key?", where="trust add", fix="name the file of a public key, or a pack with --from", code="E_USAGE"
        )
    if key_id and uri is None:
        raise InvalidInput("--key-id chooses a key of a pack", where="trust add", fix="say --from", code="E_USAGE")
    if uri is not None:
        key = _key_on(context, uri, key_id)
        name = name or owner
    elif isinstance(pub, bytes):
        key = parse_public_key(pub, where="public key")
        name = name or owner
    else:
        assert pub is not None
        key = parse_public_key(_read_key(pub), where=pub)
        name = name or os.path.splitext(os.path.basename(pub))[0]
    for what, text in (("owner", owner), ("name", name)):
        _require_name(what, text)
    signer = Signer(name, owner, key, tuple(sorted({*map(canonical_scope, scopes)})))
    policy = save_policy(
        context.trust, lambda policy: policy if signer in policy.signers else policy.with_signer(signer)
    )
    shown = ShownKey(key, _named_after(policy, key), key.key_id in policy.deny.keys, added=name, seen_on=uri)
    _say_added(context, policy, shown, signer)
    return shown


def trust_mode(context: Context, mode: str, *, scope: str = "", threshold: int | None = None) -> Trusted:
    """Set the mode of a scope, "" for the default. threshold: of owners; by default what the scope has, or 1.

    Raises: InvalidInput, also for tofu without a state folder; LocalFailure.
    """
    if mode not in MODES:
        raise InvalidInput(
            "no such mode",
            where="trust mode",
            expected=", ".join(MODES),
            got=repr(mode)[:80],
            fix=did_you_mean(mode, MODES),
            code="E_USAGE",
        )
    if threshold is not None and (threshold < 1 or mode != "signed"):
        raise InvalidInput(
            "a threshold of the mode signed is 1 or more" if mode == "signed" else f"the mode {mode} has no threshold",
            where="trust mode",
            got=str(threshold),
            fix="leave --threshold out" if mode != "signed" else "say how many owners must have signed",
            code="E_USAGE",
        )
    if mode == "tofu" and not context.state:
        raise InvalidInput(
            "the mode tofu remembers whom it met, and there is no state folder",
            where="trust mode",
            fix="set HOME or XDG_STATE_HOME, or use the mode signed",
            code="E_USAGE",
        )
    named = canonical_scope(scope) if scope else ""

    def edit(policy: TrustPolicy) -> TrustPolicy:
        before = policy.scopes.get(named) if named else policy.default
        kept = before.threshold if before is not None and mode == "signed" else 1
        return policy.with_rule(named, Rule(mode, threshold or kept))

    policy = save_policy(context.trust, edit)
    _say_unmet(context, policy, named)
    return _trusted(context, policy)


def trust_remove(context: Context, name: str = "", *, scope: str = "") -> Trusted:
    """Remove a signer, or the rule of a scope, which then has that of the next wider one.

    Raises: InvalidInput when there is none of this name, or scope; LocalFailure.
    """
    if bool(name) == bool(scope):
        raise InvalidInput("which one?", where="trust remove", fix="name a signer, or say --scope", code="E_USAGE")
    named = canonical_scope(scope) if scope else ""

    def edit(policy: TrustPolicy) -> TrustPolicy:
        if name:
            _require_known(name, [signer.name for signer in policy.signers], "signer")
            return policy.without_signer(name)
        _require_known(named, list(policy.scopes), "scope")
        return policy._replace(scopes={one: rule for one, rule in policy.scopes.items() if one != named})

    policy = save_policy(context.trust, edit)
    for affected in [named] if named else policy.scopes:
        _say_unmet(context, policy, affected)
    return _trusted(context, policy)


def trust_show(context: Context, what: str) -> ShownKey:
    """Return a key of the policy. what: the name of a signer, or 8 or more of the digits that a key id begins with.

    Raises: InvalidInput when that is none, or several; LocalFailure.
    """
    policy = load_policy(context.trust)
    signers = _signers(policy, what)
    if not signers:
        _require_known(what, [signer.name for signer in policy.signers], "signer or key")
    key = signers[0].key
    return ShownKey(key, _named_after(policy, key), key.key_id in policy.deny.keys)


def trust_check(context: Context, uri: CtxUri, *, skip_cache: bool = False) -> Verdict:
    """Return whether the policy admits a pack, by whom, and why not. Nothing of it is placed or cached.

    skip_cache: ask the registry even if the cache has the pack. Raises: NotFound, IntegrityError, AccessDenied,
    Unavailable; InvalidInput, LocalFailure for a policy that cannot be read.
    """
    return verdict_of(context, judge(context, uri, skip_cache=skip_cache))


def trust_deny(
    context: Context,
    what: str,
    *,
    kind: str = "",
    undo: bool = False,
    dry_run: bool = False,
    show_affected: bool = False,
) -> Denied:
    """Deny a key, a pack or outputs from now on, whatever else admits them.

    what: the name of a signer, a key id or the path of a public key; a URI; or the digest of an image manifest or of
    outputs. kind: "image" or "outputs" of a digest; by default it is what the cache knows under this digest. undo: take
    the denial back. dry_run: change nothing. show_affected: also find what is affected, as far as this machine knows.
    Raises: InvalidInput when it is not clear what is meant, and for undo when it is not denied; LocalFailure.
    """
    denial = _denial(context, what, kind)
    member = _KINDS[denial.kind]

    def edit(policy: TrustPolicy) -> TrustPolicy:
        denied: frozenset[str] = getattr(policy.deny, member)
        if not undo:
            return policy if denial.value in denied else policy.with_denied(member, denial.value)
        if denial.value not in denied:
            raise InvalidInput(
                f"{denial.word} is not denied",
                where=denial.value,
                fix="`ctxpack trust list` shows what is",
                code="E_USAGE",
            )
        return policy._replace(deny=policy.deny._replace(**{member: denied - {denial.value}}))

    before = load_policy(context.trust)
    after = edit(before) if dry_run else save_policy(context.trust, edit)
    signers = tuple(one.name for one in _sorted(after.signers) if denial == Denial("key", one.key.key_id))
    affected = None
    if show_affected:
        affected = find_affected(context, denial, encode_policy(after))
    return Denied(denial, undo, not dry_run and before != after, signers, affected)


def _denial(context: Context, what: str, kind: str) -> Denial:
    """Return what is to be denied."""
    if what[:4].lower() == "ctx:":
        found = Denial("uri", parse_uri(what))
    elif what.startswith("sha256:"):
        digest = parse_digest(what)
        found = Denial(kind or _kind_of(context, digest), digest)
    else:
        found = Denial("key", _denied_key(context, what))
    if kind and found.kind != kind:
        raise InvalidInput(
            f"not a digest: {found.word} has no other kind", where=what[:160], fix=f"leave out --{kind}", code="E_USAGE"
        )
    return found


def _kind_of(context: Context, digest: str) -> str:
    """Return what the cache knows under this digest. Raises: InvalidInput when that is nothing, or both."""
    from ctxpack_pantry.affected import known_kinds

    kinds = known_kinds(context, digest)
    if len(kinds) != 1:
        both = "of an image manifest and of outputs" if kinds else "of nothing that this cache knows"
        raise InvalidInput(
            f"the digest {both}",
            where=digest,
            fix="say --image for that of an image manifest, or --outputs for that of outputs",
            code="E_USAGE",
        )
    [kind] = kinds
    context.notice(f"{digest} is the digest of {Denial(kind, digest).word} of a cached pack")
    return kind


def _denied_key(context: Context, what: str) -> str:
    """Return the key id that is meant by the name of a signer, by itself, or by the path of a public key."""
    policy = load_policy(context.trust)
    signers = _signers(policy, what)
    if signers:
        return signers[0].key.key_id
    if _is_key_id(what):
        return what
    if os.path.lexists(what) or os.sep in what:
        return parse_public_key(_read_key(what), where=what).key_id
    near = did_you_mean(what, [signer.name for signer in policy.signers])
    raise InvalidInput(
        "nothing that can be denied",
        where=repr(what)[:160],
        expected="a signer, a key id, the file of a public key, ctx:// and a digest, or sha256: and a digest",
        fix=near or "`ctxpack trust list` shows the signers",
        code="E_USAGE",
    )


def _signers(policy: TrustPolicy, what: str) -> list[Signer]:
    """Return the signers of this name; else those whose key id begins with these digits, if it is one key.

    Raises: InvalidInput when several keys do.
    """
    named = [signer for signer in policy.signers if signer.name == what]
    if named or not _is_digits(what):
        return named
    found = [signer for signer in policy.signers if signer.key.key_id.startswith(what)]
    if len({signer.key.key_id for signer in found}) > 1:
        names = ", ".join(sorted(signer.name for signer in found))
        raise InvalidInput(
            "several keys begin with these digits", where=what, got=names, fix="write more", code="E_USAGE"
        )
    return found


def _named_after(policy: TrustPolicy, key: PublicKey) -> tuple[Signer, ...]:
    return tuple(signer for signer in policy.signers if signer.key.key_id == key.key_id)


def _key_on(context: Context, uri: CtxUri, key_id: str) -> PublicKey:
    """Return the key that signed a pack, as the claims in the registry say. Raises: InvalidInput unless it is one."""
    judged = _claims_on(context, uri)
    keys = {one.key.key_id: one.key for one in judged.found}
    chosen = [key for one, key in sorted(keys.items()) if one.startswith(key_id)]
    if len(chosen) == 1 and (not key_id or _is_digits(key_id)):
        return chosen[0]
    kinds = {one.key.key_id: one.claim.kind for one in judged.found}
    seen = "; ".join(f"{one} ({kinds[one]})" for one in sorted(keys))
    if not keys:
        skipped = f": {'; '.join(judged.skipped[:3])}" if judged.skipped else ""
        raise InvalidInput(
            "nobody signed this pack, so it names no key",
            where=uri,
            got=f"no claim whose key is known{skipped}",
            fix="ask its maker for the public key, or to run `ctxpack push --sign`",
            code="E_KEY",
        )
    raise InvalidInput(
        "no claim by this key" if key_id else f"{len(keys)} keys signed this pack",
        where=uri,
        got=seen,
        fix=f"choose one: --key-id and {_FEWEST_DIGITS} or more of its digits, which its owner told you",
        code="E_KEY",
    )


def _claims_on(context: Context, uri: CtxUri) -> Judgement:
    """Return the claims that the registry has, or, where it lacks the pack, the cache."""
    from ctxpack_identity import NotFound

    try:
        return judge(context, uri, skip_cache=True)
    except NotFound:
        if context.cache.find(uri_digest(uri)) is None:
            raise
        return judge(context, uri)


def _read_key(path: str) -> bytes:
    """Return the content of a key's file. Raises: InvalidInput when there is none; LocalFailure."""
    if not path:
        raise InvalidInput("the path of the public key is empty", where="trust", fix="name a file", code="E_KEY")
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InvalidInput("not a file", where=path, fix="name the file of a public key (PEM)", code="E_KEY")
            return file.read(_MAX_KEY_FILE)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise InvalidInput(
            "no such file",
            where=path,
            fix="name the file of a public key: `ctxpack keygen` writes NAME.pub",
            code="E_KEY",
        ) from error
    except OSError as error:
        raise unreadable(path, error) from error


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO has no writer, perhaps for ever


def _trusted(context: Context, policy: TrustPolicy) -> Trusted:
    return Trusted(context.trust.path, context.trust.at_least, policy)


def _sorted(signers: Sequence[Signer]) -> list[Signer]:
    return sorted(signers, key=lambda signer: signer.name)


def _signer(policy: TrustPolicy, signer: Signer) -> Document:
    return {
        "name": signer.name,
        "owner": signer.owner,
        "key_id": signer.key.key_id,
        "algorithm": signer.key.algorithm,
        "scopes": list(signer.scopes),
        "denied": signer.key.key_id in policy.deny.keys,
    }


def _require_name(what: str, text: str) -> None:
    if not _is_name(text):
        raise InvalidInput(
            f"not the {what} of a signer",
            where=f"--{what}",
            expected="1 to 128 letters, digits, '.', '_', '@', '+' and '-', of which the first is a letter or digit",
            got=repr(text)[:160],
            fix=f"give it with --{what}",
            code="E_USAGE",
        )


def _require_known(wanted: str, names: Sequence[str], what: str) -> None:
    if wanted not in names:
        raise InvalidInput(
            f"the policy has no such {what}",
            where=repr(wanted)[:160],
            fix=did_you_mean(wanted, names) or "`ctxpack trust list` shows what it has",
            code="E_USAGE",
        )


def _say_added(context: Context, policy: TrustPolicy, shown: ShownKey, signer: Signer) -> None:
    """Say what a new signer changes, and what it does not."""
    if shown.seen_on is not None:
        context.notice(
            f"the key {shown.key.key_id} is only what the pack says: compare it with the key id that {signer.owner} "
            "got from `ctxpack keygen`, and trusts you with by another way than this registry"
        )
    others = [one.name for one in _sorted(shown.signers) if one.name != signer.name]
    if others:
        context.notice(f"the same key is {', '.join(others)}; its claims count once")
    if shown.denied:
        context.notice(
            f"the key is denied, so its claims do not count; `ctxpack trust deny {signer.name} --undo` allows it"
        )
    for scope in signer.scopes or ("",):
        _, rule = policy.scope_of(scope) if scope else ("", policy.default)
        if rule.mode == "accept-any":
            option = f" --scope {scope}" if scope else ""
            command = f"ctxpack trust mode signed{option}"
            context.notice(f"nothing is required of packs{_of(policy, scope)} yet: `{command}` requires a claim")


def _say_unmet(context: Context, policy: TrustPolicy, scope: str) -> None:
    """Say when no pack can be admitted in a scope, since too few owners' claims count there."""
    _, rule = policy.scope_of(scope) if scope else ("", policy.default)
    if rule.mode != "signed":
        return
    denied = policy.deny.keys
    # Claims count in a scope also by a signer of a part of it, so these are at most the owners that count somewhere.
    counting = [
        signer for signer in policy.signers if signer.key.key_id not in denied and _meets(signer, scope, policy)
    ]
    owners = sorted({signer.owner.lower() for signer in counting})
    if len(owners) < rule.threshold:
        context.notice(
            f"no pack{_of(policy, scope)} is admitted yet, but what you made: {rule.threshold} "
            f"owner{'s' * (rule.threshold > 1)} must have signed it, and the policy has "
            f"{', '.join(owners) if owners else 'none'}; `ctxpack trust add` adds one"
        )


def _meets(signer: Signer, scope: str, policy: TrustPolicy) -> bool:
    """Return whether a signer's claims count somewhere in a scope."""
    from ctxpack_trust import is_within

    return (
        not scope or not signer.scopes or any(is_within(one, scope) or is_within(scope, one) for one in signer.scopes)
    )


def _of(policy: TrustPolicy, scope: str) -> str:
    return f" of {scope}" if scope else " outside the scopes of the policy" if policy.scopes else ""
