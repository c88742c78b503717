"""Responses that are sent part by part: what they hold meanwhile, and what they give back."""

from __future__ import absolute_import

import contextlib
import logging
import os
import threading

import django
import pytest
import support
from databases import chosen
from django import http
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.wsgi import WSGIHandler
from django.db import connections, transaction
from site_urls import handler404, handler500, re_path  # noqa: F401
from support import backends, database_as, end_of_work, settings_as, wait_until

import persistconn
from persistconn import compat, conf, lifecycle, problems, streams

try:
    from django.urls import clear_url_caches
except ImportError:
    from django.core.urlresolvers import clear_url_caches

#: More rows than Django fetches at once.
MANY = 5000

StreamingHttpResponse = getattr(http, "StreamingHttpResponse", http.HttpResponse)


@contextlib.contextmanager
def managed():
    """Django 1.2 has no block for this."""
    transaction.enter_transaction_management()
    transaction.managed(True)
    yield
    transaction.commit()
    transaction.leave_transaction_management()


in_transaction = getattr(transaction, "atomic", managed)

since_1_5 = pytest.mark.skipif(
    django.VERSION < (1, 5), reason="before 1.5 request_finished comes before the first part"
)
since_1_6 = pytest.mark.skipif(django.VERSION < (1, 6), reason="Django has it since 1.6")
since_1_8 = pytest.mark.skipif(django.VERSION < (1, 8), reason="Django has it since 1.8")


# The site. Each test puts the view there that it needs.

_views = []


def current_view(request):
    return _views[-1](request)


urlpatterns = [re_path("^stream/$", current_view)]

if django.VERSION >= (3, 1):
    import async_streams

    urlpatterns.append(re_path("^async/stream/$", async_streams.calling(current_view)))


@contextlib.contextmanager
def this_site():
    # Some Djangos remember the URLs of the settings that they saw first.
    clear_url_caches()
    with settings_as(ROOT_URLCONF=__name__):
        yield
    clear_url_caches()


class Sent(object):
    """A response that is read part by part, as a WSGI server does."""

    def __init__(self, view, **environ):
        self.status = None
        _views.append(view)
        with this_site():
            self.response = WSGIHandler()(dict(support.environ("/stream/"), **environ), self._start)
        self._parts = iter(self.response)

    def _start(self, status, headers, exc_info=None):
        self.status = int(status.split()[0])

    def __iter__(self):
        return self

    def __next__(self):
        return next(self._parts).decode()

    next = __next__

    def close(self):
        if hasattr(self.response, "close"):
            self.response.close()


@pytest.fixture(autouse=True)
def ended():
    yield
    del _views[:]
    end_of_work()
    if support.is_in_a_request():
        support.end_request()  # some Djangos do not if the server sends a file by itself


@contextlib.contextmanager
def sent(parts, before=None, **environ):
    """A stream of the parts that a function yields. ``before`` is what the view does before."""

    def view(request):
        if before is not None:
            before()
        return StreamingHttpResponse(parts())

    stream = Sent(view, **environ)
    try:
        yield stream
    finally:
        stream.close()


@pytest.fixture
def releasing():
    with settings_as(PERSISTCONN_RELEASE_BEFORE_STREAMING=True):
        yield


def in_use(alias="default"):
    return persistconn.stats()[alias]["in_use"]


def ask(alias="default"):
    """The session, as the ORM alone reads it."""
    from site_app.models import Session

    return Session.objects.using(alias).get().pid


def ask_twice():
    yield "%d" % ask()
    yield "%d" % ask()


def tell_use():
    yield "%d" % in_use()
    yield "%d" % in_use()


# The setting.


def test_streams_keep_their_connections_by_default():
    assert conf.of({}).release_before_streaming is False


