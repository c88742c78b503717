"""The one place for differences between versions of Django: one class for each era.

``dialect`` (SQLAlchemy's term) is the object for the running Django. Its methods take wrappers,
Django's objects behind ``connections[alias]``. The driver's own connection is called raw.
"""

from django import VERSION
from django.core.exceptions import ImproperlyConfigured

from persistconn.django_versions.atomic import Django18
from persistconn.django_versions.managed import Django12, Django13, Django14, Django16


class UnsupportedDjango(ImproperlyConfigured):
    """The running Django is older than any version that persistconn supports."""


#: Before 1.7, Django only imports an app, and does so only when something needs all models.
APPS_ARE_MERELY_IMPORTED = VERSION < (1, 7)
#: From 3.2, Django finds the AppConfig by itself; 3.2 and 4.0 warn about default_app_config.
APP_CONFIG_MUST_BE_NAMED = VERSION < (3, 2)


ERAS = (((1, 8), Django18), ((1, 6), Django16), ((1, 4), Django14), ((1, 3), Django13))
OLDEST = ((1, 2), Django12)


def for_version(version):
    """Return the dialect for a django.VERSION. Raise UnsupportedDjango if that is too old."""
    for since, dialect_class in ERAS + (OLDEST,):
        if version >= since:
            return dialect_class()
    raise UnsupportedDjango(
        "persistconn supports Django %s and later; this is Django %s."
        % (".".join(map(str, OLDEST[0])), ".".join(map(str, version[:2])))
    )


dialect = for_version(VERSION)
