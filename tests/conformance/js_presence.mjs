// Presence as the React hook of @convex-dev/presence uses it: heartbeats and a live list over the socket, and leaving by
// a beacon, a POST without a head of its own. Prints [step, result] for each.
import { ConvexClient } from "convex/browser";
import { anyApi as api } from "convex/server";

const [url] = process.argv.slice(2);
const say = (step, result) => console.log(JSON.stringify([step, result]));
const client = new ConvexClient(url);
const { presence } = api;

const beat = (userId, sessionId, interval = 10000) =>
  client.mutation(presence.heartbeat, { roomId: "room", userId, sessionId, interval });

const ann = await beat("ann", "s1");
say("tokens", Object.keys(ann).sort());
say("types", Object.values(ann).map((token) => typeof token));

const results = [], waiting = [];
client.onUpdate(presence.list, { roomToken: ann.roomToken }, (result) =>
  waiting.length ? waiting.shift()(result) : results.push(result),
);
const next = () => new Promise((done) => (results.length ? done(results.shift()) : waiting.push(done)));

say("list", await next());
const bob = await beat("bob", "s2");
say("same room", bob.roomToken === ann.roomToken);
say("list", await next());
say("again", JSON.stringify(await beat("ann", "s1")) === JSON.stringify(ann));

const before = Date.now();
const body = JSON.stringify({ path: "presence:disconnect", args: { sessionToken: bob.sessionToken } });
const answer = await fetch(`${url}/api/mutation`, { method: "POST", body: new Blob([body], { type: "application/json" }) });
say("beacon", [answer.status, (await answer.json()).status]);
const left = await next();
say("left", left.map(({ userId, online }) => [userId, online]));
const { lastDisconnected } = left.find((user) => user.userId === "bob");
say("when", lastDisconnected >= before - 1000 && lastDisconnected <= Date.now() + 1000);
say("unknown token", await client.query(presence.list, { roomToken: "" }));
say("nobody", (await beat("nobody", "s3").catch((error) => ({ data: error.data }))).data);
await client.close();