@pytest.mark.parametrize("value", [0, 1, None, "yes"])
def test_a_setting_for_streams_other_than_true_and_false_is_refused(value):
    with settings_as(PERSISTCONN_RELEASE_BEFORE_STREAMING=value):
        (problem,) = problems.find_problems()
        with pytest.raises(ImproperlyConfigured):
            conf.of({})
    said = "PERSISTCONN_RELEASE_BEFORE_STREAMING is %r; allowed: True or False." % (value,)
    assert problem.message == said


# What a stream gives back.


@since_1_5
def test_without_the_setting_a_stream_holds_the_connection_of_its_view_to_its_end():
    with sent(tell_use, before=ask) as stream:
        assert list(stream) == ["1", "1"]
    assert in_use() == 0


def test_without_the_setting_a_stream_holds_the_connection_that_it_has_used():
    with sent(ask_twice) as stream:
        assert int(next(stream)) in backends()
        assert in_use() == 1


def test_the_connection_of_the_view_is_given_back_before_the_first_part(releasing):
    with sent(tell_use, before=ask) as stream:
        assert list(stream) == ["0", "0"]


def test_a_connection_that_a_part_used_is_given_back_after_the_part(releasing):
    with sent(ask_twice) as stream:
        for part in stream:
            assert int(part) in backends()
            assert in_use() == 0


def test_streams_that_take_turns_share_one_session(releasing):
    with sent(ask_twice) as one, sent(ask_twice) as two:
        pids = [next(one), next(two), next(one), next(two)]
    assert len(set(pids)) == len(backends()) == 1


def test_more_streams_are_open_than_connections_are_allowed(releasing):
    with settings_as(PERSISTCONN_MAX_CONNS=1, PERSISTCONN_TIMEOUT=0):
        pids = set()

        def serve(depth):
            with sent(ask_twice) as stream:
                pids.add(next(stream))
                if depth:
                    support.in_thread(lambda: serve(depth - 1))
                pids.add(next(stream))

        serve(5)
    assert len(pids) == 1


def test_all_databases_that_a_part_used_are_given_back(releasing):
    def parts():
        yield "%d %d" % (ask("default"), ask("other"))
        yield "%d %d" % (in_use("default"), in_use("other"))

    with sent(parts) as stream:
        assert len(set(next(stream).split())) == 2
        assert next(stream) == "0 0"


@pytest.mark.parametrize("own", [{"default": True}, {"other": True}], ids=str)
def test_only_a_database_with_the_setting_is_given_back(own):
    values = dict((alias, {"RELEASE_BEFORE_STREAMING": own.get(alias, False)}) for alias in BOTH)
    with database_as("default", PERSISTCONN=values["default"]):
        with database_as("other", PERSISTCONN=values["other"]):

            def parts():
                ask("default"), ask("other")
                yield ""

            with sent(parts) as stream:
                next(stream)
                assert dict((alias, in_use(alias) == 0) for alias in own) == own
                assert in_use("default") + in_use("other") == 1


BOTH = ["default", "other"]


def test_a_database_can_be_excepted_from_the_setting_of_the_project(releasing):
    with database_as(PERSISTCONN={"RELEASE_BEFORE_STREAMING": False}):
        with sent(ask_twice) as stream:
            next(stream)
            assert in_use() == 1


def test_a_list_of_parts_gives_back_the_connection_of_the_view(releasing):
    with sent(lambda: ["a", "b"], before=ask) as stream:
        assert next(stream) == "a"
        assert in_use() == 0
        assert list(stream) == ["b"]


def test_nothing_stays_in_use_after_the_end_of_a_stream(releasing):
    def parts():
        yield ""
        ask()

    with sent(parts, before=ask) as stream:
        assert list(stream) == [""]
    assert in_use() == 0


# What a stream keeps.


def test_a_transaction_over_several_parts_stays_in_one_session_and_is_committed(releasing, rows):
    from site_app.models import Item

    def parts():
        with in_transaction():
            yield "%d" % ask()
            Item.objects.create(name="kept")
            yield "%d" % ask()

    with sent(parts) as stream:
        first = next(stream)
        assert in_use() == 1
        assert list(stream) == [first]
    assert rows() == ["kept"]


