// The TypeScript SDK: a text, a stream, and a tool with its result.
import Anthropic from "@anthropic-ai/sdk";

const schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const tools = [{ name: "weather", description: "Of a city.", input_schema: schema }];
const user = { role: "user", content: "Hi" };

async function report(baseURL, model) {
  const client = new Anthropic({ baseURL, apiKey: "any", maxRetries: 0 });
  const ask = (messages, more) => ({ model, max_tokens: 64, messages, ...more });
  const text = await client.messages.create(ask([user]));
  const streamed = await client.messages.stream(ask([user])).finalText();
  const called = await client.messages.create(ask([user], { tools }));
  const results = called.content
    .filter((block) => block.type === "tool_use")
    .map((block) => ({ type: "tool_result", tool_use_id: block.id, content: `Sunny in ${block.input.city}.` }));
  const turns = [user, { role: "assistant", content: called.content }, { role: "user", content: results }];
  const told = await client.messages.create(ask(turns, { tools }));
  return {
    text: text.content[0].text,
    streamed,
    results: results.map((result) => result.content),
    told: told.content[0].text,
  };
}

const [base, ...models] = process.argv.slice(2);
const reports = [];
for (const model of models) reports.push(await report(base, model));
console.log(JSON.stringify(reports));
