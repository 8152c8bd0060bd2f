// OpenAI's own package for Node, put through the list: node openai_node.mjs <place as JSON> <call>...
import OpenAI, { APIError, APIConnectionTimeoutError, toFile } from "openai";

const place = JSON.parse(process.argv[2]);
const api = new OpenAI({ baseURL: place.base_url, apiKey: place.key, maxRetries: 0 });
const PROMPT = "What is a millrace for?";
const WEATHER = "What is the weather in Paris";
const PERSON = "The miller is 41 and called Ann";
const schema = (properties) => ({
  type: "object", properties, required: Object.keys(properties), additionalProperties: false,
});
const CITY = schema({ city: { type: "string" } });
const SCHEMA = schema({ name: { type: "string" }, age: { type: "integer" } });
const TOOL = { type: "function", function: { name: "get_weather", description: "Now.", parameters: CITY } };
const LONG = { max_tokens: place.long, ignore_eos: true };

const ask = (more = {}, options = {}, text = PROMPT) =>
  api.chat.completions.create({ model: place.model, messages: [{ role: "user", content: text }], ...more }, options);

async function refused(promise) {
  try {
    await promise;
  } catch (wrong) {
    if (!(wrong instanceof APIError)) throw wrong;
    return {
      status: wrong.status, code: wrong.code, param: wrong.param, kind: wrong.constructor.name,
      retry_after: wrong.headers.get("retry-after"), remaining: wrong.headers.get("x-ratelimit-remaining-requests"),
    };
  }
  throw new Error("it was not refused");
}

function chatted({ choices: [{ message, finish_reason }], usage }) {
  const { prompt_tokens, completion_tokens } = usage;
  return { text: message.content, finish: finish_reason, prompt_tokens, completion_tokens };
}

async function streamed(more = {}) {
  let [pieces, finish, completion_tokens] = [0, null, null];
  for await (const chunk of await ask({ stream: true, max_tokens: place.limit, ignore_eos: true, ...more })) {
    completion_tokens = chunk.usage?.completion_tokens ?? completion_tokens;
    for (const choice of chunk.choices) {
      pieces += choice.delta.content ? 1 : 0;
      finish = choice.finish_reason ?? finish;
    }
  }
  return { pieces, finish, completion_tokens };
}

const called = ({ name, arguments: given }) => ({ tool: name, arguments: JSON.parse(given) });
const near = (a, b) => a.reduce((sum, each, index) => sum + each * b[index], 0);

const calls = {
  async rate_limited() {
    await ask({ model: place.limited, max_tokens: 1 });
    await ask({ model: place.limited, max_tokens: 1 });
    return refused(ask({ model: place.limited, max_tokens: 1 }));
  },
  async list_models() {
    const ids = [];
    for await (const each of api.models.list()) ids.push(each.id);
    return { ids, wanted: [place.model, place.limited], found: (await api.models.retrieve(place.model)).id };
  },
  chat: async () => chatted(await ask()),
  stream: () => streamed(),
  stream_with_usage: () => streamed({ stream_options: { include_usage: true } }),
  tools: async () => called((await ask({ tools: [TOOL] }, {}, WEATHER)).choices[0].message.tool_calls[0].function),
  async tools_streamed() {
    const messages = [{ role: "user", content: WEATHER }];
    const whole = await api.chat.completions
      .stream({ model: place.model, messages, tools: [TOOL] })
      .finalChatCompletion();
    return called(whole.choices[0].message.tool_calls[0].function);
  },
  async tool_answered() {
    const { message } = (await ask({ tools: [TOOL] }, {}, WEATHER)).choices[0];
    const answer = { role: "tool", tool_call_id: message.tool_calls[0].id, content: "Rain." };
    return chatted(await ask({ messages: [{ role: "user", content: WEATHER }, message, answer], tools: [TOOL] }));
  },
  json_mode: async () => ({
    text: (await ask({ response_format: { type: "json_object" } })).choices[0].message.content,
  }),
  async json_schema() {
    const wanted = { type: "json_schema", json_schema: { name: "person", strict: true, schema: SCHEMA } };
    const answer = await ask({ response_format: wanted }, {}, PERSON);
    return { value: JSON.parse(answer.choices[0].message.content) };
  },
  async embeddings() {
    const { data } = await api.embeddings.create({ model: place.model, input: ["the mill", "the mill", "an ox"] });
    const [one, same, other] = data.map((each) => each.embedding);
    return { count: data.length, dimensions: one.length, same: near(one, same), other: near(one, other) };
  },
  async responses() {
    const said = await api.responses.create({ model: place.model, input: PROMPT, max_output_tokens: place.limit });
    return { text: said.output_text, output_tokens: said.usage.output_tokens };
  },
  async responses_streamed() {
    let [text, output_tokens] = ["", 0];
    const asked = { model: place.model, input: PROMPT, max_output_tokens: place.limit, stream: true };
    for await (const event of await api.responses.create(asked)) {
      if (event.type === "response.output_text.delta") text += event.delta;
      if (["response.completed", "response.incomplete"].includes(event.type)) {
        output_tokens = event.response.usage.output_tokens;
      }
    }
    return { text, output_tokens };
  },
  async sound() {
    const model = place.sound;
    const spoken = await api.audio.speech.create({ model, voice: "tones", input: place.spoken, response_format: "wav" });
    const file = await toFile(Buffer.from(await spoken.arrayBuffer()), "spoken.wav");
    const { text } = await api.audio.transcriptions.create({ model, file });
    return { heard: text, as_text: await api.audio.transcriptions.create({ model, file, response_format: "text" }) };
  },
  no_sound: () => refused(api.audio.speech.create({ model: place.model, voice: "tones", input: "a" })),
  async timeout() {
    try {
      await ask(LONG, { timeout: 500 });
    } catch (wrong) {
      if (wrong instanceof APIConnectionTimeoutError) return { error: "timeout" };
      throw wrong;
    }
    throw new Error("it came in time");
  },
  async cancelled_mid_stream() {
    let seen = 0;
    const chunks = await ask({ ...LONG, stream: true });
    for await (const chunk of chunks) {
      seen += chunk.choices[0].delta.content ? 1 : 0;
      if (seen === 3) break;
    }
    return { seen };
  },
  wrong_key: () =>
    refused(api.withOptions({ apiKey: "sk-nonsense" }).chat.completions.create({ model: place.model, messages: [] })),
  unknown_model: () => refused(ask({ model: "nobodys" })),
  unknown_field: () => refused(ask({ cache_salt: "x" })),
  async retried() {
    const retry_after = Number((await refused(ask({ model: place.limited, max_tokens: 1 }))).retry_after);
    const began = performance.now();
    const answer = await ask({ model: place.limited, max_tokens: 1 }, { maxRetries: 1 });
    return {
      waited_s: (performance.now() - began) / 1000, retry_after, text: answer.choices[0].message.content,
    };
  },
};

for (const name of process.argv.slice(3)) {
  let said;
  try {
    said = { call: name, result: name in calls ? await calls[name]() : null };
  } catch (wrong) {
    said = { call: name, failed: `${wrong?.constructor?.name}: ${wrong?.message}` };
  }
  console.log(JSON.stringify(said));
}
