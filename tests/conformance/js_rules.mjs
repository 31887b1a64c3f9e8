// Row rules as two users and an anonymous client see them. Prints [step, result] for each.
import { ConvexClient } from "convex/browser";
import { anyApi } from "convex/server";

const [url, key] = process.argv.slice(2);
const api = anyApi.rooms;
const say = (step, result) => console.log(JSON.stringify([step, result]));

function clientOf(name) {
  const client = new ConvexClient(url);
  if (name) client.setAdminAuth(key, { issuer: "https://example.test", subject: name, name });
  return client;
}

// A subscription whose results are taken one by one.
function subscribe(client, query, args) {
  const results = [], waiting = [];
  const take = (result) => (waiting.length ? waiting.shift()(result) : results.push(result));
  client.onUpdate(query, args, take, (error) => take(error.message));
  return { next: () => new Promise((done) => (results.length ? done(results.shift()) : waiting.push(done))) };
}

const message = (error) => error.message.split("\n")[1];
const [ann, bob, nobody] = [clientOf("ann"), clientOf("bob"), clientOf(null)];
await ann.mutation(api.join, { room: "red" });
await bob.mutation(api.join, { room: "blue" });
const live = subscribe(bob, api.messages, {});
say("nothing yet", await live.next());
const ids = [];
for (const [client, room] of [[ann, "red"], [bob, "blue"], [ann, "red"], [bob, "blue"]])
  ids.push(await client.mutation(api.post, { room, text: `in ${room}` }));
say("bob is told of his own", [await live.next(), await live.next()]);
for (const [name, client] of [["ann", ann], ["bob", bob], ["nobody", nobody]]) {
  say(`${name} reads`, await client.query(api.messages, {}));
  say(`${name} counts`, await client.query(api.count, {}));
  say(`${name} gets`, await Promise.all(ids.map((id) => client.query(api.get, { id }))));
}
const page = await bob.query(api.page, { opts: { numItems: 5, cursor: null, maximumRowsRead: 1 } });
say("page", [page.page, page.isDone, page.pageStatus ?? null]);
say("unique", await bob.query(api.only, {}).catch((error) => ids.map((id) => error.message.includes(id))));
const missing = await bob.mutation(api.remove, { id: ids[1] }).then(() => bob.mutation(api.remove, { id: ids[1] })).catch(message);
const hidden = await bob.mutation(api.remove, { id: ids[0] }).catch(message);
say("hidden is missing", missing.replace(ids[1], "") === hidden.replace(ids[0], ""));
say("bob is told of his removal", await live.next());
say("denied", await bob.mutation(api.post, { room: "red", text: "forged" }).catch(message));
say("nobody is denied", await nobody.mutation(api.post, { room: "red", text: "forged" }).catch(message));
await bob.mutation(api.join, { room: "red" });
say("a changed input", await live.next());
say("past the rules", await nobody.query(api.everything, {}));
for (const client of [ann, bob, nobody]) await client.close();
