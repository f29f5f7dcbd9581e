"""What jobs do on peers that await, written once, so that it is the same for all of them; blocking.py awaited.

arq and saq have their own, since their handlers take a context.
"""

import asyncio

from .marks import marks
from .plan import SLEEP_S, SLOW_S, read_plan

if read_plan().variant == "trio":
    from trio import sleep as pause
else:
    pause = asyncio.sleep


async def noop(number: int, other: int, text: str) -> int:
    marks.done()
    return number


async def sleep(number: int, other: int, text: str) -> int:
    await pause(SLEEP_S)
    marks.done()
    return number


async def stamp(number: int, other: int, text: str) -> int:
    marks.stamp(number)
    return number


async def slow(number: int, other: int, text: str) -> int:
    marks.begin(number)
    await pause(SLOW_S)
    marks.end(number)
    return number


HANDLERS = {"noop": noop, "sleep": sleep, "stamp": stamp, "slow": slow}
