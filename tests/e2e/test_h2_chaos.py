"""Clients of HTTP/2 that behave badly at random, in front of origins that do so too: nothing crashes, nothing leaks.

The origins, the configuration and what must hold afterwards are those of test_chaos.py, whose TIDEGATE_E2E_SEED repeats a
run. Here a conversation is a handful of streams whose frames are mixed, left out, cut and, now and then, falsified."""

import asyncio
import logging
import os
import random
import ssl

import pytest

from support import h2_frames as h2
from support import hpack, processes
from support.certificates import make_pair, trusting
from support.daemon import clear
from support.h2 import open_h2
from support.h2_frames import continuation, data, get, headers, ping, post, priority, rst
from support.wait import SMALL, until
from test_chaos import origin_server, reset

CONVERSATIONS = 500 if SMALL else 1500
AT_ONCE = 40


# What a stream does: its frames, in order.

def plain(stream, dice):
    return [get(stream, dice.choice(["/", "/own/", "/a?b"]), method=dice.choice(["GET", "HEAD"]))]


def upload(stream, dice):
    frames = [post(stream, dice.choice(["/", "/own/"]))]
    frames += [data(stream, b"b" * dice.choice([0, 1, 1000, 16000]), pad=dice.choice([None, None, 9]))
               for _ in range(dice.randint(0, 5))]
    return frames + dice.choice([[data(stream, end=True)], [headers(stream, ("x-sum", "7"))], []])


def upload_of_length(stream, dice):
    says, is_there = dice.choice([(5, 5), (5, 5), (5, 4), (5, 6), (0, 0)])
    return [post(stream, "/", ("content-length", str(says))), data(stream, b"l" * is_there, end=dice.random() < 0.8)]


def expecting(stream, dice):
    return [post(stream, "/", ("expect", "100-continue"), ("content-length", "5")), data(stream, b"hello", end=True)]


def cut_head(stream, dice):
    block = hpack.block(*h2.asking(hpack.added(f"x-{dice.randint(0, 9)}", "v" * dice.choice([1, 100, 3000]))))
    at = dice.randrange(len(block))
    return [headers(stream, block[:at], whole=False) + continuation(stream, block[at:], whole=dice.random() < 0.9)]


def websocket(stream, dice):
    ask = headers(stream, (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/t"),
                  (":authority", "a"), ("sec-websocket-version", "13"), end=False)
    return [ask] + [data(stream, b"t" * 50) for _ in range(dice.randint(0, 4))] + dice.choice([[], [data(stream, end=True)]])


def malformed(stream, dice):
    return [get(stream, "/", dice.choice([("Bad", "x"), ("connection", "close"), ("x-a", "a\r\nb"), ("te", "gzip")]))]


STREAMS = [plain, plain, plain, upload, upload, upload_of_length, expecting, cut_head, websocket, malformed]


def beside(stream, dice):
    """A frame that belongs to no request, or ends one."""
    return dice.choice([
        ping(), h2.settings((h2.INITIAL_WINDOW_SIZE, dice.choice([0, 1, 70000]))), h2.settings(ack=True), rst(stream),
        h2.settings((h2.HEADER_TABLE_SIZE, dice.choice([0, 100, 4096]))), rst(stream), rst(stream),
        h2.window_update(0, 1000), h2.window_update(stream, 1000), h2.window_update(stream, 70000), priority(stream, 0),
        h2.frame(0xbb, 0, stream, b"x"), h2.goaway(0), data(stream, b"late", end=True), headers(stream, ("x-late", "1"))])


def frames_of(dice):
    """A conversation's frames, those of its streams in their order, mixed."""
    waiting = [dice.choice(STREAMS)(2 * number + 1, dice) for number in range(dice.randint(1, 8))]
    under_way, mixed, opened = [], [], 0
    while waiting or under_way:
        # Streams open in order, and then go on as they like.
        if waiting and (not under_way or dice.random() < 0.4):
            under_way.append(waiting.pop(0))
            opened += 1
        queue = dice.choice(under_way)
        mixed.append(queue.pop(0))
        under_way = [one for one in under_way if one]
        if dice.random() < 0.2:
            # One in twenty is about a stream that is idle, which ends the connection.
            mixed.append(beside(2 * dice.randint(0, opened - (dice.random() < 0.95)) + 1, dice))
    return mixed


async def conversation(port, dice, context):
    tls = {"ssl": context, "server_hostname": "a.example"} if context else {}
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **tls)
    try:
        octets = h2.PREFACE + h2.settings(*dice.choice([[], [(h2.INITIAL_WINDOW_SIZE, 10)], [(h2.INITIAL_WINDOW_SIZE, 2**31 - 1)]]))
        for one in frames_of(dice):
            if dice.random() < 0.02:
                place = dice.randrange(len(one))
                one = one[:place] + bytes([dice.getrandbits(8)]) + one[place + 1:]
            octets += one
        if dice.random() < 0.2:
            octets = octets[:dice.randint(1, len(octets))]
        while octets:
            piece = dice.choice([9, 100, 3000, 100000])
            writer.write(octets[:piece])
            octets = octets[piece:]
            if dice.random() < 0.3:
                await asyncio.sleep(dice.choice([0, 0, 0.002]))
            if dice.random() < 0.02:
                return
        end = asyncio.get_running_loop().time() + dice.choice([0, 0.02, 0.3])
        while (left := end - asyncio.get_running_loop().time()) > 0:
            if not await asyncio.wait_for(reader.read(dice.choice([100, 100000])), left):
                return
    except (asyncio.TimeoutError, OSError, ssl.SSLError):
        pass
    finally:
        if dice.random() < 0.3 and writer.get_extra_info("socket"):
            reset(writer)
        writer.close()


