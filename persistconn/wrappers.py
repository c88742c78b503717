"""Replacements of functions of Django and Celery. lifecycle.py does the work on connections."""

from functools import partial
from sys import _getframe

from django.core.signals import request_finished, request_started

from persistconn import asgi, failures, lifecycle, streams, tasks
from persistconn.compat import running_loop
from persistconn.django_versions import dialect
from persistconn.patching import Preceded, are_djangos


def ensuring_connection(original, switch):
    # With an open connection, Django's own method only looks for an event loop, and it raises and
    # catches an exception where there is none.
    is_djangos = are_djangos(original)
    callers = dialect.callers_of_ensure_connection()

    def ensure_connection(wrapper):
        if not switch.is_on:
            return original(wrapper)
        by_django = id(_getframe(1).f_code) in callers
        if wrapper.connection is None and not wrapper.in_atomic_block:
            lifecycle.checkout(wrapper)
        elif not by_django:
            lifecycle.before_use(wrapper)
        if not is_djangos or wrapper.connection is None or running_loop() is not None:
            original(wrapper)
        if not by_django:
            lifecycle.raw_wanted(wrapper)

    return ensure_connection


def on_connect(wrapped, wrapper, args, kwargs):
    lifecycle.connect(wrapper, wrapped)


def using(original, switch):
    def use(wrapper, *args, **kwargs):
        if switch.is_on:
            lifecycle.before_use(wrapper)
        return original(wrapper, *args, **kwargs)

    return use


def making_cursor(original, switch):
    def _cursor(wrapper, *args, **kwargs):
        if not switch.is_on:
            return original(wrapper, *args, **kwargs)
        if wrapper.connection is not None:
            lifecycle.before_use(wrapper)
        # Unpacking empty arguments takes as long as a call.
        if args or kwargs:
            cursor = original(wrapper, *args, **kwargs)
            lifecycle.cursor_made(wrapper, cursor, is_named=True)
        else:
            cursor = original(wrapper)
            lifecycle.cursor_made(wrapper, cursor)
        return cursor

    return _cursor


def making_cursor_and_connecting(original, switch):
    def cursor(wrapper):
        if not switch.is_on:
            return original(wrapper)
        if wrapper.connection is not None:
            lifecycle.before_use(wrapper)
        if wrapper.connection is None:
            lifecycle.checkout(wrapper)
        if wrapper.connection is not None:
            made = original(wrapper)
        else:
            made = lifecycle.open_new(wrapper, partial(original, wrapper))
        lifecycle.cursor_made(wrapper, made)
        return made

    return cursor


def rolling_back(original, switch):
    def rollback(wrapper):
        if switch.is_on:
            failures.rolling_back(wrapper)
        return original(wrapper)

    return rollback


def raising_djangos_errors(original, switch):
    is_djangos = are_djangos(original)

    def __exit__(converter, exc_type, exc_value, traceback):
        # Once for each statement. Django's own does nothing either without an error.
        if exc_type is None and is_djangos:
            return
        if exc_type is not None and switch.is_on:
            failures.statement_failed(converter.wrapper, exc_value)
        return original(converter, exc_type, exc_value, traceback)

    return __exit__


def rolling_back_a_transaction(original, switch):
    ended = ending_a_transaction(original, switch)

    def rollback(wrapper):
        if switch.is_on:
            failures.transaction_ending(wrapper)
        return ended(wrapper)

    return rollback


def ending_a_transaction(original, switch):
    def end_transaction(wrapper):
        try:
            original(wrapper)
        except Exception:
            failures.error_occurred(wrapper)
            raise
        lifecycle.transaction_ended(wrapper)

    return end_transaction


def knowing_the_connection(original, switch):
    def _valid_connection(wrapper):
        if not switch.is_on or not lifecycle.has_entry(wrapper):
            return original(wrapper)
        return wrapper.connection is not None

    return _valid_connection


def executing(original, switch):
    def execute(owner, *args, **kwargs):
        if not switch.is_on:
            return original(owner, *args, **kwargs)
        return lifecycle.in_orm(original, owner, *args, **kwargs)

    return execute


def streaming(original, switch):
    def begin(response):
        if switch.is_on:
            streams.begin(response, switch)

    return Preceded(original, begin)


def streaming_content(original, switch):
    def __iter__(response):
        parts = original(response)
        if switch.is_on and type(response._container) is not list:
            streams.begin(response, switch)
        return parts

    return __iter__


def reading_headers_of_a_file(original, switch):
    def items(response):
        if switch.is_on:
            streams.begin_file(response)
        return original(response)

    return items


def on_send_response(wrapped, handler, args, kwargs):
    return streams.send(partial(wrapped, *args, **kwargs), kwargs.get("response") or args[0])


def on_close_if_unusable_or_obsolete(wrapped, wrapper, args, kwargs):
    # With a CONN_MAX_AGE a wrapper keeps its connection after a direct call, as in stock Django.
    if wrapper.settings_dict.get("CONN_MAX_AGE", 0) != 0 or not lifecycle.checkin(wrapper):
        wrapped(*args, **kwargs)


def closing(original, switch):
    def close(wrapper):
        return lifecycle.close(wrapper, original) if switch.is_on else original(wrapper)

    return close


def ending_work(original, switch):
    def end_of_work(signal=None, **kwargs):
        if not switch.is_on:
            original(signal=signal, **kwargs)
        elif signal is request_finished:
            lifecycle.request_finished()
        elif signal is request_started:
            lifecycle.request_started(kwargs)
        else:
            # A direct call has no signal, and ends a unit of work that is not a request.
            lifecycle.end_of_work()

    return end_of_work


def closing_the_database_of_celery(original, switch):
    def close_database(fixup, **kwargs):
        if not switch.is_on:
            return original(fixup, **kwargs)
        return tasks.close_database(fixup, partial(original, fixup, **kwargs))

    return close_database


def on_request_started(sender=None, **kwargs):
    if dialect.begins_a_unit_of_work(sender):
        lifecycle.request_started()


def on_response_of_asgi(wrapped, handler, args, kwargs):
    try:
        return wrapped(*args, **kwargs)
    finally:
        lifecycle.request_finished()


def on_asgi_request(wrapped, handler, args, kwargs):
    return asgi.watch_request(wrapped(*args, **kwargs))


def on_asgi_view(wrapped, handler, args, kwargs):
    return asgi.watch_view(wrapped(*args, **kwargs))


def on_asgi_response(wrapped, handler, args, kwargs):
    return asgi.watch_response(wrapped(*args, **kwargs))


def as_work_of_its_own(wrapped, instance, args, kwargs):
    return lifecycle.as_work_of_its_own(wrapped, *args, **kwargs)


def on_is_dirty(wrapped, wrapper, args, kwargs):
    return wrapped(*args, **kwargs) or dialect.has_something_to_end(wrapper)


def on_is_dirty_by_alias(wrapped, instance, args, kwargs):
    alias = kwargs.get("using", args[0] if args else None)
    return wrapped(*args, **kwargs) or dialect.has_something_to_end(dialect.wrapper(alias))


def on_dropping_a_database(wrapped, creation, args, kwargs):
    lifecycle.pools.vacate()
    return wrapped(*args, **kwargs)
