"""Installing, disabling, enabling and uninstalling persistconn on the real Django."""

from __future__ import absolute_import

import importlib
import threading

import django
import pytest
import support
import wrapt
from django import db
from django.core import signals
from django.db import connection, transaction
from support import backends, end_of_work, get, pid, received_by, wait_until

import persistconn
from persistconn import patches
from persistconn.django_versions import dialect
from persistconn.patching import Listener, OptionalWrap, Receiver, Wrap


def targets():
    """The present objects at the places that persistconn patches, and the receivers' numbers."""
    found = []
    for row in patches.rows():
        if isinstance(row, OptionalWrap) and not can_be_imported(row.module):
            continue
        if isinstance(row, Wrap):
            parent, name, value = wrapt.resolve_path(row.module, row.attribute)
            found.append(vars(parent).get(name))
        elif isinstance(row, (Listener, Receiver)):
            found.append(len(getattr(signals, row.signal).receivers))
    return found


def can_be_imported(module):
    """Return the module, or None if it cannot be imported, as without a backend's driver."""
    try:
        return importlib.import_module(module)
    except Exception:
        return None


def test_uninstall_puts_back_every_object_and_receiver():
    installed = targets()
    persistconn.uninstall()
    first = targets()
    persistconn.install()
    persistconn.uninstall()
    second = targets()
    persistconn.install()
    assert all(one is two or one == two for one, two in zip(first, second))
    assert not any(isinstance(one, wrapt.FunctionWrapper) for one in first)
    assert [type(one) for one in targets()] == [type(one) for one in installed]


def test_after_uninstall_the_end_of_work_closes_connections_as_in_stock_django():
    persistconn.uninstall()
    try:
        pid()
        end_of_work()
        assert connection.connection is None
        assert wait_until(lambda: backends() == [])
    finally:
        persistconn.install()


def test_installing_again_changes_nothing():
    before = targets()
    persistconn.install()
    persistconn.install()
    assert all(one is two or one == two for one, two in zip(before, targets()))


def test_install_does_not_enable_persistconn_after_disable():
    persistconn.disable()
    persistconn.install()
    assert not persistconn.is_enabled()
    persistconn.enable()


def test_enable_before_install_does_nothing():
    persistconn.uninstall()
    persistconn.enable()
    assert not persistconn.is_enabled()
    persistconn.install()
    assert persistconn.is_enabled()


def test_disable_closes_kept_connections():
    pid()
    end_of_work()
    persistconn.disable()
    persistconn.disable()
    assert wait_until(lambda: backends() == [], seconds=1)
    persistconn.enable()
    persistconn.enable()


def test_a_connection_in_use_during_disable_is_closed_by_django():
    pid()
    persistconn.disable()
    end_of_work()
    assert wait_until(lambda: backends() == [])
    persistconn.enable()


def test_a_reused_connection_in_use_during_disable_is_closed_by_django():
    pid()
    end_of_work()
    pid()
    persistconn.disable()
    end_of_work()
    assert wait_until(lambda: backends() == [])
    persistconn.enable()


def test_a_connection_opened_while_disabled_is_taken_over_at_the_end_of_its_work():
    persistconn.disable()
    before = pid()
    persistconn.enable()
    end_of_work()
    assert connection.connection is None
    assert backends() == [before]


def test_a_connection_opened_while_disabled_is_taken_over_at_its_next_use():
    persistconn.disable()
    before = pid()
    persistconn.enable()
    assert pid() == before
    assert persistconn.stats()["default"]["in_use"] == 1
    end_of_work()
    assert backends() == [before]


def test_a_thread_keeps_its_session_when_persistconn_is_installed_in_mid_request():
    persistconn.uninstall()
    opened, installed, pids = threading.Event(), threading.Event(), []

    def request():
        pids.append(pid())
        opened.set()
        installed.wait()
        pids.append(pid())
        end_of_work()

    thread = threading.Thread(target=request)
    thread.start()
    opened.wait()
    persistconn.install()
    installed.set()
    thread.join()
    assert pids[0] == pids[1]
    assert pid() == pids[0]
    end_of_work()


def test_disable_and_enable_in_one_thread_affect_another_thread():
    support.in_thread(persistconn.disable)
    pid()
    end_of_work()
    assert wait_until(lambda: backends() == [])
    support.in_thread(persistconn.enable)
    pid()
    end_of_work()
    assert len(backends()) == 1


def test_disable_and_enable_while_threads_work_leave_no_connection_open():
    stop = threading.Event()

    def work():
        while not stop.is_set():
            pid()
            end_of_work()

    threads = [threading.Thread(target=work) for number in range(3)]
    for thread in threads:
        thread.start()
    for _turn in range(20):
        persistconn.disable()
        persistconn.enable()
    persistconn.disable()
    stop.set()
    for thread in threads:
        thread.join()
    assert wait_until(lambda: backends() == [])
    persistconn.enable()


