"""The one place for differences between database drivers.

A Driver object answers questions about the raw connections of one driver, and about connecting.
Errors are classified by SQLSTATE or error code, and by text only while connecting, where libpq
gives nothing else.
"""

from persistconn.drivers.base import Driver
from persistconn.drivers.mysql import MySQL
from persistconn.drivers.postgresql import Psycopg2
from persistconn.drivers.psycopg3 import Psycopg3
from persistconn.drivers.pymysql import PyMySQL

_by_package = {
    "MySQLdb": MySQL(),
    "pymysql": PyMySQL(),
    "psycopg2": Psycopg2(),
    "psycopg": Psycopg3(),
    # A StandIn: the session in it is being given back.
    "persistconn": None,
    # A local file or memory: keeping gains nothing, and closing can lose a database in memory.
    "sqlite3": None,
    "pysqlite2": None,
}
_any_driver = Driver()
_by_class = {}


def of(raw):
    """Return the Driver for a raw connection, or None if persistconn leaves it to Django."""
    # Not type(raw): the __class__ of a tracing library's proxy is that of the connection in it.
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
    """Return the same as of(), for a PEP 249 module, before there is any connection."""
    return _by_package.get(getattr(module, "__name__", "").partition(".")[0], _any_driver)
