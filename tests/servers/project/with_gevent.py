"""Imported before Django: gevent in the place of threads, sockets and locks."""

from __future__ import absolute_import

from gevent import monkey

monkey.patch_all()

try:
    import psycopg  # noqa: F401, which looks for gevent by itself
except ImportError:
    from psycogreen.gevent import patch_psycopg

    patch_psycopg()

try:
    import pymysql
except ImportError:
    pass
else:
    # Written in Python, it waits as gevent does. Django asks for this version of mysqlclient.
    pymysql.version_info = (2, 2, 8, "final", 0)
    pymysql.install_as_MySQLdb()
