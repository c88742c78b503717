"""Settings of one database or of the whole project, read when they are used.

``DATABASES[alias]["PERSISTCONN"] = {"MAX_AGE": 60}`` wins over ``PERSISTCONN_MAX_AGE = 60``.
"""

import functools
import numbers
import operator
import re
import sys
from collections import namedtuple

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

PREFIX = "PERSISTCONN_"
PER_DATABASE = "PERSISTCONN"

INFINITY = float("inf")

#: A dotted path to a function, and SQL: nothing else has two words.
DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+\Z")
SQL = re.compile(r"\s*\S+\s+\S")

TEXT = (type(""), type(b"".decode()))

Setting = namedtuple("Setting", "default is_allowed allowed")
Problem = namedtuple("Problem", "id message hint")


def _is_number(value):
    is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    # This is false for NaN, too.
    return is_real and -INFINITY < value < INFINITY


def _is_not_negative(value):
    return value is None or _is_number(value) and value >= 0


def _is_positive(value):
    return _is_number(value) and value > 0


def _is_positive_or_none(value):
    return value is None or _is_positive(value)


def _is_wait(value):
    return _is_number(value) and value >= 0


def _is_count(least):
    def is_count(value):
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        return value is None or whole and value >= least

    return is_count


def _is_whole(value):
    return value is not None and _is_count(0)(value)


def _is_flag(value):
    return isinstance(value, bool)


def _is_word(*words):
    return lambda value: value in words


def _is_reset(value):
    if isinstance(value, TEXT):
        return value == "session" or bool(DOTTED.match(value) or SQL.match(value))
    return value is None or callable(value)


SETTINGS = {
    "MAX_AGE": Setting(600, _is_not_negative, "a number of seconds, 0 (off) or None (no limit)"),
    "CHECK_AFTER": Setting(
        1, _is_not_negative, "a number of seconds, 0 (before every reuse) or None (never)"
    ),
    "CHECK_TIMEOUT": Setting(2, _is_positive, "a number of seconds above 0"),
    "MAX_CONNS": Setting(None, _is_count(1), "a whole number from 1 on or None (no bound)"),
    "TIMEOUT": Setting(5, _is_wait, "a number of seconds or 0 (do not wait)"),
    "MAX_KEPT": Setting(None, _is_count(0), "a whole number from 0 on or None (no bound)"),
    "MIN_CONNS": Setting(0, _is_whole, "a whole number from 0 on"),
    "CONNECT_DEADLINE": Setting(5, _is_wait, "a number of seconds or 0 (one try)"),
    "RECONNECT": Setting("orm", _is_word("orm", "always", "never"), "'orm', 'always' or 'never'"),
    "HELD_TOO_LONG": Setting(
        None, _is_positive_or_none, "a number of seconds above 0 or None (never warn)"
    ),
    "MAX_IDLE": Setting(None, _is_positive_or_none, "a number of seconds above 0 or None (never)"),
    "RELEASE_BEFORE_STREAMING": Setting(False, _is_flag, "True or False"),
    "RESET": Setting(
        None,
        _is_reset,
        "'session', SQL of two words or more, a function or its dotted path, or None (no reset)",
    ),
}

#: MIN_CONNS connections must be allowed by each of these.
BOUNDS = ("MAX_CONNS", "MAX_KEPT")

NAMES = tuple(sorted(SETTINGS))


class Values(object):
    """All settings of one database, under their names in lower case."""

    # Every checkout reads some of them, which takes three times as long from a namedtuple.
    # connect_deadline_is_set: whether the user set CONNECT_DEADLINE. Then it limits each try, too.
    __slots__ = tuple(map(str.lower, NAMES)) + ("connect_deadline_is_set",)


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
    if values.reset is not None:
        values.reset = _imported(values.reset, _given(database, "RESET")[0])
    if values.min_conns:
        for message in _contradictions(database):
            raise ImproperlyConfigured(message)
    return values


def _contradictions(database):
    """Yield a message for each bound of a database that is below its MIN_CONNS."""
    (label, least), bounds = _given(database, "MIN_CONNS"), [_given(database, n) for n in BOUNDS]
    for other, bound in bounds:
        if bound is not None and least > bound:
            yield "%s is %r, but %s is %r; allowed: at most that." % (label, least, other, bound)


def _is_set(database, name):
    return name in (database.get(PER_DATABASE) or ()) or hasattr(settings, PREFIX + name)


def _get(database, name):
    label, value = _given(database, name)
    return _valid(name, value, label)


def _given(database, name):
    """Return where a setting of a database was set, and its value."""
    own = database.get(PER_DATABASE)
    if own and name in own:
        return "%s[%r]" % (PER_DATABASE, name), own[name]
    return PREFIX + name, getattr(settings, PREFIX + name, SETTINGS[name].default)


def _imported(value, label):
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
        if callable(found):
            return found
        why = "it cannot be called"
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
    return None if for_django == INFINITY else _valid("MAX_AGE", for_django, "CONN_MAX_AGE")


def _valid(name, value, label):
    setting = SETTINGS[name]
    if setting.is_allowed(value):
        return value
    raise ImproperlyConfigured("%s is %r; allowed: %s." % (label, value, setting.allowed))


def problems(has_apps=False):
    """Yield a Problem for each mistake in the settings of this project.

    ``has_apps``: whether the project's own modules can be imported already.
    """
    for label, values in _sources():
        if not isinstance(values, dict):
            message = "%s is %r; allowed: a dict of settings." % (label, values)
            yield Problem("persistconn.E001", message, 'For example {"MAX_AGE": 60}.')
            continue
        for name in sorted(values):
            problem = _problem(label % name, name, values[name], has_apps)
            if problem is not None:
                yield problem
    for label, database in _combined():
        for message in _contradictions(database):
            hint = "Raise the bound, or lower MIN_CONNS."
            yield Problem("persistconn.E001", label + message, hint)


def _combined():
    """Yield the project, and each database with bounds of its own, if all their values are good."""
    names = ("MIN_CONNS",) + BOUNDS
    databases = [
        ("DATABASES['%s']: " % alias, d) for alias, d in sorted(settings.DATABASES.items())
    ]
    for label, database in [("", {})] + databases:
        own = database.get(PER_DATABASE) or {}
        if not isinstance(own, dict) or label and not any(name in own for name in names):
            continue
        if all(SETTINGS[name].is_allowed(_given(database, name)[1]) for name in names):
            yield label, database


def _sources():
    ours = [name for name in dir(settings) if name.startswith(PREFIX)]
    yield PREFIX + "%s", dict((name[len(PREFIX) :], getattr(settings, name)) for name in ours)
    for alias, database in sorted(settings.DATABASES.items()):
        values = database.get(PER_DATABASE, {})
        label = "DATABASES['%s']['%s']" % (alias, PER_DATABASE)
        yield label + "['%s']" if isinstance(values, dict) else label, values


def _problem(label, name, value, has_apps):
    if name not in SETTINGS:
        hint = "The settings are %s." % ", ".join(sorted(SETTINGS))
        return Problem("persistconn.E002", "%s is not a setting of persistconn." % label, hint)
    try:
        _valid(name, value, label)
        if has_apps and name == "RESET":
            _imported(value, label)
    except ImproperlyConfigured as error:
        hint = "Leave it out for the default, %r." % SETTINGS[name].default
        return Problem("persistconn.E001", str(error), hint)
