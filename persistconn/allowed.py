"""THE TABLE of settings: the default of each, and the values that it allows."""

import numbers
import re
from collections import namedtuple

from persistconn import compat

INFINITY = float("inf")

#: A dotted path to a function, and SQL: nothing else has two words.
DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+\Z")
SQL = re.compile(r"\s*\S+\s+\S")

TEXT = (type(""), type(b"".decode()))

Setting = namedtuple("Setting", "default is_allowed allowed")


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
    return value is None or callable(value) and not compat.is_coroutine_function(value)


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
