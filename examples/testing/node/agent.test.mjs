// node --test agent.test.mjs: needs `flatfee` on the path (pip install 'flatfee[server]'), and nothing else.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { after, afterEach, before, beforeEach, test } from "node:test";

import { answer } from "./agent.mjs";

let gateway, told, agent;

before(async () => {
  // It ends with this process, whatever happens: its standard input ends then.
  gateway = spawn("flatfee", ["serve", "--test", "--end-with-stdin"], { stdio: ["pipe", "pipe", "inherit"] });
  const [line] = await once(createInterface({ input: gateway.stdout }), "line");
  told = JSON.parse(line);
  const wait = (seconds) => control("POST", "/clock", { advance: seconds }); // nobody waits for real
  agent = { baseUrl: told.base_url, apiKey: told.api_key, wait };
});

beforeEach(() => control("POST", "/reset"));

afterEach(async () => {
  const { resilient, text } = await control("POST", "/verdict", {}); // did it behave, whatever the test was about?
  assert.ok(resilient, text);
});

after(() => gateway.stdin.end());

async function control(method, path, body) {
  const response = await fetch(told.control_url + path, { method, body: body && JSON.stringify(body) });
  const answer = await response.json();
  assert.ok(response.ok, answer.error?.message);
  return answer;
}

test("it says what the model says", async () => {
  await control("POST", "/script", { user: { contains: "weather" }, replies: ["It is sunny."] });
  assert.deepEqual(await answer("How is the weather?", agent), { text: "It is sunny.", lane: "premium" });
});

test("it goes on when premium is used up", async () => {
  await control("PATCH", "/account", { fair_use: 1000, used: 1000 });
  assert.equal((await answer("Hello", agent)).lane, "continuation");
});

test("it comes back when a slot is free", async () => {
  await control("PATCH", "/account", { concurrent_workflows: 1 });
  await control("POST", "/workflows", { hold: "somebody-else" });
  assert.ok((await answer("Hello", agent)).text);
  const { data } = await control("GET", "/journal");
  assert.deepEqual(data.map((request) => request.status), [429, 200]);
});

test("it gives up, and says why, when every provider is down", async () => {
  for (const route of ["premium-a", "premium-b", "economy-a", "economy-b"])
    await control("PATCH", `/routes/${route}`, { down: true });
  await assert.rejects(answer("Hello", agent), { code: "fallback_exhausted" });
});
