"""A private PostgreSQL that logs each new connection, a private Redis, and the project's tables."""

from __future__ import absolute_import

import os
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE), os.path.dirname(os.path.dirname(HERE))]

import support  # noqa: E402
import workers  # noqa: E402
from private_redis import PrivateRedis  # noqa: E402

from demo_project.postgres import PrivatePostgres  # noqa: E402
from demo_project.private import NoServer  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--measure", type=int, help="print the table of docs/tasks.md for N units")
    parser.addoption("--tasks", type=int, default=1000, help="tasks of Celery's long tests")


def pytest_configure(config):
    config.rows = []
    try:
        support.server = PrivatePostgres(log_connections="on").start()
        workers.redis_server = PrivateRedis().start()
    except NoServer as error:
        pytest.exit("These tests need PostgreSQL and Redis: %s" % error)
    workers.make_tables()


def pytest_unconfigure(config):
    support.close_sessions()
    if workers.redis_server is not None:
        workers.redis_server.stop()
    if support.server is not None:
        support.server.stop()


def pytest_collection_modifyitems(config, items):
    measures = config.getoption("--measure") is not None
    unwanted = [item for item in items if ("test_measured" in item.nodeid) != measures]
    items[:] = [item for item in items if item not in unwanted]
    config.hook.pytest_deselected(items=unwanted)


def pytest_report_header(config):
    import django

    driver = support.driver
    names = ["celery", "rq", "huey", "dramatiq", "django-tasks-db", "django-q2", "channels"]
    versions = ["%s %s" % pair for pair in workers.versions(names + ["APScheduler"])]
    words = (django.get_version(), driver.__name__, driver.__version__, ", ".join(versions))
    return "Django %s, %s %s, %s" % words


def pytest_terminal_summary(terminalreporter, config):
    for row in config.rows:
        terminalreporter.write_line(row)


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    """Begin with an empty Redis, and fail a test that leaves a session."""
    workers.flush_redis()
    yield
    if not support.wait_until(lambda: support.backends() == [], workers.PATIENCE):
        left = support.sessions()
        support.kill_backends()
        pytest.fail("sessions left behind: %r" % left)