def test_after_its_transaction_a_stream_gives_the_connection_back(releasing):
    def parts():
        with in_transaction():
            yield "%d" % ask()
        yield ""

    with sent(parts) as stream:
        next(stream), next(stream)
        assert in_use() == 0


@since_1_5
def test_a_view_that_made_a_cursor_keeps_its_connection_for_the_stream(releasing):
    with sent(tell_use, before=support.pid) as stream:
        assert list(stream) == ["1", "1"]


def test_a_stream_that_made_a_cursor_keeps_its_connection_to_its_end(releasing):
    def parts():
        yield "%d" % support.pid()
        yield "%d" % support.pid()

    with sent(parts) as stream:
        first = next(stream)
        assert in_use() == 1
        assert list(stream) == [first]


@since_1_6
def test_a_stream_that_asked_for_the_connection_itself_keeps_it(releasing):
    def parts():
        connections["default"].ensure_connection()
        yield ""

    with sent(parts) as stream:
        next(stream)
        assert in_use() == 1


@since_1_6
def test_a_stream_with_autocommit_off_keeps_its_connection(releasing):
    def parts():
        ask()
        transaction.set_autocommit(False)
        yield ""

    with sent(parts) as stream:
        next(stream)
        assert in_use() == 1
        assert not transaction.get_autocommit()
        assert list(stream) == []


@pytest.mark.parametrize("in_block", [False, True], ids=["", "in a transaction"])
def test_an_iterator_over_rows_that_is_not_at_its_end_gets_all_its_rows(releasing, rows, in_block):
    support.query("INSERT INTO item " + chosen.NUMBERS % MANY, support.DATABASE)
    from site_app.models import Item

    def parts():
        for _item in Item.objects.iterator():
            yield "x"

    with sent(parts) as stream:
        if in_block:
            with in_transaction():
                assert len(list(stream)) == MANY
        else:
            assert len(list(stream)) == MANY


@pytest.mark.parametrize("disable", [False, True])
def test_rows_that_are_fetched_in_pieces_survive_other_queries_in_between(releasing, rows, disable):
    """With DISABLE_SERVER_SIDE_CURSORS the pieces come from a plain cursor."""
    support.query("INSERT INTO item " + chosen.NUMBERS % MANY, support.DATABASE)
    from site_app.models import Item

    def parts():
        for _item in Item.objects.iterator():
            ask()
            yield "x"

    with database_as(DISABLE_SERVER_SIDE_CURSORS=disable), sent(parts) as stream:
        assert len([part for part, _ in zip(stream, range(MANY))]) == MANY


def test_after_the_last_row_of_an_iterator_the_connection_is_given_back(releasing, rows):
    support.query("INSERT INTO item " + chosen.NUMBERS % MANY, support.DATABASE)
    from site_app.models import Item

    def parts():
        for _item in Item.objects.iterator():
            yield "x"
        yield "end"

    with sent(parts) as stream:
        assert "end" in stream
        assert in_use() == 0


@since_1_6
def test_a_wrapper_that_threads_share_is_left_to_its_owner(releasing):
    wrapper = connections["default"]

    def parts():
        ask()
        support.share(wrapper)
        yield ""

    try:
        with sent(parts) as stream:
            next(stream)
            assert in_use() == 1
    finally:
        support.share(wrapper, on=False)


def test_a_wrapper_that_is_not_djangos_own_is_left_alone(releasing):
    wrapper = connections["default"].__class__(dict(connections["default"].settings_dict), "hand")

    def parts():
        wrapper.cursor().close()
        lifecycle.lease.of(wrapper).is_own = False
        yield ""

    with sent(parts) as stream:
        next(stream)
        assert wrapper.connection is not None
        wrapper.close()


@since_1_6
def test_the_transaction_of_a_test_case_is_left_alone(releasing):
    with transaction.atomic():
        before = ask()
        response = StreamingHttpResponse(ask_twice())
        assert [int(part) for part in response] == [before, before]
        assert in_use() == 1
        assert ask() == before


