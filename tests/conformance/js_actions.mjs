// Actions with ConvexClient and ConvexHttpClient, step by step. Prints [step, result] for each.
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { ConvexError } from "convex/values";

const say = (step, result) => console.log(JSON.stringify([step, result]));
const [url, kind, port] = process.argv.slice(2);
const client = kind === "http" ? new ConvexHttpClient(url, { logger: false }) : new ConvexClient(url);
const { relay, relayBlocking, hidden, hold, missing } = api.work;
const channel = kind;

function failure(error) {
  return error instanceof ConvexError ? { data: error.data } : { message: error.message };
}

if (kind === "lost") {
  say("lost", await client.action(hold, { port: Number(port), channel, body: "held" }).catch(failure));
  say("query", await client.query(api.messages.listMessages, { channel }));
} else {
  say("relayed", await client.action(relay, { channel, body: "one" }));
  say("seen", await client.query(api.messages.listMessages, { channel }));
  say("relayed", await client.action(relayBlocking, { channel, body: "two" }));
  say("refused", await client.action(relay, { channel, body: "" }).catch(failure));
  say("refused", await client.action(relayBlocking, { channel, body: "" }).catch(failure));
  say("failed", await client.action(relay, { channel, body: "boom" }).catch(failure));
  say("invalid", await client.action(relay, { channel, body: 7 }).catch(failure));
  say("internal", await client.action(hidden, {}).catch(failure));
  say("missing", await client.action(missing, {}).catch(failure));
  say("wrong", await client.action(api.messages.send, { channel, body: "x" }).catch(failure));
  const bodies = ["a", "b", "c", "d"];
  const counts = await Promise.all(bodies.map((body) => client.action(relay, { channel, body })));
  say("together", counts.sort((left, right) => left - right));
}
if (kind !== "http") await client.close();