@pytest.mark.skipif(django.VERSION < (1, 8), reason="Django asks it before each cursor since 1.8")
def test_another_patch_of_ensure_connection_is_called_with_an_open_connection(monkeypatch):
    calls = []
    base, name, original = wrapt.resolve_path(
        dialect.backends, "BaseDatabaseWrapper.ensure_connection"
    )
    persistconn.uninstall()
    monkeypatch.setattr(base, name, lambda wrapper: calls.append(original(wrapper)))
    persistconn.install()
    pid()
    del calls[:]
    connection.cursor()
    persistconn.uninstall()
    monkeypatch.undo()
    persistconn.install()
    end_of_work()
    assert calls


def test_every_row_of_the_patch_table_says_why():
    assert all(len(row.why.split()) > 3 for row in patches.TABLE)


# Receivers of signals.


def djangos():
    """The receiver under Django's name: ours, or Django's own while uninstalled."""
    return getattr(db, dialect.end_of_work)


def stock():
    return getattr(djangos(), "__wrapped__", djangos())


def app(**kwargs):
    """A receiver of an app."""


@pytest.fixture
def uninstalled():
    """The test itself installs persistconn. Receivers of request signals are put back after it."""
    persistconn.uninstall()
    requests = (signals.request_started, signals.request_finished)
    before = [list(signal.receivers) for signal in requests]
    yield
    persistconn.uninstall()
    for signal, receivers in zip(requests, before):
        signal.receivers = receivers
    persistconn.install()


def connect_before_djangos(signal, receiver):
    signal.disconnect(stock())
    signal.connect(receiver)
    signal.connect(stock())


RECEIVED = [row.signal for row in patches.rows() if isinstance(row, Receiver)]


@pytest.fixture(params=RECEIVED)
def signal(request, uninstalled):
    """A signal that Django receives, and an app, which was connected before persistconn."""
    signal = getattr(signals, request.param)
    signal.connect(app)
    return signal


def test_our_receiver_takes_the_place_of_djangos_receiver(signal):
    before = received_by(signal)
    persistconn.install()
    assert received_by(signal) == [djangos() if r is stock() else r for r in before]


def test_uninstall_puts_djangos_receiver_back_in_its_place(signal):
    before = received_by(signal)
    persistconn.install()
    persistconn.uninstall()
    assert received_by(signal) == before


def test_installing_again_puts_our_receiver_in_the_same_place(signal):
    before = received_by(signal).index(djangos())
    persistconn.install()
    persistconn.uninstall()
    persistconn.install()
    assert received_by(signal).index(djangos()) == before


def test_uninstall_keeps_djangos_receiver_before_receivers_connected_later(signal):
    def later(**kwargs):
        pass

    persistconn.install()
    signal.connect(later)
    persistconn.uninstall()
    assert received_by(signal).index(stock()) < received_by(signal).index(later)


@pytest.mark.skipif(not support.BEFORE_1_6, reason="from 1.6 on Django receives it itself")
def test_before_1_6_our_receiver_is_the_first_to_receive_request_started(uninstalled):
    signals.request_started.connect(app)
    before = received_by(signals.request_started)
    persistconn.install()
    assert received_by(signals.request_started)[1:] == before


def set_tenant(**kwargs):
    connection.cursor().execute(support.chosen.SET_TENANT % "acme")


def test_a_request_keeps_a_parameter_that_an_app_set_in_request_started(uninstalled):
    signals.request_started.connect(set_tenant)
    persistconn.install()
    # With MAX_KEPT 0 a connection that is given back before the view would be closed.
    with support.settings_as(PERSISTCONN_MAX_KEPT=0):
        assert get("/tenant/").text == "acme"


def test_another_thread_does_not_see_a_parameter_that_an_app_set_in_request_started(uninstalled):
    seen = []

    def look_from_another_thread(**kwargs):
        seen.append(support.in_thread(tenant))

    signals.request_started.connect(set_tenant)
    persistconn.install()
    signals.request_started.connect(look_from_another_thread)
    get("/none/")
    assert seen == [None]


def tenant():
    found = support.fetch(support.chosen.TELL_TENANT)
    end_of_work()
    return found


def audit(**kwargs):
    connection.cursor().execute("INSERT INTO item VALUES ('audit')")
    if support.BEFORE_1_6:
        transaction.commit_unless_managed()


def connect_after_djangos(signal, receiver):
    signal.connect(receiver)


@pytest.mark.parametrize("connect", [connect_before_djangos, connect_after_djangos])
def test_a_row_written_in_request_finished_is_kept_or_lost_as_in_stock_django(
    connect, uninstalled, rows
):
    connect(signals.request_finished, audit)
    get("/uncommitted/")
    connection.close()
    in_stock = rows()
    support.ask("TRUNCATE item", database=support.DATABASE)
    persistconn.install()
    get("/uncommitted/")
    end_of_work()
    assert rows() == in_stock
