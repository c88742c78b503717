"""The mistakes in the settings of a project, for the error at its start and for system checks."""

from collections import namedtuple

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from persistconn.allowed import BOUNDS, SETTINGS
from persistconn.conf import PER_DATABASE, PREFIX, contradictions, imported, label_and_value, valid

Problem = namedtuple("Problem", "id message hint")


def find_problems(has_apps=False):
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
        for message in contradictions(database):
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
        if all(SETTINGS[name].is_allowed(label_and_value(database, name)[1]) for name in names):
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
        valid(name, value, label)
        if has_apps and name == "RESET":
            imported(value, label)
    except ImproperlyConfigured as error:
        hint = "Leave it out for the default, %r." % SETTINGS[name].default
        return Problem("persistconn.E001", str(error), hint)