@since_1_8
def test_the_test_client_reads_a_stream_as_in_stock_django(releasing):
    from django.test import Client

    _views.append(lambda request: StreamingHttpResponse(ask_twice()))
    with this_site():
        response = Client().get("/stream/")
        assert [int(part) for part in response.streaming_content] == backends() * 2


def test_parts_are_left_to_django_after_disable(releasing):
    with sent(ask_twice) as stream:
        first = next(stream)
        persistconn.disable()
        try:
            assert next(stream) != first
            assert len(backends()) == 1
        finally:
            end_of_work()
            persistconn.enable()


def test_a_connection_that_is_in_use_when_persistconn_is_disabled_stays_with_its_stream(releasing):
    def parts():
        ask()
        persistconn.disable()
        yield ""

    try:
        with sent(parts) as stream:
            next(stream)
            assert not support.is_idle()
            end_of_work()
    finally:
        persistconn.enable()


# What Django does with a response stays as it is.


def test_an_error_in_a_part_reaches_the_server_and_leaves_nothing_in_use(releasing):
    def parts():
        yield "%d" % ask()
        ask()
        raise ZeroDivisionError

    with sent(parts) as stream:
        next(stream)
        with pytest.raises(ZeroDivisionError):
            next(stream)
    end_of_work()
    assert in_use() == 0


def test_closing_a_response_closes_its_generator(releasing):
    closed = []

    def parts():
        try:
            yield "a"
            yield "b"
        finally:
            closed.append(ask())

    with sent(parts) as stream:
        next(stream)
    assert len(closed) == 1
    end_of_work()
    assert in_use() == 0


@since_1_5
def test_parts_that_a_middleware_makes_of_a_response_are_released_too(releasing):
    def middleware(parts):
        for part in parts:
            yield "%s %d" % (part.decode(), ask())

    def view(request):
        response = StreamingHttpResponse(["a", "b"])
        response.streaming_content = middleware(response.streaming_content)
        return response

    stream = Sent(view)
    assert next(stream).startswith("a ")
    assert in_use() == 0
    assert next(stream).startswith("b ")
    stream.close()


@since_1_5
def test_streaming_content_is_of_the_same_type_as_in_stock_django(releasing):
    response = StreamingHttpResponse(["a", "b"])
    iter(response)
    persistconn.disable()
    stock = StreamingHttpResponse(["a", "b"])
    iter(stock)
    persistconn.enable()
    assert type(response.streaming_content) is type(stock.streaming_content)
    assert list(response.streaming_content) == list(stock.streaming_content) == [b"a", b"b"]


@since_1_5
def test_without_the_setting_the_iterator_of_a_response_is_not_touched():
    parts = iter(["a"])
    response = StreamingHttpResponse(parts)
    iter(response)
    assert response._iterator is parts


@since_1_5
def test_a_response_that_is_iterated_over_again_gets_no_second_layer(releasing):
    response = StreamingHttpResponse(["a"])
    iter(response)
    once = response._iterator
    iter(response)
    assert response._iterator is once


# Files.


@since_1_8
@pytest.mark.parametrize("by_server", [False, True], ids=["iterated", "file_wrapper"])
def test_a_file_is_sent_without_a_connection(releasing, by_server):
    uses = []

    def wrapper(file, *block_size):
        uses.append(in_use())
        return Wrapper(file)

    class Wrapper(object):
        def __init__(self, file):
            self.close = file.close
            self._file = file

        def __iter__(self):
            return iter([self._file.read()])

    def view(request):
        ask()
        return http.FileResponse(open(os.path.abspath(__file__), "rb"))

    environ = {"wsgi.file_wrapper": wrapper} if by_server else {}
    stream = Sent(view, **environ)
    assert next(stream).startswith('"""Responses')
    uses.append(in_use())
    stream.close()
    assert set(uses) == set([0])


