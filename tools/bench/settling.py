"""Settle: what it costs a small push to wait and see that its tag stays as it was written."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bench.clients import CtxPack
from bench.compare import compare
from bench.measure import Command, Contender, Run
from bench.repository import expect_pushed
from bench.requesting import small_pack
from bench.results import Table
from bench.stage import Stage
from bench.verdict import OURS
from sandbox import SETTLE

__all__ = ["settling"]


def settling(stage: Stage) -> Iterator[Table]:
    """Yield one table: a push as all other sections measure it, and one that waits as users' pushes do."""
    place = stage.folder("settle")
    workload = small_pack(place / "outputs")
    own = CtxPack(stage, place / "ctxpack")
    own.prepare(workload)
    with stage.registry("settle small") as registry:

        def pusher(name: str, repositories: str, changed: Callable[[Command], Command]) -> Contender:
            def repository(run: Run) -> str:
                return f"{repositories}-{run.number}"  # new in every run, so that it has no tag yet

            return Contender(
                f"{OURS}, {name}",
                lambda run: changed(own.push(workload, f"{registry.address}/{repository(run)}", run.folder)),
                check=lambda run: expect_pushed(registry, repository(run), workload, closely=run.first),
            )

        contenders = [
            pusher(f"{SETTLE}=0", "at-once", lambda command: command),
            pusher("default settle time", "waits", _waiting),
        ]
        yield compare(stage, "settle", workload, contenders, 2 * stage.plan.runs)


def _waiting(command: Command) -> Command:
    """Return command without the setting that makes all other sections end at once."""
    return command._replace(environment={name: text for name, text in command.environment.items() if name != SETTLE})
