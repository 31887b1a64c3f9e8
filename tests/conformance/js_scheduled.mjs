// Scheduled functions and a cron as a live client sees them. Prints [step, result] for each.
import { ConvexClient } from "convex/browser";
import { anyApi as api } from "convex/server";

const say = (step, result) => console.log(JSON.stringify([step, result]));
const client = new ConvexClient(process.argv[2]);

// The first result of a live query that satisfies a condition.
const until = (query, args, holds) =>
  new Promise((done) => {
    const stop = client.onUpdate(query, args, (value) => {
      if (holds(value)) {
        setTimeout(() => stop());
        done(value);
      }
    });
  });

const { later, actLater, farAway, cancel, list, state } = api.notes;
const scheduled = await client.mutation(later, { text: "by a mutation" });
say("mutation", await until(list, {}, (notes) => notes.includes("by a mutation")));
say("state", await until(state, { job: scheduled }, (row) => row.state.kind === "success"));
const acting = await client.mutation(actLater, { text: "by an action" });
say("action", (await until(list, {}, (notes) => notes.includes("by an action"))).length);
say("acted", (await until(state, { job: acting }, (row) => row.state.kind === "success")).name);
const far = await client.mutation(farAway, {});
await client.mutation(cancel, { job: far });
say("cancelled", (await client.query(state, { job: far })).state);
say("cron", await until(list, {}, (notes) => notes.includes("by a cron")).then(() => true));
await client.close();
