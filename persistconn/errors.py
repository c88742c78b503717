"""The errors that persistconn raises: subclasses of errors that callers already catch."""

from django.db import utils

from persistconn.django_versions import UnsupportedDjango

__all__ = ["PoolTimeout", "UnsupportedDjango"]


class PoolTimeout(getattr(utils, "OperationalError", utils.DatabaseError)):
    """No connection became free within TIMEOUT seconds, while MAX_CONNS were in use."""

    @classmethod
    def after(cls, waited, wrapper, pool):
        numbers = dict(pool.stats(), bound=pool.values.max_conns, waited=waited)
        numbers.update(alias=wrapper.alias, name=wrapper.settings_dict["NAME"])
        return cls(
            "No connection to database '%(alias)s' (%(name)s) became free in %(waited).2f seconds:"
            " of MAX_CONNS %(bound)d there are %(in_use)d in use and %(idle)d idle, and %(waiting)d"
            " others wait." % numbers
        )
