"""What persistconn raises, each a subclass of what callers already catch."""

from __future__ import absolute_import

from django.core.exceptions import ImproperlyConfigured


class UnsupportedDjango(ImproperlyConfigured):
    """The running Django is older than any that persistconn knows how to patch."""
