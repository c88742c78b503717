"""What persistconn raises, each a subclass of what callers already catch."""

from __future__ import absolute_import

from django.db import utils

from persistconn.django_versions import UnsupportedDjango

__all__ = ["PoolTimeout", "UnsupportedDjango"]


class PoolTimeout(getattr(utils, "OperationalError", utils.DatabaseError)):
    """No connection became free within TIMEOUT, while MAX_CONNS were in use."""
