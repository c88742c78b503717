"""Failed statements and transactions: they have their sessions checked, or all of the pool asked."""

from persistconn import lease, transactions
from persistconn.django_versions import dialect


def error_occurred(wrapper):
    """Have the connection checked before its next use."""
    for entry in lease.of(wrapper).entries[:]:
        entry.distrust()


def statement_failed(wrapper, error):
    """Note a refused write: all sessions of the pool must show that they can write.

    Have the connection checked after a refused COMMIT, too: behind Pgpool-II the session is then in a
    failed transaction, and no driver knows it.
    """
    for entry in lease.of(wrapper).entries[:]:
        if entry.raw is None:
            continue
        if not (entry.driver.is_its_error(entry.raw, error) or transactions.is_djangos(error)):
            continue
        if entry.driver.cannot_write(error):
            entry.pool.refused()
        if dialect.is_in_manual_mode(wrapper):
            entry.distrust()


def rolling_back(wrapper):
    """Note that an error occurred, before Django forgets it."""
    if wrapper.errors_occurred:
        error_occurred(wrapper)
    for entry in lease.of(wrapper).entries[:]:
        # Errors of psycopg 3's copy() do not pass Django.
        if entry.raw is not None and entry.driver.has_refused(entry.raw):
            entry.pool.refused()


def transaction_ending(wrapper, has_failed=False):
    """Look for a refused write before Django 1.6, which hides the driver's error."""
    for entry in lease.of(wrapper).entries[:]:
        if entry.raw is not None:
            transactions.look_for_a_refusal(entry, has_failed)


def orm_failed(work, error):
    """Note an error that passes the ORM.

    If it is not Django's, a signal handler may have raised it between a statement and its answer, and
    not every driver notes that. So the connections in use are rolled back at the end of the work. The
    rollback then fails, and its connection is not kept.
    """
    is_djangos = transactions.is_djangos(error)
    if is_djangos and not dialect.hides_errors:
        return
    for ref in list(work.wrappers.values()):
        wrapper = ref()
        if wrapper is None:
            continue
        if is_djangos:
            statement_failed(wrapper, error)  # Django's error has MySQL's code, too
            transaction_ending(wrapper, has_failed=True)
        else:
            lease.of(wrapper).is_own = True
