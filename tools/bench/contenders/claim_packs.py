"""Push and pull a pack in one process, with claims and without, in turn: ``claim_packs.py ORDER``, a JSON document.

ORDER: uri, key (path of a private key), registry (URL of repositories), signed (URL of one that has the pack, signed),
machines (an empty folder), policies (names of pulls, each with a configuration folder, "" for none), times.
Prints JSON: for each name the seconds and the seconds of CPU of each round. Modules are loaded, and the key is opened,
before the first; the first round is not printed.
"""

import json
import os
import sys
import time
from pathlib import Path

from ctxpack_pantry import Pantry, load_settings
from ctxpack_trust import parse_private_key

order = json.loads(sys.argv[1])
key = parse_private_key(Path(order["key"]).read_bytes(), os.environb[b"CTXPACK_KEY_PASSWORD"], where=order["key"])
uri, machines = order["uri"], Path(order["machines"])


def pantry(registry, **variables):
    environ = {**os.environ, "CTXPACK_REGISTRY": registry, **variables}
    return Pantry(load_settings(environ=environ), environ=environ)


def push(name, number, key):
    with pantry(f"{order['registry']}/{name}-{number}") as one:
        one.push(uri, key=key)


def pull(number, policy):
    machine = machines / f"{number}-{Path(policy).name}"
    variables = {"XDG_STATE_HOME": str(machine / "state"), "CTXPACK_CACHE": str(machine / "cache")}
    if policy:
        variables["XDG_CONFIG_HOME"] = policy
    with pantry(order["signed"], **variables) as one:
        one.pull(uri)


ways = {
    "push": lambda number: push("process-plain", number, None),
    "push, signed": lambda number: push("process-signed", number, key),
    **{name: lambda number, policy=policy: pull(number, policy) for name, policy in order["policies"].items()},
}
taken = {name: [] for name in ways}
for number in range(order["times"] + 1):
    for name, way in ways.items():
        begun = time.perf_counter(), time.process_time()
        way(number)
        taken[name].append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
print(json.dumps({name: rounds[1:] for name, rounds in taken.items()}))
