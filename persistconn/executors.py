"""An executor whose work items are units of work. Python 2 needs the package futures for it."""

from concurrent.futures import ThreadPoolExecutor

from persistconn.units import unit_of_work


class UnitOfWorkExecutor(ThreadPoolExecutor):
    """A ThreadPoolExecutor that gives back the database connections of each work item at its end.

    With a plain one each thread keeps the connection that its first item took. As the event loop's
    default executor (``loop.set_default_executor()``) it also serves ``asyncio.to_thread()`` and
    ``sync_to_async(thread_sensitive=False)``.

    A thread runs one item at a time, so nobody else uses the connections that an item's end gives
    back. asgiref runs thread-sensitive code in executors of its own, which have no part in this.
    """

    def submit(self, *args, **kwargs):
        return ThreadPoolExecutor.submit(self, _run, *args, **kwargs)


def _run(*args, **kwargs):
    with unit_of_work():
        return args[0](*args[1:], **kwargs)
