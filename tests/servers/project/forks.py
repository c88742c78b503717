"""A parent with a session in use and another idle, whose children use the database and end."""

from __future__ import absolute_import

import gc
import json
import multiprocessing
import os
import sys

from project import sessions

#: Python 2 can only fork, and newer Pythons no longer fork by default.
context = getattr(multiprocessing, "get_context", lambda method: multiprocessing)("fork")


def children_use_it():
    """Everything that a child may do to sessions, with and without threads of its own."""
    from django.db import connections

    used = [
        sessions.backend(),
        sessions.backend("other"),
        sessions.in_thread(sessions.unit_of_work),
    ]
    sessions.end_of_work()
    used.append(sessions.unit_of_work())
    for alias in connections:
        connections[alias].close()
    return used


def children_only_end():
    return []


def children_collect_garbage():
    from django.db import connections

    for alias in list(connections):
        if hasattr(connections, "__delitem__"):
            del connections[alias]
        else:
            delattr(connections._connections, alias)
    for _turn in range(3):
        gc.collect()
    return []


def fork(use, how):
    """Fork a child. Return the sessions that it used, and its exit code."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writable, json.dumps(use()).encode())
        os.close(writable)
        leave(how)
    os.close(writable)
    with os.fdopen(readable) as pipe:
        written = pipe.read()
    code = os.waitpid(child, 0)[1]
    return json.loads(written), os.WEXITSTATUS(code) if os.WIFEXITED(code) else -code


class Expected(Exception):
    pass


def leave(how):
    if how == "os._exit":
        os._exit(0)
    elif how == "exception":
        # Nobody catches this exception.
        raise Expected()
    sys.exit(0)


def with_multiprocessing(use):
    """Return the sessions that a Process and a Pool used, and the exit code of the Process."""
    queue = context.Queue()
    process = context.Process(target=lambda: queue.put(use()))
    process.start()
    used = queue.get(timeout=30)
    process.join()
    pool = context.Pool(2)
    try:
        used += pool.map(unit_of_work, range(8))
    finally:
        pool.close()
        pool.join()
    return used, process.exitcode


def unit_of_work(number):
    return sessions.unit_of_work()


USES = {"use": children_use_it, "end": children_only_end, "collect": children_collect_garbage}


def main(use, how):
    sessions.set_up()
    sessions.query_and_end_at_import()
    if how == "multiprocessing":
        childs, code = with_multiprocessing(USES[use])
    else:
        childs, code = fork(USES[use], how)
    again = {"in_use": sessions.between_transactions(), "idle": sessions.backend("other")}
    sessions.end_of_work()
    report = {"before": sessions.importer, "after": again, "childs": childs, "code": code}
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
