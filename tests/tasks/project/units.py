"""The unit of work that every task system does here, and the actions of a user's code."""

from __future__ import absolute_import

import json
import os
import threading
import time

_clients = {}


def redis():
    from django.conf import settings
    from redis import StrictRedis

    if os.getpid() not in _clients:
        _clients[os.getpid()] = StrictRedis.from_url(settings.REDIS + "/0")
    return _clients[os.getpid()]


def session():
    """The process id of this thread's backend, as the ORM gets it."""
    from project.models import Session

    return Session.objects.get().pid


def unit(number, seconds=0):
    """Ask the database twice, ``seconds`` apart, and report."""
    began, pid, error = time.time(), None, None
    try:
        pid = session()
        time.sleep(seconds)
        session()
        if "TASKS_LEAVES" in os.environ:
            leave_a_transaction()
    except Exception as raised:
        error = repr(raised)
    report(number, pid, began, error)


def leave_a_transaction():
    """Do what a job should not: leave a transaction open."""
    from django.db import transaction

    transaction.set_autocommit(False)
    session()


def report(number, pid, began=0, error=None):
    line = json.dumps([number, pid, os.getpid(), began, time.time(), error])
    redis().rpush("units", line)


def close(number):
    """Close the connection by hand, between two units of work in one."""
    from django.db import connection

    before = session()
    connection.close()
    report(number, [before, session()])


def exhaust(number):
    """Hold the only connection, and have another thread ask for one."""
    pid, errors = session(), []

    def ask():
        try:
            session()
        except Exception as error:
            errors.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    report(number, pid, error=errors[0])


def switch(number, name):
    """Call one of persistconn's functions."""
    import persistconn

    getattr(persistconn, name)()
    report(number, None)
