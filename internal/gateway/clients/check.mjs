// Runs the official client for Node against a gateway: node check.mjs ADDRESS KEY LIMITED
import assert from 'node:assert/strict';
import OpenAI from 'openai';

const [address, key, limited] = process.argv.slice(2);
const client = new OpenAI({ baseURL: address + '/v1', apiKey: key, maxRetries: 0 });
const ask = (content, more = {}) => ({ model: 'docs', messages: [{ role: 'user', content }], ...more });

const whole = await client.chat.completions.create(ask('hello'));
assert.equal(whole.choices[0].message.content, 'hello there');
assert.equal(whole.usage.total_tokens, 5);

let text = '', usage = null, finish = null;
for await (const chunk of await client.chat.completions.create(ask('hello', { stream: true, stream_options: { include_usage: true } }))) {
  text += chunk.choices[0]?.delta.content ?? '';
  finish = chunk.choices[0]?.finish_reason ?? finish;
  usage = chunk.usage ?? usage;
}
assert.deepEqual([text, finish, usage.total_tokens], ['hello there', 'stop', 5]);

const tools = [{ type: 'function', function: { name: 'weather', parameters: { type: 'object', properties: {} } } }];
const called = await client.chat.completions.create(ask('use a tool', { tools }));
assert.equal(called.choices[0].message.tool_calls[0].function.arguments, '{"city": "Ulm"}');
const runner = client.chat.completions.stream(ask('use a tool', { tools }));
assert.equal((await runner.finalChatCompletion()).choices[0].message.tool_calls[0].function.arguments, '{"city": "Ulm"}');

const completed = await client.completions.create({ model: 'docs', prompt: 'hello' });
assert.equal(completed.choices[0].text, 'hello there');
const vectors = await client.embeddings.create({ model: 'docs', input: ['a', 'b'], encoding_format: 'float' });
assert.deepEqual(vectors.data.map((d) => d.embedding), [[1, 0.5], [0, 1]]);
const image = await client.images.generate({ model: 'docs', prompt: 'a cat' });
assert.equal(image.data[0].b64_json, 'AAAA');
const models = [];
for await (const model of client.models.list()) models.push(model.id);
assert.deepEqual(models, ['docs']);
assert.equal((await client.models.retrieve('docs')).id, 'docs');

const fails = async (status, call) => assert.rejects(call, (e) => {
  assert.ok(e instanceof OpenAI.APIError, String(e));
  assert.equal(e.status, status);
  assert.ok(e.code && e.type && e.message);
  return true;
});
await fails(404, () => client.chat.completions.create({ ...ask('hello'), model: 'other' }));
await fails(404, () => client.models.retrieve('other'));
await fails(413, () => client.chat.completions.create(ask('x'.repeat(200000))));
await fails(400, () => client.chat.completions.create(ask('hello', { max_tokens: -1 })));
await fails(503, () => client.chat.completions.create(ask('busy')));
const few = client.withOptions({ apiKey: limited });
await few.chat.completions.create(ask('hello'));
await fails(429, () => few.chat.completions.create(ask('hello')));
await fails(401, () => client.withOptions({ apiKey: 'refit-wrong' }).chat.completions.create(ask('hello')));

await assert.rejects(
  () => client.chat.completions.create(ask('wait'), { signal: AbortSignal.timeout(100) }),
  OpenAI.APIUserAbortError,
);
const reader = new AbortController();
let seen = 0; // a stream that its reader leaves ends without an error
for await (const _ of await client.chat.completions.create(ask('wait', { stream: true }), { signal: reader.signal })) {
  seen++;
  reader.abort();
}
assert.equal(seen, 1);
console.log('openai-node: all well');
