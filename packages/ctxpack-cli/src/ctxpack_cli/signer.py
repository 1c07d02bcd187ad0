"""Who signs what a command pushes."""

from __future__ import annotations

from ctxpack_pantry import InvalidInput

TYPE_CHECKING = False  # typing itself takes 4 ms to load
if TYPE_CHECKING:
    import argparse

    from ctxpack_cli.terminal import Terminal
    from ctxpack_pantry import Settings
    from ctxpack_pantry.signer import PrivateKey

__all__ = ["key_for_push"]


def key_for_push(
    arguments: argparse.Namespace, terminal: Terminal, settings: Settings, *, push: bool = True
) -> PrivateKey | None:
    """Return the key, opened, if what the command pushes is to be signed: by --sign, or by the settings.

    Call it before anything else is done. push: whether the command pushes.
    Raises: InvalidInput for --sign without a push, and for --key without --sign; as passwords.open_key does.
    """
    wanted: bool | None = arguments.sign
    if wanted and not push:
        fix = "say --push too; `ctxpack push --sign` signs later what was made here"
        raise InvalidInput("--sign is about a push", where=arguments.command, fix=fix, code="E_USAGE")
    if wanted is None and push and settings.sign:
        from ctxpack_pantry.signer import signs_by_default  # it loads what keys need

        wanted = signs_by_default(settings, settings.registry.value)
    if wanted:
        from ctxpack_cli.passwords import open_key  # few commands sign

        return open_key(arguments, terminal, settings)
    if arguments.key is not None and arguments.sign is None:
        raise InvalidInput(
            "--key says with what to sign", where=arguments.command, fix="say --sign too", code="E_USAGE"
        )
    return None
