"""Add "persistconn" to INSTALLED_APPS, and Django keeps its database connections across requests.

The first use of a database in a request takes an idle connection from a pool of the process, or
lets Django open one. Before a kept connection is handed out it is made sure that its peer is
still there. When the request ends, what it left open is rolled back and its connection goes back
to the pool, instead of being closed. It is the same for a task, a thread or a loop: its end is
what it always was in Django, ``close_old_connections()`` (``close_connection()`` before 1.6).

``connection.close()`` still closes. Nothing is ever replaced inside a transaction, and no
statement is ever sent twice. lifecycle.py tells the whole story in order.
"""

from __future__ import absolute_import

import logging

from django.conf import settings

from persistconn import django_versions, log
from persistconn.control import disable, drain, enable, install, is_enabled, stats, uninstall

__all__ = ["disable", "drain", "enable", "install", "is_enabled", "stats", "uninstall"]

__version__ = "0.1.0"

# Python 2 complains about a logger without a handler, at the first warning.
logging.getLogger("persistconn").addHandler(logging.NullHandler())
logging.getLogger("persistconn").addFilter(log.NotWithinItself())

if django_versions.APP_CONFIG_MUST_BE_NAMED:
    default_app_config = "persistconn.apps.PersistconnConfig"

# Not while settings.py is imported: there are no settings yet, and django.db would want some.
if django_versions.APPS_ARE_MERELY_IMPORTED and settings.configured:
    install()
