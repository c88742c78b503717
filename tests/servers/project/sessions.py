"""Which session serves which process, and the sessions that a parent had before its children."""

from __future__ import absolute_import

import json
import os
import threading

#: The pid and the sessions of the process that imported the project.
importer = {}


def set_up():
    """Load the project where no server does so. Return persistconn, installed."""
    import django

    if hasattr(django, "setup"):
        django.setup()
    import persistconn

    # Before 1.7 nothing else imports persistconn until some code needs all models.
    persistconn.install()
    return persistconn


#: By vendor: a statement that sleeps, and tells its tag and its session.
ASK = {
    "postgresql": "SELECT CAST(%s AS text), pg_backend_pid(), pg_sleep(%s)",
    "mysql": "SELECT %s, connection_id(), sleep(%s)",
}


def ask(tag="", seconds=0, alias="default"):
    """Have a session sleep and echo the tag. Return the echo, the backend and this process."""
    from django.db import connections

    cursor = connections[alias].cursor()
    try:
        cursor.execute(ASK[connections[alias].vendor], [tag, float(seconds)])
        echo, backend, slept = cursor.fetchone()
    finally:
        cursor.close()
    return {"tag": echo, "backend": backend, "process": os.getpid()}


def backend(alias="default"):
    return ask(alias=alias)["backend"]


def end_of_work():
    """Call close_old_connections(), or close_connection() before 1.6."""
    from django import db

    end = getattr(db, "close_old_connections", None) or db.close_connection
    end()


def unit_of_work():
    try:
        return backend()
    finally:
        end_of_work()


def in_thread(work):
    """Run work in a thread that ends; return what it returns."""
    results = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    return results[0]


def query_at_import():
    """Leave a session in use, as a query in ready() or urls.py does."""
    importer.update(process=os.getpid(), in_use=between_transactions())


def query_and_end_at_import():
    """Leave one session in use and another one idle.

    No thread is used for it: under Python 2 the thread would wait for this import to end.
    """
    both = set([backend(), backend("other")])
    end_of_work()
    query_at_import()
    (importer["idle"],) = both - set([importer["in_use"]])


def between_transactions():
    """Return the session in use, after the end of the transaction that it has before 1.6."""
    from django.db import connection

    in_use = backend()
    if hasattr(connection, "_commit") and not getattr(connection, "autocommit", False):
        connection._commit()
    return in_use


def look_again(path):
    """At the end of the importing process, report whether its sessions are the same and work."""
    if not importer:
        return
    now = {"process": os.getpid(), "in_use": between_transactions(), "idle": backend("other")}
    end_of_work()
    with open(path, "w") as report:
        json.dump({"before": importer, "after": now}, report)
