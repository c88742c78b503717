"""Which of Django's own tests are run, and what each version needs for them."""

from __future__ import absolute_import

import os

import cells

#: The labels that exercise connections and transactions. No version has all of them.
CONNECTIONS = (
    "transactions transactions_regress transaction_hooks middleware middleware_exceptions backends"
    " delete delete_regress requests requests_tests dispatch signals signals_regress"
    " select_for_update servers multiple_database fixtures_regress get_or_create test_client"
    " test_client_regress test_runner test_utils handlers db_utils asgi async wsgi builtin_server"
    " bulk_create view_tests migrate_signals app_loading apps"
).split()

#: Runs with persistconn, and its settings in each. A run with a setting that persistconn does not
#: have is left out.
RUNS = {
    "persistconn": {"MAX_AGE": 600},
    "persistconn, MAX_CONNS 4": {"MAX_AGE": 600, "MAX_CONNS": 4},
}

#: What may lie between Django and PostgreSQL: the class, its settings, and those of DATABASES. A pooler
#: that keeps sessions would keep test databases from being dropped, also in stock Django. Pgpool-II
#: refuses how psycopg 3 makes cursors of the server.
POOLERS = {
    "pgbouncer": ("PgBouncer", {"pool_mode": "session", "server_lifetime": 0}, {}),
    "pgbouncer-transaction": (
        "PgBouncer",
        {"pool_mode": "transaction", "server_lifetime": 0},
        {"DISABLE_SERVER_SIDE_CURSORS": True},
    ),
    "pgpool": (
        "Pgpool",
        {"num_init_children": 40, "connection_cache": "off"},
        {"DISABLE_SERVER_SIDE_CURSORS": True},
    ),
}

#: Suites beyond the matrix's cells on PostgreSQL, and their Pythons.
MORE_CELLS = {
    "5.2+psycopg3": "3.12",
    "1.5+mysqlclient": "2.7",
    "2.2+mysqlclient": "3.6",
    "4.2+mysqlclient": "3.10",
    "6.1+mysqlclient": "3.13",
}

#: The same with a pooler in between: one is enough.
RUNS_THROUGH = {"persistconn": RUNS["persistconn"]}

#: The Djangos that a continuous integration has the time for.
CI = ["1.5", "1.11", "3.2", "6.1", "6.1+mysqlclient"]

#: Tests that only pass without persistconn, by their own definition, and why: (cell, test): why.
ONLY_STOCK = {
    (
        "1.5+mysqlclient",
        "regressiontests.backends.tests.ThreadTests.test_default_connection_thread_local",
    ): "It closes raw connections of threads that have ended, which persistconn has closed by then."
    " psycopg2 lets a closed connection be closed again, MySQLdb raises OperationalError 2006.",
}

#: Labels that cannot even be imported, by Django's version.
BROKEN_LABELS = {"1.5": ["utils"]}

#: The keys that are kept of the results of stock Django.
KEPT = ["versions", "run", "failures", "errors"]

#: Seconds that one run may take.
TIME_LIMIT = {"connections": 900, "all": 7200}

#: Where Django 1.4 to 1.10 let a LiveServerTestCase listen; 8081 alone can be taken.
LIVE_SERVER = "localhost:18081-18180"


def requirements(cell, python):
    """What a cell's Python needs, for pip."""
    wanted = cells.requirements(cell)
    if python == "2.7":
        pinned = "mock==3.0.5 jinja2==2.11.3 PyYAML==5.4.1 markupsafe==1.1.1 docutils==0.18.1"
        return wanted + ["pytz"] + pinned.split()
    return wanted + ["asgiref>=3.3.2", "jinja2", "PyYAML", "pytz", "sqlparse", "tblib", "tzdata"]


def postgres_bin():
    """The programs of a PostgreSQL that old Djangos work with, in Debian's folder, or None."""
    chosen = os.environ.get("PERSISTCONN_PG_BIN", "/usr/lib/postgresql/15/bin")
    return chosen if os.path.exists(os.path.join(chosen, "initdb")) else None


def labels(django, tests, choice):
    """The labels to run of those in an sdist's folder ``tests``; none at all means all of them."""
    there = _labels_in(tests)
    if choice == "connections":
        return [label for label in CONNECTIONS if label in there]
    broken = BROKEN_LABELS.get("%d.%d" % cells.version(django), [])
    return sorted(there - set(broken)) if broken else []


def _labels_in(tests):
    # Before 1.6 the tests were in two folders.
    folders = [os.path.join(tests, name) for name in ("modeltests", "regressiontests")]
    folders = [folder for folder in folders if os.path.isdir(folder)] or [tests]
    return set(
        name
        for folder in folders
        for name in os.listdir(folder)
        if os.path.exists(os.path.join(folder, name, "__init__.py"))
    )
