"""N units of work of an asyncio program, in Channels' database_sync_to_async()."""

import asyncio
import sys

import django

django.setup()

from channels.db import database_sync_to_async  # noqa: E402

from project import units  # noqa: E402


async def main(total, seconds):
    unit = database_sync_to_async(units.unit, thread_sensitive=False)
    for first in range(0, total, 20):
        numbers = range(first, min(first + 20, total))
        await asyncio.gather(*(unit(number, seconds) for number in numbers))
    await asyncio.Event().wait()


asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
