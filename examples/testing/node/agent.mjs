// A small agent in another language: it asks once, streams the answer, and says plainly what went wrong.

const PAUSES = 3; // how often it waits when it is told to come back

export class AgentFailed extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

export async function answer(question, { baseUrl, apiKey, wait }) {
  for (let paused = 0; ; paused++) {
    const response = await fetch(`${baseUrl}/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${apiKey}`, "content-type": "application/json" },
      body: JSON.stringify({ model: "auto", stream: true, messages: [{ role: "user", content: question }] }),
    });
    if (response.ok) return { text: await whole(response), lane: response.headers.get("x-flatfee-lane") };
    const { error } = await response.json();
    const again = response.headers.get("x-should-retry") === "true" && paused < PAUSES;
    if (!again) throw new AgentFailed(error.code, error.message);
    await wait(Number(response.headers.get("retry-after") ?? 1));
  }
}

async function whole(response) {
  let text = "";
  let finished = false;
  let buffer = "";
  const decoder = new TextDecoder();
  for await (const bytes of response.body) {
    buffer += decoder.decode(bytes, { stream: true });
    const lines = buffer.split("\n");
    buffer = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
      const event = JSON.parse(line.slice("data: ".length));
      if (event.error) throw new AgentFailed(event.error.code, event.error.message);
      const [choice] = event.choices;
      text += choice?.delta.content ?? "";
      finished ||= Boolean(choice?.finish_reason);
    }
  }
  if (!finished) throw new AgentFailed("truncated", "the answer broke off");
  return text;
}
