"""Run the tests of a Django sdist on a database server of their own, with persistconn or without.

The script reads the sdist's own runtests.py, puts persistconn first into its list of apps, and
executes the result as if it had been started. It changes no file of Django, and writes the results
as JSON.
"""

from __future__ import absolute_import

import argparse
import contextlib
import functools
import json
import os
import platform
import re
import signal
import sys
import types
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
DATABASES = {"default": "django", "other": "django2"}
APPS = b"\nALWAYS_INSTALLED_APPS = ["


def main():
    options = parse_arguments()
    use_paths(options.sdist)
    import suite_databases
    import suites

    # A pool that lets a test wait for ever must not let the nox session wait.
    signal.alarm(suites.TIME_LIMIT[options.labels])
    with_persistconn = not options.stock
    tests = os.path.join(options.sdist, "tests")
    database = suite_databases.NAMED[options.database]()
    with database.server, between(database.server, options.through) as pooler:
        versions = create_databases(database)
        set_environment(database, options.settings, suites.LIVE_SERVER, pooler)
        prepare_django(with_persistconn)
        if with_persistconn and not persistconn_knows(options.settings):
            return write(options.result, None)
        # Between transactions PgBouncer may exchange the session, but not the driver's connection.
        session = None if options.through else database.session
        kept = functools.partial(is_kept_over_requests, session)
        results = record_results(then=kept if with_persistconn else bool)
        labels = suites.labels(versions["Django"], tests, options.labels)
        execute(os.path.join(tests, "runtests.py"), arguments(labels), with_persistconn)
        results.update(versions=versions, stats=totals() if with_persistconn else None)
        write(options.result, results)


@contextlib.contextmanager
def between(server, name):
    """Run a pooler in front of the server. Yield it and its settings for DATABASES, or the server."""
    import suites

    if name is None:
        yield server, {}
        return
    import middlemen

    pooler, settings, of_databases = suites.POOLERS[name]
    with getattr(middlemen, pooler)(server, **settings) as running:
        yield running, of_databases


def write(path, results):
    with open(path, "w") as file:
        json.dump(results, file, indent=1, sort_keys=True)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sdist", type=os.path.abspath, help="the unpacked sdist of Django")
    parser.add_argument("result", type=os.path.abspath, help="the JSON file to write")
    parser.add_argument("--database", choices=["postgresql", "mariadb"], default="postgresql")
    parser.add_argument("--labels", choices=["connections", "all"], default="connections")
    parser.add_argument("--through", help="a pooler's name in suites.py")
    parser.add_argument("--stock", action="store_true", help="without persistconn")
    parser.add_argument("--settings", type=json.loads, default={}, help="as JSON: PERSISTCONN_...")
    return parser.parse_args()


def use_paths(sdist):
    """Set the import paths, also for the processes that Django's tests start."""
    paths = [os.path.join(sdist, "tests"), sdist, HERE, ROOT, os.path.join(ROOT, "tests")]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    # In the place of the script's own folder, as if runtests.py had been started.
    sys.path[:1] = paths


def set_environment(database, settings, live_server, target):
    os.environ["DJANGO_SETTINGS_MODULE"] = "suite_settings"
    os.environ["DJANGO_LIVE_TEST_SERVER_ADDRESS"] = live_server
    target, of_databases = target
    given = {"HOST": target.host, "PORT": str(target.port), "USER": database.server.user}
    given.update(of_databases, ENGINE=database.engine)
    given = {"database": given, "names": DATABASES, "settings": settings}
    os.environ["PERSISTCONN_SUITE"] = json.dumps(given)


def create_databases(database):
    """Create the databases that Django connects to. Return the versions of all that takes part."""
    import django

    connection = database.connect()
    cursor = connection.cursor()
    for name in DATABASES.values():
        cursor.execute("CREATE DATABASE %s" % name)
    cursor.execute(database.version)
    version = re.match(r"[\d.]+", cursor.fetchone()[0]).group()
    connection.close()
    return {
        "Django": django.get_version(),
        "Python": platform.python_version(),
        "driver": "%s %s" % (database.driver.__name__, database.driver_version),
        database.server.name: version,
    }