@since_1_8
def test_without_the_setting_a_file_is_sent_as_in_stock_django():
    def view(request):
        ask()
        return http.FileResponse(open(os.path.abspath(__file__), "rb"))

    stream = Sent(view)
    next(stream)
    assert in_use() == 1
    stream.close()
    assert in_use() == 0


# ASGI.

since_3_1 = pytest.mark.skipif(django.VERSION < (3, 1), reason="Django has async views since 3.1")
since_4_2 = pytest.mark.skipif(
    django.VERSION < (4, 2), reason="Django has asynchronous streams since 4.2"
)


def request(view, **options):
    """Make a request under ASGI. Return (part, connections in use meanwhile) for each part."""
    seen = []
    _views.append(view)
    path = "/async/stream/" if async_streams.is_async(view) else "/stream/"
    with this_site():
        async_streams.request(path, lambda part: seen.append((part, in_use())), **options)
    return seen


@since_4_2
def test_without_the_setting_an_asynchronous_stream_holds_its_connection():
    seen = request(async_streams.view_of(async_streams.calls(ask, ask)))
    assert [use for _, use in seen] == [1, 1]
    assert in_use() == 0


@since_4_2
def test_an_asynchronous_stream_gives_back_the_connection_of_the_view_before_its_first_part(
    releasing,
):
    parts = async_streams.calls(in_use, in_use)
    assert request(async_streams.view_of(parts, before=ask)) == [("0", 0), ("0", 0)]


@since_4_2
def test_an_asynchronous_stream_gives_its_connection_back_after_each_part(releasing):
    seen = request(async_streams.view_of(async_streams.calls(ask, ask, ask)))
    assert [use for _, use in seen] == [0, 0, 0]
    assert [int(part) for part, _ in seen] == backends() * 3


@since_4_2
def test_an_asynchronous_stream_with_a_cursor_of_its_own_keeps_its_session(releasing):
    seen = request(async_streams.view_of(async_streams.calls(support.pid, support.pid)))
    assert [use for _, use in seen] == [1, 1]
    assert in_use() == 0


@since_4_2
def test_an_asynchronous_stream_goes_to_the_other_thread_once_if_it_needs_no_connection(
    releasing, monkeypatch
):
    made, release = [], lifecycle.release_unused
    monkeypatch.setattr(lifecycle, "release_unused", lambda *a: made.append(True) or release(*a))
    request(async_streams.view_of(async_streams.calls(str, str, str), before=ask))
    assert len(made) == 1


@since_3_1
@pytest.mark.parametrize("is_async", [False, True], ids=["sync view", "async view"])
def test_a_plain_stream_under_asgi_gives_back_the_connection_of_the_view(releasing, is_async):
    def view(request):
        ask()
        return StreamingHttpResponse(["a", "b"])

    if is_async:
        view = async_streams.view_of(lambda: ["a", "b"], before=ask)
    assert request(view) == [("a", 0), ("b", 0)]


@since_4_2
def test_a_plain_stream_under_asgi_gives_its_connection_back_between_its_parts(releasing):
    def parts():
        yield "%d" % ask()
        yield "%d" % in_use()

    seen = request(lambda request: StreamingHttpResponse(parts()))
    assert [part for part, _ in seen][1:] == ["0"]


@since_3_1
def test_a_response_under_asgi_that_is_no_stream_is_sent_as_in_stock_django(releasing, monkeypatch):
    monkeypatch.delattr(lifecycle, "release_unused")
    seen = request(lambda request: http.HttpResponse("%d" % ask()))
    assert [int(part) for part, _ in seen] == backends()


@since_4_2
def test_an_error_in_an_asynchronous_stream_reaches_the_server(releasing):
    with pytest.raises(ZeroDivisionError):
        request(async_streams.view_of(async_streams.fails(ask)))
    assert in_use() == 0


