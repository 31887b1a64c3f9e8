// Everything an app does with ConvexClient, step by step. Prints [step, result] for each.
import { ConvexClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { ConvexError } from "convex/values";

const say = (step, result) => console.log(JSON.stringify([step, result]));
const client = new ConvexClient(process.argv[2]);
const { listMessages, send, fail, secret, missing } = api.messages;
const channel = "js";

// A subscription whose results are taken one by one.
function subscribe(query, args) {
  const results = [], waiting = [];
  const take = (result) => (waiting.length ? waiting.shift()(result) : results.push(result));
  const stop = client.onUpdate(query, args, (value) => take({ value }), (error) => take(failure(error)));
  return { stop, results, next: () => new Promise((done) => (results.length ? done(results.shift()) : waiting.push(done))) };
}

function failure(error) {
  return error instanceof ConvexError ? { data: error.data } : { message: error.message };
}

const live = subscribe(listMessages, { channel });
const failing = subscribe(fail, { channel });
say("first", await live.next());
say("failing", await failing.next());
say("sent", await client.mutation(send, { channel, body: "one" }));
say("push", await live.next());
say("healed", await failing.next());
say("query", await client.query(listMessages, { channel }));
say("refused", await client.mutation(send, { channel, body: "" }).catch(failure));
say("failed", await client.mutation(send, { channel, body: "boom" }).catch(failure));
say("invalid", await client.mutation(send, { channel, body: 7 }).catch(failure));
say("internal", await client.query(secret, {}).catch(failure));
say("missing", await client.query(missing, {}).catch(failure));
live.stop();
say("sent", await client.mutation(send, { channel, body: "two" }));
say("query", await client.query(listMessages, { channel }));
say("unread", live.results);
say("connections", client.connectionState().connectionCount);
await client.close();
