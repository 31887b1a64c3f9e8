// Values of every type through both JavaScript clients and back. Ends with an error at the first that changed.
import assert from "node:assert/strict";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";

const { echo, keep, kept, made } = api.things;
const bytes = (...values) => new Uint8Array(values).buffer;
const values = [
  null, true, false,
  0, -0, 1, -1, 1.5, 1e21, 5e-324, Number.MAX_VALUE, Number.MAX_SAFE_INTEGER, NaN, Infinity, -Infinity,
  0n, 1n, -1n, 2n ** 63n - 1n, -(2n ** 63n),
  "", "plain", "ä€😀", "\u0000\n\u2028\"\\",
  bytes(), bytes(0), bytes(0, 255, 128, 10),
  [], [[]], [1, -0, NaN, 1n, "", null, bytes(7)],
  {}, { a: { b: [{ c: -0 }, { d: 2n ** 62n }] }, "with space": bytes(1), UPPER: NaN },
];
const fromPython = {
  null: null,
  booleans: [true, false],
  numbers: [1, 1.5, -0, 1e300, NaN, Infinity, -Infinity],
  int64: [0n, -1n, 2n ** 63n - 1n, -(2n ** 63n)],
  strings: ["", "ä€😀\u0000"],
  bytes: [bytes(), bytes(0, 255, 128)],
  nested: { inner: { array: [[], {}] } },
};

// assert's deep equality tells 0 from -0, finds NaN equal to itself and compares buffers by content.
for (const [name, client] of [
  ["socket", new ConvexClient(process.argv[2])],
  ["http", new ConvexHttpClient(process.argv[2])],
]) {
  assert.deepEqual(await client.query(made, {}), fromPython);
  for (const [at, value] of values.entries()) {
    assert.deepEqual(await client.query(echo, { value }), value, `${name}: argument to result`);
    assert.deepEqual(await client.mutation(keep, { name: `${name}${at}`, value }), value, `${name}: mutation`);
    assert.deepEqual(await client.query(kept, { name: `${name}${at}` }), value, `${name}: stored`);
  }
  if (client.close) await client.close();
  console.log(JSON.stringify({ [name]: values.length }));
}