@since_4_2
def test_an_asynchronous_stream_can_catch_the_error_of_what_it_awaits(releasing):
    view = async_streams.view_of(async_streams.goes_on_after_an_error([]))
    assert request(view) == [("caught", 0)]


@since_4_2
@pytest.mark.parametrize("released", [False, True])
def test_a_stream_whose_client_goes_away_is_cancelled_as_in_stock_django(released):
    log, seen = [], []
    view = async_streams.view_of(async_streams.waits_for_ever(log, lambda: seen.append(1)), ask)
    with settings_as(PERSISTCONN_RELEASE_BEFORE_STREAMING=released):
        request(view, hangs_up=lambda: seen)
    assert log == ["cancelled", "closed"]
    assert wait_until(lambda: in_use() == 0)


@since_4_2
def test_an_asynchronous_iterator_of_ones_own_is_read_to_its_end(releasing):
    response = StreamingHttpResponse(async_streams.Plain(3))
    assert async_streams.read(response) == [b"2", b"1", b"0"]


@since_4_2
@pytest.mark.parametrize("released", [False, True])
def test_an_asynchronous_stream_that_is_closed_early_closes_its_generator(released):
    log = []
    response = StreamingHttpResponse(async_streams.waits_for_ever(log, lambda: "a")())
    with settings_as(PERSISTCONN_RELEASE_BEFORE_STREAMING=released):
        assert async_streams.close_early(response) == b"a"
    del response
    assert log == ["cancelled", "closed"] or log == ["closed"]


@since_4_2
def test_djangos_warning_of_an_asynchronous_stream_under_wsgi_names_the_same_place_as_in_stock():
    def place():
        response = StreamingHttpResponse(async_streams.calls(str)())
        with pytest.warns(Warning, match="must consume asynchronous iterators") as caught:
            list(response)
        return caught[0].filename, caught[0].lineno

    with_persistconn = place()
    persistconn.uninstall()
    try:
        assert place() == with_persistconn
    finally:
        persistconn.install()


@since_4_2
@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
def test_an_asynchronous_stream_under_wsgi_is_read_to_its_end(releasing):
    with sent(async_streams.calls(ask, ask), before=ask) as stream:
        assert [int(part) for part in stream] == backends() * 2
    assert in_use() == 0


# The warning.


class Log(logging.Handler):
    def __init__(self):
        logging.Handler.__init__(self)
        self.messages = []

    def emit(self, record):
        if record.levelno >= logging.WARNING:
            self.messages.append(record.getMessage())


@pytest.fixture
def warnings(monkeypatch):
    """The warnings since the test began, with a limit of almost no time."""
    log = Log()
    monkeypatch.setattr(streams, "WARN_AFTER", 0.1)
    monkeypatch.setattr(streams, "_named", set())
    monkeypatch.setattr(
        streams, "_watched", {}
    )  # responses of other tests may not be collected yet
    monkeypatch.setattr(streams.housekeeper, "INTERVAL", 0.05)
    logging.getLogger("persistconn").addHandler(log)
    yield log.messages
    logging.getLogger("persistconn").removeHandler(log)


since_1_4 = pytest.mark.skipif(
    django.VERSION < (1, 4), reason="before 1.4 a thread cannot see the connections of another"
)
VIEW = "test_streams.current_view" if django.VERSION >= (1, 7) else "test_streams.ask_twice"
ASYNC_VIEW = "async_streams.calling.<locals>.current_view"


def rounds(number=4):
    """Wait until the housekeeper has made some rounds."""
    made = []

    def chore():
        made.append(True)
        return True

    def enough():
        lifecycle.pools.start_housekeeper()
        return len(made) >= number

    streams.housekeeper.chores.append(chore)
    try:
        assert wait_until(enough)
    finally:
        streams.housekeeper.chores.pop()


@since_1_4
def test_a_stream_that_holds_a_connection_for_long_is_named_by_its_view(warnings):
    with sent(ask_twice) as stream:
        next(stream)
        assert wait_until(lambda: warnings)
    (warning,) = warnings
    assert warning.startswith(VIEW)
    assert "'default'" in warning and "PERSISTCONN_RELEASE_BEFORE_STREAMING" in warning


