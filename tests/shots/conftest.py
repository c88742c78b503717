"""A private PostgreSQL, Django settings for it, and options for the number of shots."""

from __future__ import absolute_import

import os
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE), os.path.dirname(os.path.dirname(HERE))]

import support  # noqa: E402

from demo_project.postgres import NoPostgres, PrivatePostgres  # noqa: E402

postgres = PrivatePostgres()


def pytest_addoption(parser):
    group = parser.getgroup("shots")
    group.addoption("--shots", type=int, default=2000, help="how many, in all random tests")
    group.addoption("--most-failures", type=int, default=5, help="of one walk, before it ends")


def pytest_configure(config):
    try:
        postgres.start()
    except NoPostgres as error:
        pytest.exit("These tests need a PostgreSQL: %s" % error)
    support.set_up_django(postgres)
    import interrupts

    interrupts.MOST_FAILURES = config.getoption("most_failures")


def pytest_unconfigure(config):
    postgres.stop()
