"""Sound in and out: what of a form is read, what the engine reads, and what of it is billed."""

from __future__ import annotations

import asyncio

import pytest

from services.router.core import audio, openai
from services.router.core.answers import read_answer
from services.router.core.multipart import BOUNDARY, CONTENT_TYPE, PARTS_MAX, read_form
from services.router.core.openai import Ask
from services.router.core.refusals import HttpRefusal
from services.router.core.sse import BadUpstream
from services.router.core.surface import DEFAULT, Api, surfaces_of
from services.router.shell.request.gateway import Limits
from tests.support.sound import SoundEngine, sounding, spoken, understood
from tests.unit.router.scene import NAME, Answer, a_request, a_scene, ask

TYPE = b"multipart/form-data; boundary=XX"
SOUND = spoken("hi")
PATIENT = Limits(connect_s=30.0)
SAY = b'{"model":"%s","input":"hello there","voice":"tones"}' % NAME.encode()


def part(name: str, content: bytes = b"x", *, file: str | None = None, more: bytes = b"") -> bytes:
    named = b"" if file is None else b'; filename="%s"' % file.encode()
    return b'--XX\r\nContent-Disposition: form-data; name="%s"%s\r\n%s\r\n%s\r\n' % (
        name.encode(), named, more, content,
    )  # fmt: skip


def a_form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--XX--\r\n"


def whole(**more: bytes) -> bytes:
    fields = {"model": NAME.encode(), **more}
    return a_form(part("file", SOUND, file="a.wav"), *(part(name, value) for name, value in fields.items()))


def read(body: bytes, api: Api = Api.TRANSCRIPTIONS, *, host: str = "") -> Ask:
    return audio.read_sound(api, body, content_type=TYPE, host=host)


def test_the_engine_reads_the_fields_of_the_client_and_its_own_name_of_the_model() -> None:
    asked = read(whole(language=b"en", response_format=b"text"))

    written = audio.sound_body(asked, engine_model="whisper")

    parts = read_form(TYPE, written.replace(BOUNDARY, b"XX"))
    assert CONTENT_TYPE.endswith(BOUNDARY)

    assert [(each.name, bytes(each.content)) for each in parts] == [
        ("model", b"whisper"), ("file", SOUND), ("language", b"en"), ("response_format", b"text"),
    ]  # fmt: skip
    assert [each.ending for each in parts] == [None, b".wav", None, None]
    assert (asked.endpoint, asked.adapter, asked.stream) == (NAME, "", False)


def test_of_a_files_name_only_its_ending_is_passed_on() -> None:
    body = a_form(part("file", SOUND, file='my \\"secret\\" call.MP3'), part("model", NAME.encode()))

    written = audio.sound_body(read(body), engine_model="m")

    assert b"secret" not in written
    assert b'filename="file.MP3"' in written


def test_a_list_may_have_several_values_and_a_field_may_not() -> None:
    twice = part("timestamp_granularities[]", b"word") + part("timestamp_granularities[]", b"segment")
    rest = (part("file", SOUND, file="a.wav"), part("model", NAME.encode()))

    written = audio.sound_body(read(a_form(*rest, twice)), engine_model="m")
    with pytest.raises(HttpRefusal) as refused:
        read(a_form(*rest, part("model", b"another")))

    assert written.count(b'name="timestamp_granularities[]"') == 2
    assert refused.value.param == "model"