@since_1_5
def test_a_silent_stream_that_holds_the_connection_of_its_view_is_named(warnings):
    with sent(tell_use, before=ask):
        assert not warnings
    with sent(tell_use, before=ask) as stream:
        next(stream)
        assert wait_until(lambda: warnings)


@since_1_4
def test_a_view_is_named_once(warnings):
    for _turn in range(2):
        with sent(ask_twice) as stream:
            next(stream)
            assert wait_until(lambda: warnings)
            rounds()
    assert len(warnings) == 1


@since_4_2
def test_an_asynchronous_stream_that_holds_a_connection_for_long_is_named(warnings):
    parts = async_streams.waits_for_ever([], ask)
    request(async_streams.view_of(parts), hangs_up=lambda: warnings)
    assert [warning.startswith(ASYNC_VIEW) for warning in warnings] == [True]


@since_3_1
def test_the_warning_of_a_plain_stream_under_asgi_names_its_view_too(warnings):
    import time

    def view(request):
        ask()
        return StreamingHttpResponse(slowly())

    def slowly():
        ends = time.time() + 10
        while not warnings and time.time() < ends:
            time.sleep(0.01)
            yield "x"

    request(view)
    assert [warning.startswith(VIEW) for warning in warnings] == [True]


@since_1_8
def test_a_view_that_is_a_class_is_named_by_its_class():
    class View(object):
        pass

    def view(request):
        pass

    view.view_class = View
    request = type(
        "Request", (object,), {"resolver_match": type("Match", (object,), {"func": view})}
    )
    response = StreamingHttpResponse([])
    closers = getattr(response, "_resource_closers", None)
    (response._closable_objects if closers is None else closers).append(request)
    assert streams.name_of(response).endswith("View")
    assert streams.name_of(response).startswith(__name__)


def test_a_response_without_a_request_is_named_by_its_generator():
    response = StreamingHttpResponse(ask_twice())
    iter(response)
    assert streams.name_of(response) == "test_streams.ask_twice"


def test_a_stream_with_the_setting_is_not_named_though_it_keeps_its_connection(warnings, releasing):
    def parts():
        yield "%d" % support.pid()

    with sent(parts) as stream:
        next(stream)
        assert in_use() == 1
        rounds()
    assert warnings == []


@since_1_4
def test_a_stream_that_gives_its_connection_back_by_itself_is_not_taken_for_one_that_holds_it(
    clock,
):
    response = StreamingHttpResponse(ask_twice())
    stream = streams.Stream(response, lifecycle.works.mine)
    ask()
    clock.forward(streams.WARN_AFTER - 1)
    end_of_work()
    ask()
    clock.forward(2)
    assert stream.find_held(compat.monotonic()) is None
    clock.forward(streams.WARN_AFTER)
    assert stream.find_held(compat.monotonic()) == "default"


@since_1_5
def test_the_next_request_of_a_thread_is_not_taken_for_a_stream_that_has_ended(warnings):
    stream = Sent(lambda request: StreamingHttpResponse(ask_twice()))
    next(stream)
    stream.close()
    support.get("/none/")
    ask()
    rounds()
    assert warnings == []


@since_1_5
def test_a_housekeeper_that_only_streams_need_ends_with_them(warnings):
    with settings_as(PERSISTCONN_MAX_AGE=None):
        with sent(ask_twice) as stream:
            next(stream)
        with sent(ask_twice) as stream:
            rounds(1)
        assert wait_until(lambda: not is_watching())


def is_watching():
    return any(t.name == "persistconn housekeeper" for t in threading.enumerate())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a fork")
def test_a_forked_child_does_not_watch_the_streams_of_its_parent():
    with sent(ask_twice) as stream:
        next(stream)
        assert streams.warn()

        def work():
            assert not streams.warn()

        assert support.in_child(work) == 0
