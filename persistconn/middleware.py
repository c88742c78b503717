"""The entry point for WSGI workers before Django 1.7, because they may never import an app."""

from django.core.exceptions import MiddlewareNotUsed

from persistconn import control


class Install(object):
    """Put it first in MIDDLEWARE_CLASSES. It installs persistconn and takes no part in requests."""

    def __init__(self, get_response=None):
        control.install()
        raise MiddlewareNotUsed("persistconn is installed; there is nothing to do per request.")
