// The stateless client of the official JavaScript library. Prints [step, result] for each call.
import { ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { ConvexError } from "convex/values";

const say = (step, result) => console.log(JSON.stringify([step, result]));
const client = new ConvexHttpClient(process.argv[2], { logger: false });
const { listMessages, send, fail, secret, missing } = api.messages;
const channel = "http";

function failure(error) {
  return error instanceof ConvexError ? { data: error.data } : { message: error.message };
}

say("failing", await client.query(fail, { channel }).catch(failure));
say("sent", await client.mutation(send, { channel, body: "one" }));
say("query", await client.query(listMessages, { channel }));
say("refused", await client.mutation(send, { channel, body: "" }).catch(failure));
say("failed", await client.mutation(send, { channel, body: "boom" }).catch(failure));
say("invalid", await client.mutation(send, { channel, body: 7 }).catch(failure));
say("internal", await client.query(secret, {}).catch(failure));
say("missing", await client.query(missing, {}).catch(failure));
say("queued", await Promise.all(["two", "three"].map((body) => client.mutation(send, { channel, body }))));
say("query", await client.query(listMessages, { channel }));
