"""The errors that persistconn raises: subclasses of errors that callers already catch."""

from django.db import utils

from persistconn.django_versions import UnsupportedDjango

__all__ = ["PoolTimeout", "UnsupportedDjango"]


class PoolTimeout(getattr(utils, "OperationalError", utils.DatabaseError)):
    """No connection became free within TIMEOUT seconds, while MAX_CONNS were in use.

    ``holders``: a dict for each connection in use, the longest-held first: ``alias``, ``thread``,
    ``work`` (the request's method and path, or the name of a unit of work, or None),
    ``held_seconds`` since the checkout, ``unused_seconds`` since the last cursor was made,
    ``in_transaction`` (None: unknown) and ``where`` (a list: what the thread runs now, and the
    project's code that called it).
    """

    holders = ()
