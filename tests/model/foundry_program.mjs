// What a program with the official JavaScript client does; run by the tests with the unmodified client.
//
//     node foundry_program.mjs
//
// Prints one JSON object: what each call gave.

import { FoundryLocalManager } from "foundry-local-sdk";
import OpenAI from "openai";

const alias = "smollm2-135m";
const question = [{ role: "user", content: "Name three primary colors." }];

const manager = new FoundryLocalManager();
const model = await manager.init(alias);
const ids = async (list) => (await list).map((one) => one.id);

async function chat() {
  const client = new OpenAI({ baseURL: manager.endpoint, apiKey: manager.apiKey, maxRetries: 0 });
  const asked = { model: model.id, messages: question, temperature: 0 };
  const whole = await client.chat.completions.create(asked);
  let streamed = "";
  for await (const chunk of await client.chat.completions.create({ ...asked, stream: true })) {
    streamed += chunk.choices[0]?.delta?.content ?? "";
  }
  const listed = (await client.models.list()).data.map((one) => one.id);
  return { whole: whole.choices[0].message.content, streamed, listed };
}

// Whether the model is in memory: loaded, unloaded within its time to live, and unloaded by force.
async function loadAndUnload(name) {
  const { id } = await manager.loadModel(name); // with the client's own time to live, 600 s
  const states = [(await ids(manager.listLoadedModels())).includes(id)];
  for (const force of [false, true]) {
    await manager.unloadModel(name, undefined, force);
    states.push((await ids(manager.listLoadedModels())).includes(id));
  }
  return states;
}

const progress = [];
const report = {
  endpoint: manager.endpoint,
  cache: await manager.getCacheLocation(),
  catalog: await ids(manager.listCatalogModels()),
  cached: await ids(manager.listCachedModels()),
  loaded: await ids(manager.listLoadedModels()),
  chat: await chat(),
  states: {},
  again: (await manager.downloadModel(alias, undefined, undefined, true, (percent) => progress.push(percent))).id,
  progress,
  upgradeable: await manager.isModelUpgradeable(alias),
  running: await manager.isServiceRunning(),
};
for (const name of [alias, model.id]) {
  report.states[name] = await loadAndUnload(name);
}
try {
  await manager.loadModel("no-such-model");
} catch (error) {
  report.unknown = error.message;
}
console.log(JSON.stringify(report));
