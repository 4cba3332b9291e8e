from __future__ import annotations

import asyncio

from stillroom.launcher.mailbox import Mailbox


def test_the_driver_takes_each_line_once_and_the_first_error_that_ends_the_run():
    async def talk():
        box = Mailbox()
        await box.say("epoch 1")
        await box.begin_training()
        await box.end("InputError", "lr=9")
        await box.end("InputError", "one that follows from it")
        first, second = await box.exchange(0), await box.exchange(0)
        assert (first.lines, second.lines) == (["epoch 1"], [])
        assert first.end == second.end == ("InputError", "lr=9")
        assert first.training
        assert second.training

    asyncio.run(talk())


def test_after_a_restart_nothing_is_there_to_save_until_training_begins():
    async def talk():
        box = Mailbox()
        assert await box.start() == 1
        await box.begin_training()
        assert await box.start() == 2
        assert not (await box.exchange(0)).training

    asyncio.run(talk())


def test_every_process_that_waits_hears_of_the_request_to_stop():
    async def talk():
        box = Mailbox()
        early = asyncio.create_task(box.requested())
        await asyncio.sleep(0)
        await box.exchange(0)
        assert not early.done()
        await box.exchange(15)
        await box.exchange(2)
        assert await early == await box.requested() == 15

    asyncio.run(talk())
