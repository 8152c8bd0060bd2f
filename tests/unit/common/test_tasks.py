"""A background task that is told to end does end, though a cancel got lost on the way."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from libs.common.tasks import end


async def test_a_task_that_loses_a_cancel_is_asked_again() -> None:
    lost = 0

    async def deaf_once() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                lost += 1
                if lost > 1:
                    raise

    task = asyncio.create_task(deaf_once())
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await end(task)
    assert task.cancelled()
    assert lost == 2


async def test_a_cancel_that_meets_an_answer_is_lost_by_the_standard_library() -> None:
    """Why the above is needed. Once this fails, Python has mended it and one cancel is enough."""
    answer = asyncio.get_running_loop().create_future()

    async def waits() -> str:
        await asyncio.wait_for(answer, 3600)
        return "it went on"

    task = asyncio.create_task(waits())
    await asyncio.sleep(0)
    answer.set_result(None)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        assert await task == "it went on"
        return
    pytest.fail("one cancel is enough now: libs/common/tasks.py can go")


async def test_all_end_before_the_failure_of_one_is_told() -> None:
    async def fails() -> None:
        raise ValueError("broken")

    failed, waiting = asyncio.create_task(fails()), asyncio.create_task(asyncio.sleep(3600))
    await asyncio.sleep(0)
    with pytest.raises(ValueError, match="broken"):
        await end(failed, waiting)
    assert waiting.cancelled()


async def test_what_has_ended_already_is_fine() -> None:
    done = asyncio.create_task(asyncio.sleep(0))
    await done
    await end(done)
    await end()
