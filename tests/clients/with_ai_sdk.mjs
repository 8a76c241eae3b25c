// The AI SDK: a text, a stream, and a tool that it runs itself.
import { createAnthropic } from "@ai-sdk/anthropic";
import { generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";

const schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };

async function report(base, name) {
  const results = [];
  const weather = tool({
    description: "Of a city.",
    inputSchema: jsonSchema(schema),
    execute: async ({ city }) => {
      results.push(`Sunny in ${city}.`);
      return results.at(-1);
    },
  });
  const model = createAnthropic({ baseURL: `${base}/v1`, apiKey: "any" })(name);
  const asked = { model, prompt: "Hi", maxOutputTokens: 64, maxRetries: 0 };
  const text = await generateText(asked);
  const streamed = await streamText(asked).text;
  const told = await generateText({ ...asked, tools: { weather }, stopWhen: stepCountIs(3) });
  return { text: text.text, streamed, results, told: told.text };
}

const [base, ...models] = process.argv.slice(2);
const reports = [];
for (const model of models) reports.push(await report(base, model));
console.log(JSON.stringify(reports));
