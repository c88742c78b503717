"""Test databases of Django's runner: no query reaches the real one, each can be dropped."""

from __future__ import absolute_import

import django
import pytest
import support
from databases import chosen
from django.db import connection, connections
from support import end_of_work, in_thread

import persistconn

pytestmark = pytest.mark.skipif(
    django.VERSION < (1, 4), reason="they cannot make one with this psycopg2 (Django #16250)"
)


@pytest.fixture
def test_database():
    """A test database made, and dropped, by Django's own code."""
    wrapper = connections["default"]
    real = wrapper.settings_dict["NAME"]
    wrapper.creation.create_test_db(verbosity=0, autoclobber=True)
    yield wrapper.settings_dict["NAME"]
    wrapper.creation.destroy_test_db(real, verbosity=0)
    wrapper.settings_dict["NAME"] = real


def names():
    return [name for name, in support.query(chosen.DATABASES)]


def database():
    try:
        return support.fetch(chosen.CURRENT_DATABASE)
    finally:
        end_of_work()


def test_no_query_reaches_the_real_database_while_there_is_a_test_database(request):
    assert database() == support.DATABASE
    name = request.getfixturevalue("test_database")
    assert name != support.DATABASE
    assert [database(), in_thread(database), database()] == [name] * 3


def test_a_test_database_can_be_dropped_while_connections_to_it_are_kept(request):
    real = connections["default"].settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    name = connections["default"].settings_dict["NAME"]
    database()
    in_thread(database)
    connection.creation.destroy_test_db(real, verbosity=0)
    connections["default"].settings_dict["NAME"] = real
    assert name not in names()
    assert database() == support.DATABASE


@pytest.mark.skipif(django.VERSION < (1, 9), reason="the parallel test runner came with 1.9")
def test_a_test_database_can_be_copied_while_connections_to_it_are_kept(test_database):
    in_thread(database)
    assert persistconn.stats()["default"]["idle"]
    number = {"suffix" if django.VERSION >= (2, 0) else "number": "1"}
    connection.creation.clone_test_db(verbosity=0, **number)
    try:
        assert test_database + "_1" in names()
    finally:
        support.query("DROP DATABASE %s_1" % test_database)
