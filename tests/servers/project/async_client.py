"""Requests in turn through Django's async test client. Python 2 cannot read this file."""

from __future__ import absolute_import

import asyncio
import json
import sys

from project import sessions


async def ask(count):
    from django.test import AsyncClient

    client = AsyncClient()
    paths = ["/who/", "/async/who/"]
    answers = [await client.get(paths[number % 2]) for number in range(count)]
    return [json.loads(answer.content)["backend"] for answer in answers]


if __name__ == "__main__":
    sessions.set_up()
    print(json.dumps({"backends": asyncio.run(ask(int(sys.argv[1])))}))
