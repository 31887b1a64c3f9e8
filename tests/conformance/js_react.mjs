// The client beneath the React hooks, driven without rendering: live queries and optimistic updates, step by step.
// Prints [step, result] for each.
import { ConvexReactClient } from "convex/react";
import { anyApi as api } from "convex/server";
import { ConvexError } from "convex/values";
import { WebSocket } from "ws"; // comes with convex

const say = (step, result) => console.log(JSON.stringify([step, result]));
const client = new ConvexReactClient(process.argv[2], { webSocketConstructor: WebSocket });
const { listMessages, send } = api.messages;
const channel = "react";

// What a component would render, each time it would.
const watch = client.watchQuery(listMessages, { channel });
const rendered = [];
let changed = () => {};
const stop = watch.onUpdate(() => {
  rendered.push(watch.localQueryResult());
  changed();
});
const next = async () => {
  while (!rendered.length) await new Promise((done) => (changed = done));
  return rendered.shift();
};

const optimisticUpdate = (store, { channel, body }) =>
  store.setQuery(listMessages, { channel }, [...(store.getQuery(listMessages, { channel }) ?? []), `${body}?`]);
const failure = (error) => (error instanceof ConvexError ? { data: error.data } : { message: error.message });

say("first", await next());
const sending = client.mutation(send, { channel, body: "one" }, { optimisticUpdate });
say("preview", await next());
say("sent", await sending);
say("settled", watch.localQueryResult());
say("push", await next());
const refused = client.mutation(send, { channel, body: "" }, { optimisticUpdate }).catch(failure);
say("preview", await next());
say("refused", await refused);
say("rolled back", await next());

// Several at once: each is shown until it is done, in the order they were sent.
const bodies = ["two", "three", "four"];
await Promise.all(bodies.map((body) => client.mutation(send, { channel, body }, { optimisticUpdate })));
say("all sent", watch.localQueryResult());
say("seen", rendered.every((list) => list.map((body) => body.replace("?", "")).join() === ["one", ...bodies].slice(0, list.length).join()));
say("query", await client.query(listMessages, { channel }));

// What a component no longer shows is no longer watched.
stop();
rendered.length = 0;
say("sent", await client.mutation(send, { channel, body: "five" }));
say("unread", rendered);
say("unwatched", watch.localQueryResult() ?? null);
await client.close();
