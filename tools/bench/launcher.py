"""Run one command and report its cost. This is a program of its own, started for every run.

Linux counts the memory of the parent in the peak of a new process. This parent (``python -I -S``) has only some 10 MiB,
much less than the process that measures.

Takes a JSON document on stdin (argv, cwd, env, stdout, stderr, limit, watch) and writes one to stdout.
"""

import json
import os
import signal
import sys
import time

WATCH_SECONDS = 0.02  # between two measurements of the memory of all processes


def main() -> None:
    order = json.load(sys.stdin)
    os.chdir(order["cwd"])
    written = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, order["stdout"], written, 0o644),
        (os.POSIX_SPAWN_OPEN, 2, order["stderr"], written, 0o644),
    ]
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(order["limit"])
    begun = time.perf_counter()
    child = os.posix_spawnp(order["argv"][0], order["argv"], order["env"], file_actions=files, setpgroup=0)
    together = 0
    try:
        waited, status, used = os.wait4(child, os.WNOHANG if order["watch"] else 0)
        while not waited:
            together = max(together, memory_of_group(child))
            time.sleep(WATCH_SECONDS)
            waited, status, used = os.wait4(child, os.WNOHANG)
    except KeyboardInterrupt:  # Ctrl-C, or the limit
        os.killpg(child, signal.SIGKILL)
        raise
    seconds = time.perf_counter() - begun
    answer = {
        "status": os.waitstatus_to_exitcode(status),
        "seconds": seconds,
        "cpu": used.ru_utime + used.ru_stime,
        "peak": used.ru_maxrss * 1024,  # of the largest process: the child or one that it waited for
        "together": together,
    }
    json.dump(answer, sys.stdout)


def memory_of_group(leader: int) -> int:
    """Return the bytes of all processes of a group. Shared memory counts once."""
    total = 0
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.getpgid(int(process)) == leader:
                with open(f"/proc/{process}/smaps_rollup", "rb") as file:
                    total += sum(int(line.split()[1]) for line in file if line.startswith(b"Pss:")) * 1024
        except OSError:  # the process has just ended
            continue
    return total


if __name__ == "__main__":
    main()
