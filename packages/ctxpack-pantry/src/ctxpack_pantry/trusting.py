"""Trust: who may say that a pack is what its contract gave. The verbs that read and change the user's policy."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from ctxpack_identity import CtxUri, InvalidInput, uri_digest
from ctxpack_identity.faults import did_you_mean
from ctxpack_pantry.context import Context
from ctxpack_pantry.deciding import Judgement, pinned_key
from ctxpack_pantry.judging import judge
from ctxpack_pantry.policyfile import load_policy, save_policy
from ctxpack_pantry.remembered import Remembered
from ctxpack_pantry.scopes import canonical_scope
from ctxpack_pantry.signers import FEWEST_DIGITS, by_name, find_signers, is_digits, named_after, read_public_key
from ctxpack_pantry.trustresults import Pinned, ShownKey, Trusted
from ctxpack_pantry.verdict import Verdict, verdict_of
from ctxpack_trust import MODES, PublicKey, Rule, Signer, TrustPolicy, count_owners, parse_public_key
from ctxpack_trust.policy import MAX_THRESHOLD

__all__ = ["trust_add", "trust_check", "trust_list", "trust_mode", "trust_remove", "trust_show"]

_is_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}").fullmatch  # POLICY.md of ctxpack-trust


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
        key = read_public_key(pub)
        name = name or os.path.splitext(os.path.basename(pub))[0]
    for what, text in (("owner", owner), ("name", name)):
        _require_name(what, text)
    signer = Signer(name, owner, key, tuple(sorted({*map(canonical_scope, scopes)})))
    policy = save_policy(
        context.trust, lambda policy: policy if signer in policy.signers else policy.with_signer(signer)
    )
    shown = ShownKey(key, named_after(policy, key), key.key_id in policy.deny.keys, added=name, seen_on=uri)
    _say_added(context, policy, shown, signer)
    return shown


def trust_mode(context: Context, mode: str, *, scope: str | None = None, threshold: int | None = None) -> Trusted:
    """Set the mode of a scope, None for the default. threshold: of owners; by default what the scope has, or 1.

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
    if threshold is not None and (mode != "signed" or not 1 <= threshold <= MAX_THRESHOLD):
        raise InvalidInput(
            f"a threshold is 1 to {MAX_THRESHOLD}" if mode == "signed" else f"the mode {mode} has no threshold",
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
    named = "" if scope is None else canonical_scope(scope)

    def edit(policy: TrustPolicy) -> TrustPolicy:
        before = policy.scopes.get(named) if named else policy.default
        kept = before.threshold if before is not None and mode == "signed" else 1
        return policy.with_rule(named, Rule(mode, threshold or kept))

    policy = save_policy(context.trust, edit)
    _say_unmet(context, policy, named)
    return _trusted(context, policy)


def trust_remove(
    context: Context, name: str | None = None, *, scope: str | None = None, pin: str | None = None
) -> Trusted:
    """Remove a signer, or the rule of a scope, which then has that of the next wider one.

    pin: or forget the key that is pinned in this scope or repository, so that the next one that signed is pinned.
    Raises: InvalidInput when there is none of this name, scope or pin; LocalFailure.
    """
    if [name, scope, pin].count(None) != 2:
        fix = "name a signer, or say --scope or --pin"
        raise InvalidInput("which one?", where="trust remove", fix=fix, code="E_USAGE")
    if pin is not None:
        return _unpin(context, pin)
    named = "" if scope is None else canonical_scope(scope)

    def edit(policy: TrustPolicy) -> TrustPolicy:
        if name is not None:
            _require_known(name, [signer.name for signer in policy.signers], "signer")
            return policy.without_signer(name)
        _require_known(named, list(policy.scopes), "scope")
        return policy._replace(scopes={one: rule for one, rule in policy.scopes.items() if one != named})

    policy = save_policy(context.trust, edit)
    for affected in [named] if named else policy.scopes:
        _say_unmet(context, policy, affected)
    return _trusted(context, policy)


def trust_show(context: Context, what: str) -> ShownKey:
    """Return a key of the policy, or one that is pinned.

    what: the name of a signer, or 8 or more of the digits that a key id begins with.

    Raises: InvalidInput when that is none, or several; LocalFailure.
    """
    policy = load_policy(context.trust)
    signers, pins = find_signers(policy, what), _pins(context)
    found = {signer.key.key_id: signer.key for signer in signers}
    if not found and is_digits(what):
        found = {pin.key.key_id: pin.key for pin in pins if pin.key is not None and pin.key.key_id.startswith(what)}
    if not found:
        _require_known(what, [signer.name for signer in policy.signers], "signer or key")
    if len(found) > 1:
        raise InvalidInput("several keys begin with these digits", where=what, fix="write more", code="E_USAGE")
    [key] = found.values()
    pinned = tuple(pin.scope or pin.file for pin in pins if pin.key == key)
    return ShownKey(key, named_after(policy, key), key.key_id in policy.deny.keys, pinned=pinned)


def trust_check(context: Context, uri: CtxUri, *, skip_cache: bool = False) -> Verdict:
    """Return whether the policy admits a pack, by whom, and why not. Nothing of it is placed or cached.

    skip_cache: ask the registry even if the cache has the pack. Raises: NotFound, IntegrityError, AccessDenied,
    Unavailable; InvalidInput, LocalFailure for a policy that cannot be read.
    """
    return verdict_of(context, judge(context, uri, skip_cache=skip_cache))


def _key_on(context: Context, uri: CtxUri, key_id: str) -> PublicKey:
    """Return the key that signed a pack, as the claims in the registry say. Raises: InvalidInput unless it is one."""
    judged = _claims_on(context, uri)
    keys = {one.key.key_id: one.key for one in judged.found}
    chosen = [key for one, key in sorted(keys.items()) if one.startswith(key_id)]
    if len(chosen) == 1 and (is_digits(key_id) if key_id else not judged.too_many):
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
    how_many = "perhaps more than one key" if judged.too_many else f"{len(keys)} keys"
    raise InvalidInput(
        "no claim by this key" if key_id else f"{how_many} signed this pack",
        where=uri,
        got=seen,
        fix=f"choose one: --key-id and {FEWEST_DIGITS} or more of its digits, which its owner told you",
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


def _trusted(context: Context, policy: TrustPolicy) -> Trusted:
    return Trusted(context.trust.path, context.trust.at_least, policy, _pins(context))


def _pins(context: Context) -> tuple[Pinned, ...]:
    return tuple(Pinned(pin.scope, pinned_key(pin.spki), pin.path) for pin in Remembered(context.state).pins())


def _unpin(context: Context, scope: str) -> Trusted:
    memory = Remembered(context.state)
    if not memory.unpin(scope) and not memory.unpin(canonical_scope(scope)):
        _require_known(scope, [pin.scope for pin in memory.pins() if pin.scope], "pin")
    return trust_list(context)


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
    others = [one.name for one in by_name(shown.signers) if one.name != signer.name]
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
    count = count_owners({signer.key.key_id for signer in counting}, counting)
    if count < rule.threshold:
        one = f", who count as {count}, since they share a key" if count < len(owners) else ""
        context.notice(
            f"no pack{_of(policy, scope)} is admitted yet, but what you made: {rule.threshold} "
            f"owner{'s' * (rule.threshold > 1)} must have signed it, and the policy has "
            f"{', '.join(owners) if owners else 'none'}{one}; `ctxpack trust add` adds one"
        )


def _meets(signer: Signer, scope: str, policy: TrustPolicy) -> bool:
    """Return whether a signer's claims count somewhere in a scope."""
    from ctxpack_trust import is_within

    return (
        not scope or not signer.scopes or any(is_within(one, scope) or is_within(scope, one) for one in signer.scopes)
    )


def _of(policy: TrustPolicy, scope: str) -> str:
    return f" of {scope}" if scope else " outside the scopes of the policy" if policy.scopes else ""