async def chaos(begin, dice, context):
    server = await asyncio.start_server(origin_server(dice), "127.0.0.1", 0, backlog=1024)
    loop = asyncio.get_running_loop()
    address = "127.0.0.1:%d" % server.sockets[0].getsockname()[1]
    tidegate, port, check = await loop.run_in_executor(None, begin, address)
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number):
        async with gate:
            await conversation(port, random.Random(f"{dice.seed_text}.{number}"), context)
    outcomes = await asyncio.gather(*[one(number) for number in range(CONVERSATIONS)], return_exceptions=True)
    await loop.run_in_executor(None, check)
    server.close()
    return tidegate, [one for one in outcomes if isinstance(one, BaseException)]


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
def test_chaos_leaves_everything_as_it_was(launch, tmp_path, tls):
    seed = os.environ.get("TIDEGATE_E2E_SEED") or str(random.SystemRandom().randrange(10**6))
    print("seed", seed)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    dice = random.Random(seed)
    dice.seed_text = seed
    pair = make_pair(tmp_path, "a.example")
    context = trusting(pair, alpn=["h2"]) if tls else None

    def begin(address):
        config = clear(address, limits={"max_header_bytes": "4KiB"}, timeouts={
            "request_head": "1s", "body_idle": "500ms", "keepalive": "500ms", "upstream_response": "300ms",
            "tunnel_idle": "500ms", "write_idle": "500ms", "upstream_idle": "300ms"})
        config["upstreams"]["app"].update(max_connections_per_endpoint=30, queue={"size": 20, "timeout": "200ms"})
        if tls:
            config["listeners"], config["certificates"] = [{"name": "web", "bind": "127.0.0.1:0", "tls": {}}], [pair.entry()]
        config["routes"].insert(0, {"name": "own", "path": "/own/", "respond": {"status": 200, "body": "pong\n"}})
        tidegate = launch(config)
        worker = tidegate.workers()[0]
        port = tidegate.port()
        before = len(processes.descriptors(worker))

        def check():
            # The last ones may have gone before they were accepted.
            until(lambda: (now := tidegate.counters())["connections_active"] == 0
                  and now["connections_accepted"] >= CONVERSATIONS, "no connection active", 20)
            assert tidegate.workers() == [worker], "the worker lived through it"
            until(lambda: len(processes.descriptors(worker)) <= before + 1,
                  lambda: f"no descriptor leaked; {before} before, now {processes.descriptors(worker)}", 20)
            until(lambda: tidegate.counters()["tunnels_active"] == 0, "no tunnel active")
        return tidegate, port, check
    tidegate, faults = asyncio.run(chaos(begin, dice, context))
    assert not faults, faults[:3]
    counters = tidegate.counters()
    assert counters["connections_accepted"] == CONVERSATIONS and counters["h2_streams"] > CONVERSATIONS

    def all_logged():
        # Connections that ended by a fault have a line of their own, without an id.
        lines = tidegate.access_lines()
        return lines if len([one for one in lines if "id" in one]) == counters["requests_total"] else None
    lines = until(all_logged, lambda: f"a line for each request: {len(tidegate.access_lines())} of {counters['requests_total']}")
    assert not [line for line in lines if line.get("reason") == "internal"]
    with open_h2(tidegate.address(), context=context) as client:
        assert client.get("/own/").body == b"pong\n"
