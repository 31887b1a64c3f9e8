// A paginated query of the client beneath the React hooks, driven without rendering. Prints [step, result] for each.
import { ConvexReactClient } from "convex/react";
import { anyApi as api } from "convex/server";
import { WebSocket } from "ws"; // comes with convex

const say = (step, result) => console.log(JSON.stringify([step, result]));
const ended = []; // the pages that were asked for with an end of their own: halves of a page that was split

class Listening extends WebSocket {
  send(frame) {
    for (const { type, args } of JSON.parse(frame).modifications ?? [])
      if (type === "Add" && args[0].paginationOpts.endCursor) ended.push(args[0].paginationOpts);
    super.send(frame);
    changed();
  }
}

const client = new ConvexReactClient(process.argv[2], { webSocketConstructor: Listening });
const { append, remove, pages } = api.numbers;
const watch = client.watchPaginatedQuery(pages, {}, { initialNumItems: 3, id: 1 });
let changed = () => {};

// Waits until the list is what it should become; what it was on the way is for the client to decide.
async function until(expected, status) {
  for (;;) {
    const now = watch.localQueryResult();
    if (now?.status === status && JSON.stringify(now.results) === JSON.stringify(expected)) return now;
    await new Promise((done) => (changed = done));
  }
}

const add = async (...numbers) => {
  for (const number of numbers) await client.mutation(append, { number });
};

await add(0, 10, 20, 30, 40);
watch.onUpdate(() => changed());
say("first page", (await until([0, 10, 20], "CanLoadMore")).results);
watch.localQueryResult().loadMore(3);
say("all", (await until([0, 10, 20, 30, 40], "Exhausted")).results);
await add(5, 25, 50);
say("inserted", (await until([0, 5, 10, 20, 25, 30, 40, 50], "Exhausted")).results);
await client.mutation(remove, { number: 20 }); // where the first page ended
say("removed", (await until([0, 5, 10, 25, 30, 40, 50], "Exhausted")).results);
await add(1, 2, 3, 4); // more than twice three: the first page is split
say("split", (await until([0, 1, 2, 3, 4, 5, 10, 25, 30, 40, 50], "Exhausted")).results);
while (ended.length < 2) await new Promise((done) => (changed = done));
await add(6);
say("split and changed", (await until([0, 1, 2, 3, 4, 5, 6, 10, 25, 30, 40, 50], "Exhausted")).results);
say("halves", [ended.length, ended[0].cursor, ended[0].endCursor === ended[1].cursor]);
await client.close();
