"""The embedded guest: its menu comes up by itself, and each entry ends in what it says."""

import asyncio
import time

from harness.cases import case
from harness.machine import PATIENCE, Machine

PROMPT = "guest> $"


async def press(vm, key, answer):
    """Waits for the menu, presses a key and waits for what the guest says to it."""
    await vm.console.expect(PROMPT)
    vm.console.send(key)
    return await vm.console.expect(answer)


@case(deadline=60)
async def menu_comes_up_without_arguments():
    async with Machine() as vm:
        await vm.console.expect("embedded guest")
        await vm.console.expect("Memory is as at power-on")
        await vm.console.expect(PROMPT)
        assert await vm.status() == "running"


@case(deadline=60)
async def each_way_to_reset_resets():
    ways = {"r": "keyboard controller", "9": "port 0x92", "c": "port 0xcf9"}
    async with Machine() as vm:
        for key, text in ways.items():
            await press(vm, key, text)
            event = await vm.qmp.event("RESET")
            assert event["data"] == {"guest": True, "reason": "guest-reset"}, event
            # Memory is as at power-on, so the guest takes its start for the first one.
            await vm.console.expect("Memory is as at power-on")
        assert "goes on" not in vm.console.text
        assert await vm.status() == "running"


@case(deadline=60)
async def triple_fault_resets_or_is_an_internal_error():
    async with Machine() as vm:
        await press(vm, "t", "triple fault")
        async with asyncio.timeout(PATIENCE):
            event = await vm.qmp.all_events.get()
            while event["event"] not in ("RESET", "STOP"):
                event = await vm.qmp.all_events.get()
        if event["event"] == "STOP":
            # A software KVM may fail to emulate the fault. The VM then stops where a client can see why,
            # and a reset makes it well again.
            assert await vm.status() == "internal-error"
            assert "internal error" in vm.stderr()
            assert await vm.refused("cont") == ("GenericError", "Resetting the Virtual Machine is required")
            await vm.execute("system_reset")
            await vm.execute("cont")
        await vm.console.expect("Memory is as at power-on")
        assert await vm.status() == "running"


@case(deadline=60)
async def shutdown_ends_the_process():
    async with Machine() as vm:
        await press(vm, "s", "shutdown: S5")
        event = await vm.qmp.event("SHUTDOWN")
        assert event["data"] == {"guest": True, "reason": "guest-shutdown"}, event
        assert await vm.exit_code() == 0


@case(deadline=60)
async def panic_ends_the_process_or_pauses():
    async with Machine() as vm:
        await press(vm, "p", "panic")
        event = await vm.qmp.event("GUEST_PANICKED")
        assert event["data"]["action"] == "poweroff", event
        await vm.qmp.event("SHUTDOWN")
        assert await vm.exit_code() == 0
    async with Machine(options=["--action", "panic=pause"]) as vm:
        await press(vm, "p", "panic")
        event = await vm.qmp.event("GUEST_PANICKED")
        assert event["data"]["action"] == "pause", event
        await vm.qmp.event("STOP")
        assert await vm.status() == "guest-panicked"
        # The guest stands behind the instruction that reported the panic.
        await vm.execute("cont")
        await vm.console.expect("The guest goes on")


@case(deadline=60)
async def crash_kernel_is_reported_and_the_guest_goes_on():
    async with Machine() as vm:
        await press(vm, "l", "crash kernel")
        await vm.qmp.event("GUEST_CRASHLOADED")
        await vm.console.expect("The guest goes on")
        assert await vm.status() == "running"


@case(deadline=60)
async def debug_exit_gives_its_code():
    for digit in (0, 3):
        async with Machine() as vm:
            await press(vm, "e", "a digit")
            vm.console.send(str(digit))
            event = await vm.qmp.event("SHUTDOWN")
            assert event["data"] == {"guest": True, "reason": "guest-shutdown"}, event
            assert await vm.exit_code() == 2 * digit + 1


@case(deadline=60)
async def power_button_reaches_the_guest():
    async with Machine() as vm:
        await press(vm, "w", "waiting for the power button")
        # A press before the guest has enabled the button is lost, as on any machine.
        for attempt in range(20):
            await vm.execute("system_powerdown")
            try:
                await vm.console.expect("The power button was pressed", 1)
                break
            except TimeoutError:
                assert attempt < 19
        await vm.console.expect(PROMPT)
        # Nobody waits for it now: the event comes, and nothing else does.
        await vm.execute("system_powerdown")
        vm.console.send("l")
        await vm.console.expect("The guest goes on")


@case(deadline=60)
async def timer_stands_still_while_stopped():
    async with Machine() as vm:
        await press(vm, "n", "counting")
        lines = lambda: vm.console.text.count("\n")
        begin = lines()
        while lines() < begin + 10:
            await asyncio.sleep(0.05)
        await vm.execute("stop")
        await vm.console.silence()
        await asyncio.sleep(3)
        before, begin = lines(), time.monotonic()
        await vm.execute("cont")
        # 18.2 ticks a second: had those of the stop been kept for it, which are 70 and more, they would all come now.
        while lines() < before + 10:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        ticks, most = lines() - before, 18.2 * (time.monotonic() - begin) + 40
        assert ticks < most, f"{ticks} ticks, and at most {most:.0f} are due"
        vm.console.send("k")
        await vm.console.expect(PROMPT)


@case(deadline=60)
async def busy_and_halted_guests_stop_reset_and_end():
    for key, text in (("b", "spinning"), ("h", "halted"), ("d", "interrupts off")):
        async with Machine() as vm:
            await press(vm, key, text)
            await vm.execute("stop")
            assert await vm.status() == "paused"
            await vm.execute("cont")
            await vm.execute("system_reset")
            await vm.console.expect(PROMPT)
            vm.console.send(key)
            await vm.console.expect(text)
            await vm.execute("quit")
            assert await vm.exit_code() == 0


@case(deadline=60)
async def keys_typed_while_stopped_are_not_lost():
    async with Machine() as vm:
        await vm.console.expect(PROMPT)
        await vm.execute("stop")
        vm.console.send("h")
        await asyncio.sleep(0.5)
        vm.console.skip()
        await vm.execute("cont")
        await vm.console.expect("halted")
