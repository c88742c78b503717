"""What tests share: Django's set-up, requests, and questions to the server from outside."""

from __future__ import absolute_import

import contextlib
import io
import os
import signal
import sys
import threading

import databases
import django
import pytest
from basics import wait_until  # noqa: F401
from databases import chosen
from django.conf import UserSettingsHolder, settings

driver = chosen.driver

DATABASE, OTHER = "persistconn_test", "persistconn_other"
BEFORE_1_6 = django.VERSION < (1, 6)
#: Whether Django's iterator() leaves its rows on the server.
HAS_SERVER_SIDE_CURSORS = databases.NAME == "postgresql" and django.VERSION >= (1, 11)
ENGINE = chosen.ENGINE

#: The settings of a project, with only what the tests need.
PROJECT = {
    "PERSISTCONN_MAX_AGE": 600,
    "MIDDLEWARE": [],
    "MIDDLEWARE_CLASSES": [],
    "ROOT_URLCONF": "site_urls",
    "ALLOWED_HOSTS": ["*"],
    "SECRET_KEY": "not secret",
    "USE_TZ": False,
    "USE_I18N": False,
    "DEBUG": False,
    "DEFAULT_AUTO_FIELD": "django.db.models.AutoField",
}

server = None
all_patches = None
_sessions = {}


def only_on(name, reason):
    """Mark a test of what only one database has."""
    return pytest.mark.skipif(databases.NAME != name, reason=reason)


def set_up_django(started):
    """Configure Django as a user would, and install persistconn by this Django's entry points."""
    global server, all_patches
    server = started
    for name in (DATABASE, OTHER):
        ask("CREATE DATABASE %s" % name)
        for statement in chosen.TABLES:
            ask(statement, database=name)
    settings.configure(
        DATABASES={"default": database_settings(DATABASE), "other": database_settings(OTHER)},
        INSTALLED_APPS=["persistconn", "site_app"],
        TIME_ZONE="America/Chicago",
        **PROJECT
    )
    if hasattr(django, "setup"):
        django.setup()
    from django.db import connections

    import persistconn  # noqa: F401, installs before 1.7

    for alias in connections:
        connections[alias]  # fills in the defaults of its settings
    all_patches = patches_in_force()


def database_settings(name, **more):
    return dict(
        {
            "ENGINE": ENGINE,
            "NAME": name,
            "USER": server.user,
            "HOST": server.host,
            "PORT": str(server.port),
        },
        **more
    )


# Questions to the server, over sessions of the tests' own, which are never counted.

OURS = chosen.OURS


# Threads of a test share them, which not every driver allows.
_asking = threading.RLock()


def query(sql, database=None, *parameters):
    database = database or server.database
    with _asking:
        if database not in _sessions:
            _sessions[database] = chosen.connect(server, database)
        cursor = _sessions[database].cursor()
        cursor.execute(sql, parameters or None)
        rows = cursor.fetchall() if cursor.description else []
        cursor.close()
        if database != server.database:
            _sessions.pop(database).close()
    return rows


def close_sessions():
    """Close the tests' own sessions, which a forked child must not have."""
    while _sessions:
        _sessions.popitem()[1].close()


def ask(sql, database=None, *parameters):
    rows = query(sql, database, *parameters)
    return rows[0][0] if rows else None


def sessions():
    """(pid, state, query) of each session on the test databases."""
    return chosen.sessions(query, (DATABASE, OTHER))


def backends():
    return [pid for pid, state, text in sessions()]


def states():
    return [state for pid, state, text in sessions()]


def kill_backends():
    """Terminate all sessions, and return when they are gone. Return how many there were."""
    return kill(*backends())


def kill(*pids):
    """Terminate these sessions, and return when they are gone. Return how many there were."""
    return chosen.kill(query, pids)


@contextlib.contextmanager
def later(seconds, work):
    """Do work in another thread, some seconds after the beginning of the block, and wait for it."""
    timer = threading.Timer(seconds, work)
    timer.start()
    try:
        yield
    finally:
        timer.join()


# Actions of a user's code.


def fetch(sql, alias="default"):
    """The first value of a statement, as raw SQL in a view gets it."""
    from django.db import connections

    cursor = connections[alias].cursor()
    try:
        cursor.execute(sql)
        return cursor.fetchone()[0]
    finally:
        cursor.close()


def pid(alias="default"):
    return fetch(chosen.PID, alias)


def orm_session(alias="default"):
    """The session, as read by the ORM alone, without a user's cursor. Leaves no transaction."""
    from site_app.models import Session

    session = Session.objects.using(alias).get()
    end_transaction(alias)
    return session


def orm_pid(alias="default"):
    return orm_session(alias).pid


def end_transaction(alias="default"):
    """End the transaction that each statement opens before 1.6, as Django does after a write."""
    if BEFORE_1_6:
        from django.db import transaction

        transaction.rollback_unless_managed(using=alias)


def pids_at_once(number):
    """The backends of ``number`` connections that are in use at the same time."""
    if number == 0:
        return []
    mine = pid()
    others = in_thread(lambda: pids_at_once(number - 1))
    end_of_work()
    return [mine] + others


def end_of_work():
    """Call close_old_connections(), or close_connection() before 1.6."""
    from django import db

    getattr(db, "close_connection" if BEFORE_1_6 else "close_old_connections")()


def unit_of_work(alias="default"):
    """Make one query and end the work. Return the backend."""
    try:
        return pid(alias)
    finally:
        end_of_work()


class Response(object):
    def __init__(self):
        self.status = None
        self.text = None

    def start(self, status, headers, exc_info=None):
        self.status = int(status.split()[0])


def environ(path):
    return {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.url_scheme": "http",
    }


