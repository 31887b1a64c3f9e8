// A file from a browser's point of view: an upload URL from a mutation, a POST, a URL from a live query, a GET, and its end.
// Prints [step, result] for each.
import { ConvexClient } from "convex/browser";
import { anyApi as api } from "convex/server";

const say = (step, result) => console.log(JSON.stringify([step, result]));
const client = new ConvexClient(process.argv[2]);
const { uploadUrl, url, remove, reverse, stored } = api.files;
const bytes = new Uint8Array(700_000).map((_, at) => at % 251);

const upload = await client.mutation(uploadUrl, {});
const result = await fetch(upload, { method: "POST", body: new Blob([bytes], { type: "image/png" }) });
const { storageId } = await result.json();
say("uploaded", [result.status, typeof storageId]);

const shown = [], waiting = [];
const take = (value) => (waiting.length ? waiting.shift()(value) : shown.push(value));
const next = () => new Promise((done) => (shown.length ? done(shown.shift()) : waiting.push(done)));
client.onUpdate(url, { id: storageId }, take);
const served = await next();
say("served by", [new URL(served).origin === process.argv[2], new URL(upload).origin === process.argv[2]]);

const whole = await fetch(served);
const received = new Uint8Array(await whole.arrayBuffer());
say("downloaded", [whole.status, whole.headers.get("content-type"), received.length, received.every((byte, at) => byte === bytes[at])]);
const part = await fetch(served, { headers: { Range: "bytes=251-255" } });
say("part", [part.status, part.headers.get("content-range"), [...new Uint8Array(await part.arrayBuffer())]]);

// What a browser asks before it sends a type of its own to another origin.
const asked = { Origin: "https://app.example", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type" };
const preflight = await fetch(upload, { method: "OPTIONS", headers: asked });
say("preflight", [preflight.status, preflight.headers.get("access-control-allow-origin"), preflight.headers.get("access-control-allow-headers")]);

const [row] = await client.query(stored, {});
say("row", [row._id === storageId, row.size, row.contentType, Object.keys(row).sort()]);
const reversed = await client.action(reverse, { id: storageId });
const backwards = new Uint8Array(await (await fetch(await client.query(url, { id: reversed }))).arrayBuffer());
say("reversed", backwards.reverse().every((byte, at) => byte === bytes[at]));
await client.mutation(remove, { id: reversed });
say("of nothing", await client.action(reverse, { id: reversed }));
await client.mutation(remove, { id: storageId });
say("after", [await next(), (await fetch(served)).status, await client.query(stored, {})]);
const failed = await client.mutation(remove, { id: storageId }).catch((error) => error.message);
say("again", failed.includes(`storage id ${storageId} not found`));
await client.close();
