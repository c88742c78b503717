"""Imported before Django: gevent in the place of threads, sockets and locks."""

from __future__ import absolute_import

from gevent import monkey

monkey.patch_all()

try:
    import psycopg  # noqa: F401, which looks for gevent by itself
except ImportError:
    from psycogreen.gevent import patch_psycopg

    patch_psycopg()