#: A request of ASGI. Its path is missing.
SCOPE = {
    "type": "http",
    "asgi": {"version": "3.0"},
    "http_version": "1.1",
    "method": "GET",
    "query_string": b"",
    "headers": [(b"host", b"testserver")],
}

_handler = []


def get(path, handler=None):
    """Make a request to Django's real WSGI handler; read and close the body as a server does."""
    from django.core.handlers.wsgi import WSGIHandler

    if handler is None:
        if not _handler:
            _handler.append(WSGIHandler())
        handler = _handler[0]
    response = Response()
    body = handler(environ(path), response.start)
    try:
        response.text = b"".join(body).decode("utf-8")
    finally:
        if hasattr(body, "close"):
            body.close()
    return response


def database_errors():
    """The errors that a user may get for a lost session; before 1.6 also the driver's own."""
    from django.db import utils

    return driver.Error, utils.DatabaseError, getattr(utils, "InterfaceError", driver.Error)


def ask_for_pids(requests):
    """Make ``requests`` requests in turn. Return the backends that served them."""
    return [int(get("/pid/").text) for request in range(requests)]


def in_thread(work):
    """Run work in a thread that then ends. Return its result, or raise its error."""
    result = []

    def run():
        try:
            result.append((work(), None))
        except BaseException as error:
            result.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    value, error = result[0]
    if error is not None:
        raise error
    return value


def together(*works):
    """Begin all works at the same moment, each in a thread. Return the results, or raise."""
    begin, results = threading.Event(), [None] * len(works)

    def run(number, work):
        begin.wait()
        try:
            results[number] = (work(), None)
        except BaseException as error:
            results[number] = (None, error)

    threads = [threading.Thread(target=run, args=each) for each in enumerate(works)]
    for thread in threads:
        thread.start()
    begin.set()
    for thread in threads:
        thread.join()
    for _value, error in results:
        if error is not None:
            raise error
    return [value for value, _error in results]


def finish(process, seconds=120):
    """Wait for the end of a process. Return its output and its errors, or fail if it hangs."""
    killed = []

    def kill():
        killed.append(True)
        process.kill()

    timer = threading.Timer(seconds, kill)
    timer.start()
    try:
        said = process.communicate()
    finally:
        timer.cancel()
        timer.join()
    assert not killed, said
    return said


def threads_in(method):
    """How many threads run an object's method, including threads that threading does not know."""
    count = 0
    for frame in list(sys._current_frames().values()):
        while frame is not None:
            if frame.f_code is method.__code__:
                count += frame.f_locals.get("self") is method.__self__
            frame = frame.f_back
    return count


def in_child(work, seconds=0):
    """Run work in a forked child; return its exit code: 0, or 1 if it raised or took too long."""
    pid = os.fork()
    if pid == 0:
        code = 1
        # SIGALRM ends even a child that hangs in C code. 0: there is no limit.
        signal.alarm(seconds)
        try:
            work()
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    return 0 if os.waitpid(pid, 0)[1] == 0 else 1


# Settings.


def settings_now():
    kept = ("TIME_ZONE", "USE_TZ", "DEBUG")
    names = [n for n in dir(settings) if n.startswith("PERSISTCONN_") or n in kept]
    databases = dict((alias, dict(values)) for alias, values in settings.DATABASES.items())
    return [(n, getattr(settings, n)) for n in sorted(names)], databases


@contextlib.contextmanager
def settings_as(**values):
    """An override_settings() for all Djangos: 1.2 and 1.3 have none."""
    before = settings._wrapped
    holder = UserSettingsHolder(before)
    for name in values:
        setattr(holder, name, values[name])
    settings._wrapped = holder
    try:
        yield
    finally:
        settings._wrapped = before


@contextlib.contextmanager
def database_as(alias="default", **values):
    from django.db import connections

    database = connections[alias].settings_dict
    before = dict(database)
    database.update(values)
    try:
        yield
    finally:
        database.clear()
        database.update(before)


# Wrappers.


def put_wrapper(wrapper, alias):
    """Let this thread have a wrapper of its own as connections[alias]."""
    from django.db import connections

    if hasattr(connections, "__setitem__"):
        connections[alias] = wrapper
    else:
        connections._connections[alias] = wrapper  # before 1.4 all threads share it


@contextlib.contextmanager
def wrapper_as(wrapper, alias="default"):
    from django.db import connections

    before = connections[alias]
    put_wrapper(wrapper, alias)
    try:
        yield wrapper
    finally:
        put_wrapper(before, alias)


def share(wrapper, on=True):
    """Let other threads use a wrapper; with ``on=False`` stop letting them."""
    if hasattr(wrapper, "inc_thread_sharing"):
        wrapper.inc_thread_sharing() if on else wrapper.dec_thread_sharing()
    else:
        wrapper.allow_thread_sharing = on


# Passwords. The server trusts everybody by default.


def role_with_password(role, password):
    """A context manager: a role that the server lets in with this password only."""
    return chosen.role_with_password(query, server, role, password)


# Signals.


def received_by(signal, sender=None):
    """Return the functions that receive a signal, in their order."""
    found = signal._live_receivers(sender)
    # Since 5.0 there are two lists of receivers, of which the second has the coroutine functions.
    return list(found[0] if isinstance(found, tuple) else found)


# persistconn, from inside.


def patches_in_force():
    from persistconn import control

    return set(control._patcher._undo)


def open_wrappers():
    from persistconn.django_versions import dialect

    return [w for w in dialect.initialised() if getattr(w, "connection", None) is not None]


def is_in_a_request():
    """Whether this thread has begun a request, and not ended it."""
    from persistconn.work import works

    return works.mine.is_in_request()


def end_request():
    from django.core.signals import request_finished

    request_finished.send(sender=object)


def is_idle(alias="default"):
    from django.db import connections

    return connections[alias].connection is None