def persistconn_knows(settings):
    # persistconn is imported only for unusual settings: an app must not be imported before Django
    # wants it.
    if set(settings) <= set(["MAX_AGE"]):
        return True
    from persistconn import conf

    return set(settings) <= set(conf.SETTINGS)


def prepare_django(with_persistconn):
    """Prepare an old Django for its tests."""
    import django

    if django.VERSION < (1, 4):
        let_databases_be_created()
    if with_persistconn and django.VERSION < (1, 7):
        from django.conf import settings

        # Without settings an import does not install.
        assert settings.DATABASES
        import persistconn

        assert persistconn.is_enabled()


def let_databases_be_created():
    """psycopg2 since 2.4.2 has no autocommit in the middle of a transaction (Django #16250)."""
    from django.db.backends.creation import BaseDatabaseCreation

    stock = BaseDatabaseCreation.set_autocommit

    def set_autocommit(self):
        self.connection.connection.rollback()
        stock(self)

    BaseDatabaseCreation.set_autocommit = set_autocommit


def arguments(labels):
    import django

    one_process = ["--parallel=1"] if django.VERSION >= (1, 9) else []
    return ["--settings=suite_settings", "--noinput", "--verbosity=1"] + one_process + labels


def execute(path, argv, with_persistconn):
    """Execute Django's runtests.py as if it had been started, with one app more."""
    with open(path, "rb") as file:
        source = file.read()
    if with_persistconn:
        assert source.count(APPS) == 1, "%s has no list of apps" % path
        source = source.replace(APPS, APPS + b'"persistconn", ')
    main = types.ModuleType("__main__")
    main.__file__ = path
    sys.modules["__main__"] = main
    sys.argv = [path] + argv
    os.chdir(os.path.dirname(path))
    try:
        exec(compile(source, path, "exec", 0, True), main.__dict__)
    except SystemExit:
        pass


def record_results(then):
    """Return a dict that is filled in when Django's test runner has run, with "kept": then()."""
    results = {"run": 0, "failures": [], "errors": [], "kept": False}
    stock = unittest.TextTestRunner.run
    running = []

    def run(self, suite):
        running.append(suite)
        try:
            result = stock(self, suite)
        finally:
            running.pop()
        # Some tests run test runners themselves.
        if not running:
            add(result)
            results["kept"] = then()
        return result

    def add(result):
        results["run"] += result.testsRun
        for kind in ("failures", "errors"):
            results[kind] += [test.id() for test, traceback in getattr(result, kind)]
        results["failures"] += [test.id() for test in result.unexpectedSuccesses]

    unittest.TextTestRunner.run = run
    return results


def is_kept_over_requests(session):
    """Whether persistconn is still in force after the tests, as seen by two requests.

    ``session`` is the statement that asks for the number of a session, or None: the driver's connection
    is looked at. The tests themselves end few
    units of work; those of 1.2 and 1.3 none with an open connection.
    """
    from django.core import signals
    from django.db import connection

    sessions = set()
    for _ in range(2):
        signals.request_started.send(sender=None)
        cursor = connection.cursor()
        cursor.execute(session or "SELECT 1")
        answer = cursor.fetchone()[0]
        sessions.add(answer if session else connection.connection)
        cursor.close()
        signals.request_finished.send(sender=None)
    return len(sessions) == 1


def totals():
    """The counts of persistconn, summed over both databases."""
    import persistconn

    assert persistconn.is_enabled()
    # Tests copy connections under other aliases, which have counts of their own.
    stats = persistconn.stats()
    databases = [stats[alias] for alias in DATABASES if alias in stats]
    total = dict((name, sum(n[name] for n in databases)) for name in ("opened", "reused"))
    total["discarded"] = {}
    for numbers in databases:
        for reason, number in numbers["discarded"].items():
            total["discarded"][reason] = total["discarded"].get(reason, 0) + number
    return total


if __name__ == "__main__":
    main()
