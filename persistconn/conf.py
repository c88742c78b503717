"""Settings of one database or of the whole project, read when they are used.

``DATABASES[alias]["PERSISTCONN"] = {"MAX_AGE": 60}`` wins over ``PERSISTCONN_MAX_AGE = 60``.
"""

import functools
import operator
import sys

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from persistconn.allowed import BOUNDS, DOTTED, INFINITY, SETTINGS, TEXT

PREFIX = "PERSISTCONN_"
PER_DATABASE = "PERSISTCONN"

#: psycopg_pool and HikariCP have the same default timeout for a try to connect, in seconds.
TRY_LIMIT = 30

NAMES = tuple(sorted(SETTINGS))


class Values(object):
    """All settings of one database, under their names in lower case."""

    # Every checkout reads some of them, which takes three times as long from a namedtuple.
    # connect_deadline_is_set: whether the user set CONNECT_DEADLINE. Then it limits each try, too.
    # try_limit: seconds that a try may take, unless the user's connect_timeout is longer.
    __slots__ = tuple(map(str.lower, NAMES)) + ("connect_deadline_is_set", "try_limit")


# Project settings that affect how connections are opened or kept.
LABELS = ("TIME_ZONE", "USE_TZ") + tuple(PREFIX + name for name in NAMES)

#: holder() returns the object behind the lazy ``settings``: another one while they are overridden.
#: It bypasses the lazy object's Python code, which takes longer than the rest of a checkout.
holder = functools.partial(object.__getattribute__(settings, "__dict__").get, "_wrapped")


def reader(given):
    """Return a function that reads from a dict of settings those LABELS that ``given`` has now.

    The function raises KeyError if the dict no longer has one of them.
    """
    labels = [label for label in LABELS if label in given]
    return operator.itemgetter(*labels) if labels else len


def of(database):
    """Return the current Values of the database that has this settings_dict.

    Raises ImproperlyConfigured, which names the setting, its value and the allowed values.
    """
    values = Values()
    for name in NAMES:
        setattr(values, name.lower(), _get(database, name))
    values.max_age = _max_age(database, values.max_age)
    values.connect_deadline_is_set = _is_set(database, "CONNECT_DEADLINE")
    values.try_limit = TRY_LIMIT
    if values.reset is not None:
        values.reset = imported(values.reset, label_and_value(database, "RESET")[0])
    if values.min_conns:
        for message in contradictions(database):
            raise ImproperlyConfigured(message)
    return values


def contradictions(database):
    """Yield a message for each bound of a database that is below its MIN_CONNS."""
    label, least = label_and_value(database, "MIN_CONNS")
    for other, bound in [label_and_value(database, name) for name in BOUNDS]:
        if bound is not None and least > bound:
            yield "%s is %r, but %s is %r; allowed: at most that." % (label, least, other, bound)


def _is_set(database, name):
    return name in (database.get(PER_DATABASE) or ()) or hasattr(settings, PREFIX + name)


def _get(database, name):
    label, value = label_and_value(database, name)
    return valid(name, value, label)


def label_and_value(database, name):
    """Return where a setting of a database was set, and its value."""
    own = database.get(PER_DATABASE)
    if own and name in own:
        return "%s[%r]" % (PER_DATABASE, name), own[name]
    return PREFIX + name, getattr(settings, PREFIX + name, SETTINGS[name].default)


def imported(value, label):
    """Return the function at a dotted path, and any other value as it is.

    Raises ImproperlyConfigured if there is no such function, or if importing it fails.
    """
    if not isinstance(value, TEXT) or not DOTTED.match(value):
        return value
    module, _, function = value.rpartition(".")
    try:
        __import__(module)
        found = getattr(sys.modules[module], function)
    except Exception as error:
        why = "importing it failed: %s: %s" % (error.__class__.__name__, error)
    else:
        if callable(found) and SETTINGS["RESET"].is_allowed(found):
            return found
        why = "it is no function"
    allowed = SETTINGS["RESET"].allowed
    raise ImproperlyConfigured("%s is %r, and %s; allowed: %s." % (label, value, why, allowed))


def is_on_for_any(name):
    """Whether a setting is true for the project or for one of its databases."""
    if getattr(settings, PREFIX + name, SETTINGS[name].default):
        return True
    return any((own.get(PER_DATABASE) or {}).get(name) for own in settings.DATABASES.values())


def _max_age(database, ours):
    """Return how many seconds a connection may live; None: no limit; 0: persistconn is off.

    A database's own MAX_AGE wins, then its CONN_MAX_AGE if that is not 0, then PERSISTCONN_MAX_AGE.
    But ``PERSISTCONN_MAX_AGE = 0`` wins over CONN_MAX_AGE: it switches persistconn off for every
    database that has no MAX_AGE of its own.
    """
    for_django = database.get("CONN_MAX_AGE", 0)
    if for_django == 0 or "MAX_AGE" in (database.get(PER_DATABASE) or ()) or ours == 0:
        return ours
    # Django also accepts infinity, for no limit.
    return None if for_django == INFINITY else valid("MAX_AGE", for_django, "CONN_MAX_AGE")


def valid(name, value, label):
    """Return a value that its setting allows. Raises ImproperlyConfigured, which names ``label``."""
    setting = SETTINGS[name]
    if setting.is_allowed(value):
        return value
    raise ImproperlyConfigured("%s is %r; allowed: %s." % (label, value, setting.allowed))
