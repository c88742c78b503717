"""The storm's async views. Python 2 cannot read this file."""

from __future__ import absolute_import

import asyncio
import random
from itertools import islice

import django
from asgiref.sync import sync_to_async
from django.http import Http404, StreamingHttpResponse

from project import storm
from project.storm import CHUNK, Failed, Row, rows, tagged, total

VIEWS = {}


def view(function):
    VIEWS["async_" + function.__name__] = function
    return function


async def pause():
    """Let clients hang up between two chunks."""
    await asyncio.sleep(random.choice([0, 0, 0.001, 0.005]))


@view
async def reads(request):
    return tagged(request, await sync_to_async(total)(Row.objects.all()))


@view
async def reads_twice_at_once(request):
    both = [sync_to_async(total)(Row.objects.all()) for _number in range(2)]
    return tagged(request, sum(await asyncio.gather(*both)) // 2)


@view
async def raises_in_atomic(request):
    await sync_to_async(storm.raises_in_atomic)(request)


@view
async def keeps_the_error_of_an_iteration(request):
    return await sync_to_async(storm.keeps_the_error_of_an_iteration)(request)


@view
async def stops_between_two_calls(request):
    some = await sync_to_async(rows)()
    value = total(await sync_to_async(list)(islice(some, CHUNK + 1)))
    await pause()
    return tagged(request, value)


if django.VERSION >= (4, 0):

    @view
    async def iterates_from_call_to_call(request):
        """Before 4.0 all requests share a thread, and the end of one closes the others' cursors."""
        value, some = 0, await sync_to_async(rows)()
        while True:
            chunk = await sync_to_async(list)(islice(some, CHUNK))
            if not chunk:
                return tagged(request, value)
            value += total(chunk)
            await pause()


if django.VERSION >= (4, 1):

    def arows():
        return Row.objects.order_by("number").aiterator(chunk_size=CHUNK)

    @view
    async def iterates(request):
        value = 0
        async for row in arows():
            value += row.number
            if row.number % CHUNK == 0:
                await pause()
        return tagged(request, value)

    @view
    async def stops_iterating(request):
        value = 0
        async for row in arows():
            value += row.number
            if row.number == CHUNK:
                break
        await pause()
        return tagged(request, value)

    @view
    async def raises_while_iterating(request):
        some = arows()
        async for _row in some:
            await pause()
            raise Http404("nothing")

    @view
    async def keeps_the_error_of_an_async_iteration(request):
        some = arows()
        try:
            async for _row in some:
                await pause()
                raise Failed()
        except Failed as error:
            request.error = error
        return await reads(request)

    @view
    async def leaves_an_iterator_to_the_garbage_collector(request):
        value, some = 0, arows()
        request.kept = [request, some]
        async for row in some:
            value += row.number
            if row.number == CHUNK:
                break
        return tagged(request, value)


if django.VERSION >= (4, 2):

    @view
    async def streams(request):
        async def body():
            async for row in arows():
                yield b"%d\n" % row.number
                if row.number % CHUNK == 0:
                    await pause()

        return StreamingHttpResponse(body())
