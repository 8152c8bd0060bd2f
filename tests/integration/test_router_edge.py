"""The data plane against a real engine over real sockets: what is asked, answered, retried, broken off, billed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from pathlib import Path

import pytest

from libs.common import keys
from libs.common.errors import Unavailable
from libs.common.events.runtime import Replica
from libs.common.ids import SystemEntropy
from services.router.core.retries import SPARE_MAX
from services.router.core.serving import Row
from services.router.shell.edge.outgoing import MOVED_BYTES
from services.router.shell.engines.waiting import Places
from services.router.shell.journal.durable import Durable
from services.router.shell.journal.memory import MemoryUsageJournal
from services.router.shell.request.gateway import Limits
from tests.unit.router.engine import Engine, running
from tests.unit.router.scene import (
    ENDPOINT,
    KEY,
    OTHER_KEY,
    a_request,
    a_route,
    a_scene,
    ask,
    chat_body,
    key_entry,
    read_answer,
)


async def test_an_answer_reaches_the_client_after_its_bill_is_written(tmp_path: Path) -> None:
    async with running(Engine()) as engine, a_scene(engine.url, journal_path=tmp_path / "j.db") as scene:
        (answer,) = await ask(scene.port, a_request(chat_body()))

        assert answer.status == 200
        assert json.loads(answer.body)["usage"]["completion_tokens"] == 5
        bill = await scene.bill()
        assert (bill.completion_tokens, bill.prompt_tokens, bill.finish) == (5, 5, "stop")
        assert answer.headers["x-request-id"] == bill.request_id


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
async def test_clients_and_engines_may_have_addresses_of_ipv6_and_clients_of_both_kinds() -> None:
    async with running(Engine(host="::1")) as engine, a_scene(engine.url, host="::") as scene:
        allowed = key_entry(KEY).model_copy(update={"allowed_ips": ("::1/128", "127.0.0.0/8")})
        scene.gateway.keyring.change(KEY.key_id, allowed)
        for address in ("::1", "127.0.0.1"):
            reader, writer = await asyncio.open_connection(address, scene.port)
            writer.write(a_request(chat_body()))
            assert (await read_answer(reader)).status == 200
            writer.close()

        assert all(b"host: [::1]:%d\r\n" % engine.port in head for head in engine.heads)


async def test_a_stream_is_passed_on_without_the_usage_that_only_we_asked_for() -> None:
    async with running(Engine()) as engine, a_scene(engine.url) as scene:
        (answer,) = await ask(scene.port, a_request(chat_body(stream=True)))

        assert answer.body.endswith(b"data: [DONE]\n\n")
        assert b"usage" not in answer.body
        assert answer.body.count(b"tok ") == 5
        assert engine.requests[0]["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
        assert engine.requests[0]["model"] == "millrace/ngram-1"
        assert (await scene.bill()).token_source == "engine_final"


async def test_a_client_that_asks_for_usage_gets_it_once_at_the_end() -> None:
    async with running(Engine()) as engine, a_scene(engine.url) as scene:
        body = chat_body(stream=True, stream_options={"include_usage": True})
        (answer,) = await ask(scene.port, a_request(body))

        events = [json.loads(each[6:]) for each in answer.body.decode().split("\n\n")[:-2]]
        assert [each["usage"] for each in events[:-1]] == [None] * (len(events) - 1)
        assert events[-1]["choices"] == []
        assert events[-1]["usage"]["completion_tokens"] == (await scene.bill()).completion_tokens == 5


async def test_the_engine_sees_neither_the_clients_key_nor_its_headers() -> None:
    async with running(Engine()) as engine, a_scene(engine.url) as scene:
        await ask(scene.port, a_request(chat_body(), headers=b"x-secret: canary\r\ncookie: canary\r\n"))

        assert b"authorization" not in engine.heads[0].lower()
        assert b"canary" not in engine.heads[0]


async def test_a_stream_that_breaks_off_is_billed_as_far_as_it_went() -> None:
    async with running(Engine(die_after=3)) as engine, a_scene(engine.url) as scene:
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        writer.write(a_request(chat_body(stream=True)))
        seen = await asyncio.wait_for(reader.read(-1), 60)
        writer.close()

        bill = await scene.bill()
        assert seen.count(b"tok ") == 3 == bill.completion_tokens
        assert (bill.finish, bill.token_source) == ("upstream_error", "engine_running")
        assert b'"code":"upstream_error"' in seen
        assert b"[DONE]" not in seen
        assert not seen.endswith(b"0\r\n\r\n")


async def test_a_stream_whose_replica_is_replaced_goes_on_and_says_so_if_it_is_cut_at_the_deadline() -> None:
    async with (
        running(Engine(tokens=100, die_after=30, delay_s=0.02)) as old,
        running(Engine()) as new,
        a_scene(old.url) as scene,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        writer.write(a_request(chat_body(stream=True)))
        await asyncio.wait_for(reader.readuntil(b"tok "), 30)

        scene.serve(new.url)
        seen = await asyncio.wait_for(reader.read(-1), 30)
        writer.close()

        bill = await scene.bill()
        assert (bill.finish, bill.completion_tokens) == ("drain_cut", 30)
        assert seen.count(b"tok ") == 29  # And the one that was read before.
        assert new.requests == []


async def test_a_key_that_is_revoked_ends_what_runs_for_it_and_nothing_else() -> None:
    waits = Limits(places=Places(outstanding_max=3))
    async with running(Engine(tokens=10_000, delay_s=0.01)) as engine, a_scene(engine.url, limits=waits) as scene:
        spare = keys.mint(SystemEntropy())
        scene.gateway.keyring.change(spare.key_id, key_entry(spare))
        streaming, whole, queued, other = [
            (await asyncio.open_connection("127.0.0.1", scene.port), a_request(chat_body(stream=stream), key=key))
            for stream, key in [
                (True, KEY.plaintext),
                (False, KEY.plaintext),
                (True, KEY.plaintext),
                (True, spare.plaintext),
            ]
        ]
        for (_, writer), request in (streaming, other, whole):
            writer.write(request)
        await asyncio.wait_for(streaming[0][0].readuntil(b"tok "), 30)
        await scene.until(lambda: engine.in_flight == 3)
        queued[0][1].write(queued[1])
        await scene.until(lambda: scene.table.live_total() == 4)

        scene.gateway.keyring.change(KEY.key_id, None)

        seen = await asyncio.wait_for(streaming[0][0].read(-1), 30)
        assert b'"code":"invalid_api_key"' in seen
        assert b"[DONE]" not in seen
        assert [(await read_answer(each[0][0])).status for each in (whole, queued)] == [401, 401]
        await asyncio.wait_for(other[0][0].readuntil(b"tok "), 30)
        assert scene.table.live_total() == 1
        other[0][1].close()
        cut, unanswered = sorted(await scene.bills(3), key=lambda row: row.request_id)[:3:2]
        assert (cut.finish, cut.completion_tokens) == ("key_revoked", seen.count(b"tok ") + 1)
        assert (unanswered.finish, unanswered.completion_tokens) == ("key_revoked", 0)


async def test_a_request_that_is_still_being_sent_when_its_key_is_revoked_is_not_served() -> None:
    async with running(Engine()) as engine, a_scene(engine.url, limits=Limits()) as scene:
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        request = a_request(chat_body(), headers=b"expect: 100-continue\r\n")
        writer.write(request[:-5])
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)  # Its head, and so its key, was found good.

        scene.gateway.keyring.change(KEY.key_id, None)
        answer = await read_answer(reader)
        writer.write(request[-5:])

        assert answer.status == 401
        assert await asyncio.wait_for(reader.read(-1), 30) == b""
        assert engine.requests == []


async def test_what_waits_behind_a_request_whose_key_is_revoked_is_not_served_either() -> None:
    async with running(Engine(gate=asyncio.Event())) as engine, a_scene(engine.url, limits=Limits()) as scene:
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        writer.write(a_request(chat_body()) * 2)
        await scene.until(lambda: engine.in_flight == 1)

        scene.gateway.keyring.change(KEY.key_id, None)

        assert [(await read_answer(reader)).status for _ in range(2)] == [401, 401]
        assert await asyncio.wait_for(reader.read(-1), 30) == b""
        assert len(engine.requests) == 1


async def test_garbage_in_a_stream_ends_it_with_an_error_and_a_bill() -> None:
    async with running(Engine(garbage_after=2, delay_s=0.02)) as engine, a_scene(engine.url) as scene:
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        writer.write(a_request(chat_body(stream=True)))
        seen = await asyncio.wait_for(reader.read(-1), 60)
        writer.close()

        assert seen.count(b"tok ") == (await scene.bill()).completion_tokens == 2
        assert b"{{{" not in seen


@pytest.mark.parametrize("raw", [b"\x00\x01\x02 nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{{{"])
async def test_an_engine_that_speaks_nonsense_is_a_bad_gateway(raw: bytes) -> None:
    async with running(Engine(raw_answer=raw)) as engine, a_scene(engine.url) as scene:
        (answer,) = await ask(scene.port, a_request(chat_body()))

        assert answer.status == 502
        assert answer.error["code"] == "upstream_error"
        assert 1 <= int(answer.headers["retry-after"]) <= 3
        assert (await scene.bill()).completion_tokens == 0


async def test_a_request_is_tried_once_more_on_another_replica_before_the_first_byte() -> None:
    async with (
        running(Engine(refuse_connections=9)) as bad,
        running(Engine()) as good,
        a_scene(bad.url, good.url) as scene,
    ):
        answers = [(await ask(scene.port, a_request(chat_body(stream=True))))[0] for _ in range(4)]

        assert [each.status for each in answers] == [200] * 4
        assert bad.connections > 0
        assert len(good.requests) == 4
        assert len(await scene.bills(4)) == 4


async def test_a_kept_connection_that_the_engine_closed_costs_no_request() -> None:
    async with running(Engine(idle_s=0.05)) as engine, a_scene(engine.url) as scene:
        for _ in range(5):
            (answer,) = await ask(scene.port, a_request(chat_body()))
            assert answer.status == 200
            await asyncio.sleep(0.08)

        assert len(engine.requests) == 5


async def test_connections_to_the_engine_are_kept() -> None:
    async with running(Engine()) as engine, a_scene(engine.url) as scene:
        for stream in (False, True, False, True):
            await ask(scene.port, a_request(chat_body(stream=stream)))

        assert engine.connections == 1


async def test_a_dead_engine_is_a_bad_gateway_and_no_replica_is_unavailable() -> None:
    async with a_scene("http://127.0.0.1:9") as scene:
        (dead,) = await ask(scene.port, a_request(chat_body()))
        scene.serve()
        (none,) = await ask(scene.port, a_request(chat_body()))

        assert (dead.status, dead.error["code"]) == (502, "upstream_error")
        assert (none.status, none.error["code"]) == (503, "no_replica")
        assert 2 <= int(none.headers["retry-after"]) <= 5
        assert len(await scene.bills(1)) == 1


async def test_a_silent_engine_is_a_gateway_timeout() -> None:
    limits = Limits(connect_s=0.5, first_byte_s=0.2, idle_s=1.0, total_s=5.0)
    async with running(Engine(first_delay_s=3)) as engine, a_scene(engine.url, limits=limits) as scene:
        (answer,) = await ask(scene.port, a_request(chat_body(stream=True)))

        assert (answer.status, answer.error["code"]) == (504, "timeout")
        assert (await scene.bill()).finish == "upstream_error"


async def test_a_stream_that_falls_silent_is_ended() -> None:
    limits = Limits(connect_s=0.5, first_byte_s=1.0, idle_s=0.3, total_s=5.0)
    async with running(Engine(delay_s=2.0)) as engine, a_scene(engine.url, limits=limits) as scene:
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        writer.write(a_request(chat_body(stream=True)))
        seen = await asyncio.wait_for(reader.read(-1), 60)
        writer.close()

        assert b'"code":"timeout"' in seen
        assert (await scene.bill()).completion_tokens == 0


async def test_what_the_engine_calls_the_clients_mistake_is_told_in_openais_shape() -> None:
    async with running(Engine(status=400)) as engine, a_scene(engine.url) as scene:
        (answer,) = await ask(scene.port, a_request(chat_body()))

        assert answer.status == 400
        assert answer.error["message"] == "too long"
        assert len(engine.requests) == 1


@pytest.mark.parametrize(
    "words",
    [
        "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.",
        "The decoder prompt (length 9000) is longer than the maximum model length of 8192.",
        "The input (9000 tokens) is longer than the model's context length (8192 tokens).",
        "the request exceeds the available context size, try increasing it",
    ],
)
async def test_a_prompt_that_is_too_long_is_called_by_openais_name(words: str) -> None:
    said = json.dumps({"error": {"message": words, "type": "BadRequestError", "code": 400}}).encode()
    async with running(Engine(status=400, error_body=said)) as engine, a_scene(engine.url) as scene:
        (answer,) = await ask(scene.port, a_request(chat_body()))

        assert (answer.error["code"], answer.error["message"]) == ("context_length_exceeded", words)
        assert answer.error["type"] == "invalid_request_error"


async def test_a_failing_engine_is_asked_twice_and_its_words_are_kept_from_the_client() -> None:
    async with running(Engine(status=500, error_body=b"Traceback canary")) as engine, a_scene(engine.url) as scene:
        (answer,) = await ask(scene.port, a_request(chat_body()))

        assert answer.status == 502
        assert b"canary" not in answer.body
        assert len(engine.requests) == 2


async def test_engines_that_all_fail_are_not_asked_twice_for_long() -> None:
    async with (
        running(Engine(status=500)) as one,
        running(Engine(status=500)) as two,
        a_scene(one.url, two.url) as scene,
    ):
        for _ in range(40):
            answers = await ask(scene.port, *(a_request(chat_body()) for _ in range(5)))
            assert {each.status for each in answers} == {502}

        assert len(one.requests) + len(two.requests) == 200 + SPARE_MAX


async def test_a_stream_without_its_last_word_is_complete_if_the_engine_gave_a_reason() -> None:
    async with running(Engine(forget_done=True)) as engine, a_scene(engine.url) as scene:
        (answer,) = await ask(scene.port, a_request(chat_body(stream=True)))

        assert answer.body.endswith(b"data: [DONE]\n\n")
        assert (await scene.bill()).finish == "stop"


async def test_pieces_are_counted_where_the_engine_gives_no_running_usage() -> None:
    async with running(Engine(running_usage=False, die_after=4)) as engine, a_scene(engine.url) as scene:
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        writer.write(a_request(chat_body(stream=True)))
        await asyncio.wait_for(reader.read(-1), 60)
        writer.close()

        bill = await scene.bill()
        assert (bill.completion_tokens, bill.token_source, bill.prompt_tokens) == (4, "checkpoint", None)


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with running(Engine(delay_s=0.01)) as engine, a_scene(engine.url) as scene:
        answers = await ask(
            scene.port,
            a_request(chat_body(stream=True, max_tokens=1)),
            b"GET /healthz HTTP/1.1\r\nhost: r\r\n\r\n",
            a_request(chat_body(max_tokens=3)),
        )

        assert [each.status for each in answers] == [200, 200, 200]
        assert answers[0].body.count(b"tok ") == 1
        assert answers[1].body == b'{"status":"ok"}'
        assert json.loads(answers[2].body)["usage"]["completion_tokens"] == 3


async def test_a_body_may_come_in_chunks_and_after_a_continue() -> None:
    async with running(Engine()) as engine, a_scene(engine.url) as scene:
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        head = a_request(b"", headers=b"transfer-encoding: chunked\r\nexpect: 100-continue\r\n")
        writer.write(head.replace(b"content-length: 0\r\n", b""))
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60) == b"HTTP/1.1 100 Continue\r\n\r\n"
        body = chat_body()
        for byte in body:
            writer.write(b"1\r\n%c\r\n" % byte)
        writer.write(b"0\r\nx-trailer: dropped\r\n\r\n")

        answer = await read_answer(reader)

        writer.close()
        assert answer.status == 200


async def test_a_request_may_arrive_byte_by_byte() -> None:
    async with running(Engine()) as engine, a_scene(engine.url) as scene:
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        for byte in a_request(chat_body(stream=True)):
            writer.write(bytes([byte]))
            await asyncio.sleep(0)

        answer = await read_answer(reader)

        writer.close()
        assert answer.body.count(b"tok ") == 5


async def test_models_are_those_of_the_keys_own_project() -> None:
    async with a_scene("http://127.0.0.1:9") as scene:
        request = b"GET /v1/models HTTP/1.1\r\nhost: r\r\nauthorization: Bearer %s\r\n\r\n"
        (mine,) = await ask(scene.port, a_get("/v1/models"))
        (others,) = await ask(scene.port, request % OTHER_KEY.plaintext.encode())
        (one,) = await ask(scene.port, a_get("/v1/models/chatty"))
        (none,) = await ask(scene.port, a_get("/v1/models/unknown"))

        assert [each["id"] for each in json.loads(mine.body)["data"]] == ["chatty"]
        assert json.loads(others.body)["data"] == []
        assert json.loads(one.body)["object"] == "model"
        assert none.error["code"] == "model_not_found"


async def test_an_adapter_is_found_however_its_slash_is_written() -> None:
    async with a_scene("http://127.0.0.1:9") as scene:
        scene.serve("http://127.0.0.1:9", adapters=("legal",))

        found = [(await ask(scene.port, a_get(f"/v1/models/chatty{slash}legal")))[0] for slash in ("/", "%2F", "%2f")]

        assert [json.loads(each.body)["id"] for each in found] == ["chatty/legal"] * 3


async def test_a_foreign_endpoint_looks_like_one_that_does_not_exist() -> None:
    async with a_scene("http://127.0.0.1:9") as scene:
        (foreign,) = await ask(scene.port, a_request(chat_body(), key=OTHER_KEY.plaintext))
        (unknown,) = await ask(scene.port, a_request(chat_body(model="chatty2")))

        assert foreign.status == unknown.status == 404
        assert str(foreign.error).replace("chatty", "") == str(unknown.error).replace("chatty2", "")


async def test_draining_lets_streams_finish_and_cuts_what_is_left_with_a_bill() -> None:
    async with running(Engine(tokens=10_000, delay_s=0.01)) as engine, a_scene(engine.url) as scene:
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        writer.write(a_request(chat_body(stream=True)))
        short_reader, short_writer = await asyncio.open_connection("127.0.0.1", scene.port)
        short_writer.write(a_request(chat_body(stream=True, max_tokens=20)))
        await asyncio.wait_for(reader.readuntil(b"tok "), 60)

        await scene.edge.drain()

        whole = await read_answer(short_reader)
        seen = b"tok " + await asyncio.wait_for(reader.read(-1), 60)
        writer.close()
        short_writer.close()
        cut, complete = sorted(await scene.bills(2), key=lambda each: each.finish == "length")
        assert whole.body.count(b"tok ") == complete.completion_tokens == 20
        assert seen.count(b"tok ") == cut.completion_tokens
        assert b'"code":"unavailable"' in seen


async def test_cutting_an_endpoint_ends_its_streams_and_counts_them() -> None:
    async with running(Engine(tokens=10_000, delay_s=0.01)) as engine, a_scene(engine.url) as scene:
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        writer.write(a_request(chat_body(stream=True)))
        await asyncio.wait_for(reader.readuntil(b"tok "), 60)

        await asyncio.to_thread(scene.table.cut, ENDPOINT)

        seen = b"tok " + await asyncio.wait_for(reader.read(-1), 60)
        writer.close()
        assert seen.count(b"tok ") == (await scene.bill()).completion_tokens
        assert (scene.table.streams_cut(ENDPOINT), scene.table.live(ENDPOINT)) == (1, 0)


async def test_a_slow_reader_slows_the_engine_down_and_gets_all() -> None:
    text = "tok " + "x" * 4000
    limits = Limits(connect_s=0.5, first_byte_s=5.0, idle_s=5.0, total_s=30.0)
    async with running(Engine(tokens=4000, text=text)) as engine, a_scene(engine.url, limits=limits) as scene:
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port, limit=2**16)
        writer.write(a_request(chat_body(stream=True)))
        await asyncio.sleep(0.5)

        assert engine.produced < 4000

        answer = await read_answer(reader)
        writer.close()
        assert answer.body.count(b"tok ") == 4000 == (await scene.bill()).completion_tokens


@pytest.mark.parametrize("headers", [b"", b"connection: close\r\n"], ids=["kept", "to be closed"])
async def test_who_takes_long_to_read_a_whole_answer_gets_all_of_it_as_long_as_it_reads(headers: bytes) -> None:
    answer_bytes, late_s = 16_000_000, 1_000.0  # More than the sockets between us hold.
    async with running(Engine(tokens=1, text="x" * answer_bytes)) as engine, a_scene(engine.url) as scene:
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        narrow.connect(("127.0.0.1", scene.port))
        reader, writer = await asyncio.open_connection(sock=narrow, limit=2**16)
        writer.write(a_request(chat_body(), headers=headers))
        await scene.bill()
        (connection,) = scene.edge._connections
        now_s = scene.gateway.now_s()

        for looks in (1, 2):
            enough = connection.sent() + MOVED_BYTES
            await reader.readexactly(answer_bytes // 8)
            async with asyncio.timeout(30):
                while connection.sent() < enough:
                    await asyncio.sleep(0.01)
            connection.sweep(now_s + looks * late_s)
            assert connection in scene.edge._connections
        connection.sweep(now_s + 3 * late_s)  # It has taken nothing since.

        await scene.until(lambda: connection not in scene.edge._connections)
        writer.close()


async def test_a_reader_that_stands_still_is_given_up_and_billed_for_no_more_than_its_socket_took() -> None:
    text = "tok " + "x" * 4000
    limits = Limits(connect_s=0.5, first_byte_s=5.0, idle_s=0.4, total_s=30.0)
    async with running(Engine(tokens=4000, text=text)) as engine, a_scene(engine.url, limits=limits) as scene:
        _, writer = await asyncio.open_connection("127.0.0.1", scene.port, limit=2**12)
        writer.write(a_request(chat_body(stream=True)))

        bill = await scene.bill()

        writer.close()
        assert bill.finish == "client_disconnect"
        assert 0 < bill.completion_tokens < 4000


async def test_the_journal_out_of_order_means_no_service_rather_than_no_bill() -> None:
    async with running(Engine()) as engine, a_scene(engine.url, journal=FullJournal("b1")) as scene:
        (answer,) = await ask(scene.port, a_request(chat_body()))

        assert (answer.status, answer.error["code"]) == (503, "unavailable")
        assert engine.requests == []
        assert scene.table.live(ENDPOINT) == 0


class HeldJournal(MemoryUsageJournal):
    """A journal whose disk takes its time: each step is durable when the test says so."""

    def __init__(self) -> None:
        super().__init__("b1")
        self.begun = Durable()
        self.finished = Durable()

    def on_disk(self) -> Durable:
        return self.begun

    def finish(self, row: Row) -> Durable:
        super().finish(row)
        return self.finished


@pytest.mark.parametrize("stream", [True, False])
async def test_the_first_content_waits_for_the_first_row_and_the_end_of_the_answer_for_the_last(stream: bool) -> None:
    journal = HeldJournal()
    async with running(Engine()) as engine, a_scene(engine.url, journal=journal) as scene:
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        writer.write(a_request(chat_body(stream=stream)))
        await scene.until(lambda: len(engine.requests) == 1)
        assert len(journal.file.live) + len(journal.file.done) == 1
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(65536), 0.2)

        journal.begun.settle()
        seen = b""
        while stream and seen.count(b"tok ") < 5:
            seen += await asyncio.wait_for(reader.read(65536), 60)
        with contextlib.suppress(TimeoutError):
            while True:
                seen += await asyncio.wait_for(reader.read(65536), 0.3)
        assert seen.count(b"tok ") == (5 if stream else 0)
        assert b"[DONE]" not in seen
        await scene.until(lambda: journal.backlog() == 1)

        journal.finished.settle()
        rest = await asyncio.wait_for(reader.read(65536), 60)
        writer.close()
        assert (b"[DONE]" if stream else b"completion_tokens") in rest


class FullJournal(MemoryUsageJournal):
    """A journal whose disk is full."""

    def begin(self, row: Row) -> None:
        raise Unavailable("the usage journal can't be written: No space left on device")


def a_get(path: str) -> bytes:
    return a_request(b"", path=path).replace(b"POST", b"GET").replace(b"content-length: 0\r\n", b"")


async def test_each_replica_is_asked_for_the_model_that_it_serves() -> None:
    async with running(Engine()) as old, running(Engine()) as new, a_scene() as scene:
        replicas = (Replica(name="old", url=old.url, model="m-1"), Replica(name="new", url=new.url, model="m-2"))
        route = a_route(()).model_copy(update={"replicas": replicas})
        scene.table.change(ENDPOINT, route.model_dump_json().encode())

        for _ in range(8):
            (answer,) = await ask(scene.port, a_request(chat_body()))
            assert answer.status == 200

    assert {each["model"] for each in old.requests} == {"m-1"}
    assert {each["model"] for each in new.requests} == {"m-2"}


async def test_a_retry_on_a_replica_of_the_other_model_is_asked_in_its_name() -> None:
    async with running(Engine(refuse_connections=100)) as old, running(Engine()) as new, a_scene() as scene:
        replicas = (Replica(name="old", url=old.url, model="m-1"), Replica(name="new", url=new.url, model="m-2"))
        route = a_route(()).model_copy(update={"replicas": replicas})
        scene.table.change(ENDPOINT, route.model_dump_json().encode())

        answers = [(await ask(scene.port, a_request(chat_body())))[0].status for _ in range(4)]

    assert answers == [200] * 4
    assert {each["model"] for each in new.requests} == {"m-2"}


async def test_a_paused_endpoint_is_refused_as_such_without_an_invitation_to_try_again_and_is_not_listed() -> None:
    async with a_scene() as scene:
        route = a_route(()).model_copy(update={"paused": True})
        scene.table.change(ENDPOINT, route.model_dump_json().encode())

        (refused,) = await ask(scene.port, a_request(chat_body()))
        (listed,) = await ask(scene.port, a_request(b"", path="/v1/models").replace(b"POST", b"GET", 1))

        assert refused.status == 503
        assert (refused.error["code"], refused.error["param"]) == ("endpoint_paused", "model")
        assert "retry-after" not in refused.headers
        assert json.loads(listed.body)["data"] == []
        assert scene.table.live(ENDPOINT) == 0
        assert scene.journal.backlog() == 0
