"""A PEP 249 driver: the one of the tests, less everything that PEP 249 does not name."""

from __future__ import absolute_import

from databases import chosen

_real = chosen.driver

apilevel, threadsafety, paramstyle = "2.0", 1, "pyformat"

Warning = _real.Warning
Error = _real.Error
InterfaceError = _real.InterfaceError
DatabaseError = _real.DatabaseError
DataError = _real.DataError
OperationalError = _real.OperationalError
IntegrityError = _real.IntegrityError
InternalError = _real.InternalError
ProgrammingError = _real.ProgrammingError
NotSupportedError = _real.NotSupportedError


def connect(**params):
    return Connection(_real.connect(**params))


class Connection(object):
    def __init__(self, real):
        self.__real = real

    def cursor(self):
        return Cursor(self.__real.cursor())

    def commit(self):
        self.__real.commit()

    def rollback(self):
        self.__real.rollback()

    def close(self):
        self.__real.close()

    # An optional extension of PEP 249.

    @property
    def autocommit(self):
        return chosen.is_in_autocommit(self.__real)

    @autocommit.setter
    def autocommit(self, value):
        if callable(self.__real.autocommit):
            self.__real.autocommit(value)
        else:
            self.__real.autocommit = value


class Cursor(object):
    arraysize = 1

    def __init__(self, real):
        self.__real = real

    @property
    def description(self):
        return self.__real.description

    @property
    def rowcount(self):
        return self.__real.rowcount

    def execute(self, statement, parameters=None):
        self.__real.execute(statement, parameters)

    def executemany(self, statement, parameters):
        self.__real.executemany(statement, parameters)

    def fetchone(self):
        return self.__real.fetchone()

    def fetchmany(self, size=None):
        return self.__real.fetchmany(size or self.arraysize)

    def fetchall(self):
        return self.__real.fetchall()

    def close(self):
        self.__real.close()
