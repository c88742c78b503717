"""The same work in stock Django and with persistconn, and the error that each raises."""

from __future__ import absolute_import

import support
from django.db import connection

import persistconn


def error_of(work):
    """The class and the text of the error that work raises, as a user sees it."""
    try:
        work()
    except Exception as error:
        return type(error), str(error)
    finally:
        # Before 1.6 Django would roll back a connection that the server has closed.
        connection.close()
        support.end_of_work()
    return None, "no error"


def in_stock_and_here(work):
    """The results of some work while persistconn is off, and while it is on."""
    persistconn.disable()
    try:
        stock = work()
    finally:
        support.end_of_work()
        persistconn.enable()
    return stock, work()
