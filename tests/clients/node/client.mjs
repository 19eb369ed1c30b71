// The official Node SDK against a gateway: prints, last, one JSON object with what it saw. Arguments: base URL, key.
import OpenAI from "openai";

const [baseURL, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 20_000 });
const messages = [{ role: "user", content: "Hi" }];
const tools = [
  { type: "function", function: { name: "get_weather", parameters: { type: "object", properties: {} } } },
];
const seen = {};

const ids = [];
for await (const model of client.models.list()) ids.push(model.id);
seen.models = ids;
seen.retrieved = (await client.models.retrieve("corp/meta/llama 3:8b")).id;

for (const provider of ["corp", "claude"]) {
  const { data, response } = await client.chat.completions
    .create({ model: `${provider}/text`, messages })
    .withResponse();
  const stream = await client.chat.completions.create({
    model: `${provider}/text`,
    messages,
    stream: true,
    stream_options: { include_usage: true },
  });
  const pieces = [];
  let total = null;
  for await (const chunk of stream) {
    if (chunk.choices[0]?.delta?.content) pieces.push(chunk.choices[0].delta.content);
    total = chunk.usage?.total_tokens ?? total;
  }
  const called = await client.chat.completions
    .stream({ model: `${provider}/tools`, messages, tools })
    .finalChatCompletion();
  const failed = await client.chat.completions
    .create({ model: `${provider}/status-429`, messages })
    .then(() => null, (error) => [error.constructor.name, error.status, error.code, Boolean(error.requestID)]);
  const broken = await client.chat.completions
    .create({ model: `${provider}/errorlater`, messages, stream: true })
    .then(async (events) => {
      console.log("begun"); // the provider may send its error now
      for await (const _ of events);
      return null;
    })
    .catch((error) => [error.constructor.name, error.code]);
  seen[provider] = {
    text: data.choices[0].message.content,
    provider: response.headers.get("x-polymux-provider"),
    pieces,
    total,
    calls: called.choices[0].message.tool_calls.map((call) => [
      call.id,
      call.function.name,
      JSON.parse(call.function.arguments),
    ]),
    failed,
    broken,
  };
}

const wrong = new OpenAI({ baseURL, apiKey: "nothing", maxRetries: 0 });
seen.unauthorized = await wrong.models.list().then(
  () => null,
  (error) => [error.constructor.name, error.code],
);

const controller = new AbortController();
const hanging = await client.chat.completions.create(
  { model: "corp/huge-64", messages, stream: true },
  { signal: controller.signal },
);
for await (const _ of hanging) break;
controller.abort();
console.log(JSON.stringify(seen));
