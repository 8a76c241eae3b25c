// The models of a Llama Stack server for pi; `llama-stack-messages launch pi` sets the variables.
export default function (pi) {
  const { LLAMA_STACK_URL, LLAMA_STACK_MODEL, LLAMA_STACK_WINDOW, LLAMA_STACK_OUTPUT } = process.env;
  pi.registerProvider("llama-stack", {
    baseUrl: LLAMA_STACK_URL,
    apiKey: "$LLAMA_STACK_TOKEN",
    api: "anthropic-messages",
    models: [
      {
        id: LLAMA_STACK_MODEL,
        name: LLAMA_STACK_MODEL,
        reasoning: false,
        input: ["text", "image"],
        cost: { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 },
        contextWindow: Number(LLAMA_STACK_WINDOW || 128000),
        maxTokens: Number(LLAMA_STACK_OUTPUT || 16384),
      },
    ],
  });
}
