"""The unmodified `openai` package against the data plane."""

from __future__ import annotations

import openai
import pytest

from services.router.shell.request.gateway import Limits
from tests.support.sound import SoundEngine, sounding
from tests.unit.router.engine import Engine, running
from tests.unit.router.scene import KEY, NAME, a_scene

MESSAGES: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]


def client(base_url: str, key: str = KEY.plaintext) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=base_url, api_key=key, max_retries=0, timeout=60)


async def test_it_lists_models_and_chats_and_completes() -> None:
    async with running(Engine()) as engine, a_scene(engine.url) as scene, client(scene.base_url) as api:
        models = [each.id async for each in await api.models.list()]
        chat = await api.chat.completions.create(model=NAME, messages=MESSAGES, max_tokens=3)
        text = await api.completions.create(model=NAME, prompt="once", temperature=0.5)

        assert models == [NAME]
        assert chat.choices[0].message.content == "tok tok tok "
        assert chat.choices[0].finish_reason == "length"
        assert chat.usage is not None
        assert chat.usage.completion_tokens == 3
        assert text.choices[0].text == "tok " * 5
        assert [(each.api, each.finish) for each in await scene.bills(2)] == [
            ("chat", "length"),
            ("completions", "stop"),
        ]


async def test_it_streams_chats_and_completions() -> None:
    async with running(Engine()) as engine, a_scene(engine.url) as scene, client(scene.base_url) as api:
        chat = await api.chat.completions.create(model=NAME, messages=MESSAGES, stream=True)
        words = [each.choices[0].delta.content or "" async for each in chat]
        text = await api.completions.create(model=NAME, prompt="once", stream=True)
        pieces = [each.choices[0].text async for each in text]

        assert "".join(words) == "".join(pieces) == "tok " * 5


async def test_it_gets_usage_in_the_last_event_when_it_asks() -> None:
    async with running(Engine()) as engine, a_scene(engine.url) as scene, client(scene.base_url) as api:
        stream = await api.chat.completions.create(
            model=NAME, messages=MESSAGES, stream=True, stream_options={"include_usage": True}, max_completion_tokens=4
        )
        events = [each async for each in stream]

        assert [each.usage for each in events[:-1]] == [None] * (len(events) - 1)
        assert events[-1].usage is not None
        assert events[-1].usage.completion_tokens == 4 == (await scene.bill()).completion_tokens


async def test_it_understands_our_refusals() -> None:
    async with running(Engine()) as engine, a_scene(engine.url) as scene:
        async with client(scene.base_url, key="mr_live_nonsense") as wrong:
            with pytest.raises(openai.AuthenticationError) as unknown_key:
                await wrong.chat.completions.create(model=NAME, messages=MESSAGES)
        async with client(scene.base_url) as api:
            with pytest.raises(openai.NotFoundError) as unknown_model:
                await api.chat.completions.create(model="nobodys", messages=MESSAGES)
            with pytest.raises(openai.BadRequestError) as bad_value:
                await api.chat.completions.create(model=NAME, messages=MESSAGES, max_tokens=0)
            with pytest.raises(openai.BadRequestError) as unknown_field:
                await api.chat.completions.create(model=NAME, messages=MESSAGES, extra_body={"cache_salt": "x"})

        assert unknown_key.value.code == "invalid_api_key"
        assert unknown_model.value.code == "model_not_found"
        assert bad_value.value.param == "max_tokens"
        assert unknown_field.value.param == "cache_salt"
        assert engine.requests == []


async def test_it_can_stop_listening_in_the_middle_of_a_stream() -> None:
    async with running(Engine(tokens=1000, delay_s=0.005)) as engine, a_scene(engine.url) as scene:
        async with client(scene.base_url) as api:
            stream = await api.chat.completions.create(model=NAME, messages=MESSAGES, stream=True)
            async for event in stream:
                if event.choices[0].delta.content:
                    break
            await stream.close()

        bill = await scene.bill()
        assert bill.finish == "client_disconnect"
        assert 1 <= bill.completion_tokens <= engine.produced < 1000


async def test_it_raises_when_the_engine_dies_in_the_middle() -> None:
    async with running(Engine(die_after=2)) as engine, a_scene(engine.url) as scene, client(scene.base_url) as api:
        stream = await api.chat.completions.create(model=NAME, messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIError):
            async for _ in stream:
                pass

        assert (await scene.bill()).completion_tokens == 2


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # Of the package's own, about translations.
async def test_it_speaks_and_understands_what_it_spoke() -> None:
    patient = Limits(connect_s=30.0)
    async with sounding(SoundEngine()) as engine, a_scene(limits=patient) as scene, client(scene.base_url) as api:
        scene.serve(engine.url, surfaces=("speech", "transcriptions", "translations"))
        speech = await api.audio.speech.create(model=NAME, voice="tones", input="good morning", response_format="wav")
        file = ("call of my mother.wav", speech.content)
        heard = await api.audio.transcriptions.create(model=NAME, file=file, language="en", temperature=0)
        text = await api.audio.transcriptions.create(model=NAME, file=file, response_format="text")
        other = await api.audio.translations.create(model=NAME, file=file)
        bills = await scene.bills(4)

        assert heard.text == other.text == "good morning"
        assert text.strip() == "good morning"
        assert [(each.api, each.prompt_tokens, each.completion_tokens) for each in bills] == [
            ("speech", None, 0), ("transcriptions", 12, 2), ("transcriptions", None, 0), ("translations", 12, 2),
        ]  # fmt: skip
        assert {name for form in engine.forms for _, name, _ in form if name} == {"file.wav"}
        assert all(b"my mother" not in each for each in engine.heads)


async def test_it_is_told_where_a_model_has_no_sound_and_what_of_sound_is_not_served() -> None:
    async with sounding(SoundEngine()) as engine, a_scene(engine.url) as scene, client(scene.base_url) as api:
        with pytest.raises(openai.NotFoundError) as no_sound:
            await api.audio.speech.create(model=NAME, voice="tones", input="hi")
        scene.serve(engine.url, surfaces=("transcriptions",))
        with pytest.raises(openai.BadRequestError) as streamed:
            await api.audio.transcriptions.create(model=NAME, file=("a.wav", b"x"), stream=True)

        assert (no_sound.value.param, streamed.value.param) == ("model", "stream")
        assert (engine.forms, engine.bodies) == ([], [])