def test_the_address_names_the_endpoint_where_the_form_does_not() -> None:
    file = part("file", SOUND, file="a.wav")

    assert read(a_form(file), host=NAME).endpoint == NAME
    with pytest.raises(HttpRefusal) as other:
        read(a_form(file, part("model", b"another")), host=NAME)
    with pytest.raises(HttpRefusal) as neither:
        read(a_form(file))

    assert (other.value.error_code, neither.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (whole()[:-8], "last boundary"),
        (b"--YY" + whole()[4:], "does not begin"),
        (b"preamble\r\n" + whole(), "does not begin"),
        (whole() + b"more", "followed by"),
        (a_form(), "does not begin"),
        (whole().replace(b"name=", b"nom="), "no name"),
        (whole().replace(b'; name="model"', b'; name="model"; name="file"'), "no name"),
        (whole().replace(b"Content-Disposition:", b"Content-Disposition"), "headers"),
        (whole(prompt=BOUNDARY), "passed on"),
        (a_form(part("file", SOUND, file="a.wav", more=b"content-transfer-encoding: base64\r\n")), "encoded"),
        (a_form(*(part("include[]") for _ in range(PARTS_MAX + 1))), "more than"),
        (a_form(b"--XX\r\nx: " + b"y" * 5000 + b"\r\n\r\nz\r\n"), "too many"),
        (a_form(part("model", NAME.encode())), "provide file"),
        (a_form(part("file", b"", file="a.wav"), part("model", NAME.encode())), "provide file"),
        (a_form(part("file", SOUND), part("model", NAME.encode())), "must be a file"),
        (a_form(part("file", SOUND, file="a.wav"), part("model", NAME.encode(), file="b")), "must be a file"),
        (whole(cache_salt=b"mine"), "Unrecognized"),
        (whole(prompt=b"y" * 70_000), "longer"),
    ],
)  # fmt: skip
def test_a_form_that_can_be_understood_in_two_ways_or_lacks_something_is_refused(body: bytes, says: str) -> None:
    with pytest.raises(HttpRefusal, match=says) as refused:
        read(body)

    assert refused.value.status == 400


@pytest.mark.parametrize(
    "content_type",
    [
        b"multipart/form-data;charset=UTF-8;boundary=XX",  # Spring's client.
        b"multipart/form-data; boundary=XX; charset=ISO-8859-1",  # Apache's.
        b'Multipart/Form-Data; charset="utf-8"; boundary="XX"',
    ],
)
def test_a_form_may_say_its_charset_beside_its_boundary(content_type: bytes) -> None:
    assert audio.read_sound(Api.TRANSCRIPTIONS, whole(), content_type=content_type).endpoint == NAME


@pytest.mark.parametrize("content_type", [b"", b"application/json", b"multipart/form-data", TYPE + b"; boundary=YY"])
def test_what_is_no_form_is_refused(content_type: bytes) -> None:
    with pytest.raises(HttpRefusal, match="multipart/form-data"):
        audio.read_sound(Api.TRANSLATIONS, whole(), content_type=content_type)


def test_a_translation_has_no_language_to_choose() -> None:
    with pytest.raises(HttpRefusal) as refused:
        read(whole(language=b"en"), Api.TRANSLATIONS)

    assert refused.value.param == "language"


def test_what_an_engine_counts_is_billed_and_what_it_does_not_is_unknown() -> None:
    counted = b'{"text":"hi","usage":{"type":"tokens","input_tokens":14,"output_tokens":3,"total_tokens":17}}'
    timed = b'{"text":"hi","usage":{"type":"duration","seconds":2}}'

    found = [read_answer(Api.TRANSCRIPTIONS, each)[0] for each in (counted, timed, b"hi", b"{\\an8} 1")]

    assert [(each.prompt_tokens, each.completion_tokens) for each in found] == [
        (14, 3), (None, 0), (None, 0), (None, 0),
    ]  # fmt: skip
    with pytest.raises(BadUpstream):
        read_answer(Api.TRANSLATIONS, b"")


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (b"audio/mpeg", b"audio/mpeg"), (b"text/vtt; charset=utf-8", b"text/vtt; charset=utf-8"),
        (b"application/json; charset=utf-8", b"application/json"), (b"text/html<script>", b"application/octet-stream"),
        (b"", b"application/octet-stream"),
    ],
)  # fmt: skip
def test_a_client_is_told_what_it_gets(said: bytes, shown: bytes) -> None:
    assert audio.media_of(said) == shown


def test_what_is_to_be_spoken_holds_its_text_of_the_limits_and_no_answer() -> None:
    asked = openai.read(Api.SPEECH, b'{"model":"chatty","input":"%s","voice":"v"}' % (b"x" * 400))

    assert asked.stream
    assert b"stream" not in openai.upstream_body(asked, engine_model="m")
    assert asked.reservation == asked.least == asked.prompt_estimate == 101
    assert b"cache_salt" not in openai.upstream_body(asked, engine_model="m", cache_salt="s")
    with pytest.raises(HttpRefusal) as long:
        openai.read(Api.SPEECH, b'{"model":"chatty","input":"%s","voice":"v"}' % (b"x" * 4097))
    assert long.value.param == "input"


