"""Add "persistconn" to INSTALLED_APPS, and Django keeps its database connections across requests.

The first use of a database in a request takes an idle connection from a pool of the process, or
lets Django open one. A connection from the pool passes a health check first. When the request
ends, persistconn rolls back open transactions and returns the connection to the pool, instead of
closing it. A task, a thread or a loop ends its work by ``unit_of_work()``, or by the function
that Django has for it: ``close_old_connections()`` (``close_connection()`` before 1.6).

``connection.close()`` still closes the connection. persistconn never replaces a connection inside
a transaction, and never sends a statement twice. lifecycle.py tells the whole story in order.
"""

import logging

from django.conf import settings

from persistconn import django_versions, log
from persistconn.control import disable, drain, enable, install, is_enabled, stats, uninstall
from persistconn.units import unit_of_work

__all__ = [
    "disable",
    "drain",
    "enable",
    "install",
    "is_enabled",
    "stats",
    "uninstall",
    "unit_of_work",
]

__version__ = "0.1.0"

# Python 2 complains at the first warning of a logger that has no handler.
logging.getLogger("persistconn").addHandler(logging.NullHandler())
logging.getLogger("persistconn").addFilter(log.NotWithinItself())

if django_versions.APP_CONFIG_MUST_BE_NAMED:
    default_app_config = "persistconn.apps.PersistconnConfig"

# If settings.py imports this package, there are no settings yet, and django.db needs them.
if django_versions.APPS_ARE_MERELY_IMPORTED and settings.configured:
    install()
