"""The one place for differences between database drivers.

A Driver answers for the raw connections of one driver, and says how it connects. Errors are read
by state and code; by their texts only where libpq has nothing else, while it connects.
"""

from __future__ import absolute_import

from persistconn.drivers.base import (
    ACTIVE,
    IDLE,
    INERROR,
    INTRANS,
    NOTHING_OPEN,
    UNKNOWN,
    Driver,
    count_addresses,
    seconds_of,
)
from persistconn.drivers.mysql import MySQL, PyMySQL
from persistconn.drivers.postgresql import Psycopg2, Psycopg3

__all__ = [
    "ACTIVE",
    "IDLE",
    "INERROR",
    "INTRANS",
    "NOTHING_OPEN",
    "UNKNOWN",
    "Driver",
    "count_addresses",
    "of",
    "of_module",
    "seconds_of",
]

_by_package = {
    "MySQLdb": MySQL(),
    "pymysql": PyMySQL(),
    "psycopg2": Psycopg2(),
    "psycopg": Psycopg3(),
    # A file or memory of this process: nothing to keep, and closing one can lose it.
    "sqlite3": None,
    "pysqlite2": None,
}
_any_driver = Driver()
_by_class = {}


def of(raw):
    """Return the Driver for a raw connection, or None where persistconn stands aside."""
    # Not type(raw): a tracing library's proxy has the class of what it wraps.
    cls = raw.__class__
    try:
        return _by_class[cls]
    except KeyError:
        return _by_class.setdefault(cls, _find(cls))


def _find(cls):
    for base in cls.__mro__:
        package = base.__module__.partition(".")[0]
        if package in _by_package:
            return _by_package[package]
    return _any_driver


def of_module(module):
    """The same for a PEP 249 module, before there is any connection."""
    return _by_package.get(getattr(module, "__name__", "").partition(".")[0], _any_driver)