def test_sound_is_served_only_where_the_model_has_it() -> None:
    assert DEFAULT.isdisjoint({Api.SPEECH, Api.TRANSCRIPTIONS, Api.TRANSLATIONS})
    assert surfaces_of(("speech", "chat")) == {Api.SPEECH, Api.CHAT}


async def test_what_was_spoken_is_understood_and_both_are_billed() -> None:
    async with sounding(SoundEngine()) as engine, a_scene(limits=PATIENT) as scene:
        scene.serve(engine.url, surfaces=("speech", "transcriptions"))
        (sound,) = await ask(scene.port, a_request(SAY, path="/v1/audio/speech"))
        heard = await hears(scene.port, a_form(part("file", sound.body, file="a.wav"), part("model", NAME.encode())))
        other = await hears(scene.port, whole(), path="/v1/audio/translations")
        spoke, listened = await scene.bills(2)

    assert (sound.status, sound.headers["content-type"]) == (200, "audio/wav")
    assert understood(sound.body) == "hello there"
    assert (heard.status, heard.headers["content-type"]) == (200, "application/json")
    assert b'"text": "hello there"' in heard.body
    assert (other.status, b"not supported in the v1/audio/translations endpoint" in other.body) == (404, True)
    assert (spoke.api, spoke.prompt_tokens, spoke.completion_tokens, spoke.finish) == ("speech", None, 0, "stop")
    assert spoke.egress_bytes is not None
    assert spoke.egress_bytes > len(sound.body)  # With its head and its framing, as of every stream.
    assert (listened.api, listened.prompt_tokens, listened.completion_tokens) == ("transcriptions", 11, 2)


async def test_an_engine_that_says_nothing_is_a_bad_gateway() -> None:
    async with sounding(SoundEngine(empty=True)) as engine, a_scene(limits=PATIENT) as scene:
        scene.serve(engine.url, surfaces=("speech", "transcriptions"))

        answers = [await hears(scene.port, whole()), *await ask(scene.port, a_request(SAY, path="/v1/audio/speech"))]

    assert [each.status for each in answers] == [502, 502]


async def test_sound_is_passed_on_as_it_is_made_and_who_leaves_is_billed_what_was_delivered() -> None:
    async with sounding(SoundEngine(gate=asyncio.Event())) as engine, a_scene(limits=PATIENT) as scene:
        scene.serve(engine.url, surfaces=("speech",))
        assert engine.gate is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        writer.write(a_request(SAY, path="/v1/audio/speech"))
        async with asyncio.timeout(30):
            begun = await reader.readuntil(b"RIFF")  # The engine has not said the rest, and does not before we leave.
        writer.close()
        left = await scene.bill()
        engine.gate.set()

        assert b"content-type: audio/wav\r\n" in begun
        assert (left.finish, left.completion_tokens) == ("client_disconnect", 0)
        assert left.egress_bytes is not None
        assert left.egress_bytes >= len(begun)


async def test_sound_that_breaks_off_does_not_end_as_if_it_were_whole() -> None:
    async with sounding(SoundEngine(breaks_off=True)) as engine, a_scene(limits=PATIENT) as scene:
        scene.serve(engine.url, surfaces=("speech",))
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        writer.write(a_request(SAY, path="/v1/audio/speech"))
        async with asyncio.timeout(30):
            all_of_it = await reader.read()
        writer.close()

        assert b"RIFF" in all_of_it
        assert not all_of_it.endswith(b"0\r\n\r\n")
        assert b"error" not in all_of_it
        assert (await scene.bill()).finish == "upstream_error"


async def hears(port: int, body: bytes, *, path: str = "/v1/audio/transcriptions") -> Answer:
    (answer,) = await ask(port, a_request(body, path=path, headers=b"content-type: %s\r\n" % TYPE))
    return answer
