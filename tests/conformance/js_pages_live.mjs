// A paginated query that loads all there is, for as long as it takes, through whatever happens to the server.
// Prints each whole list with the number of connections made so far.
import { ConvexReactClient } from "convex/react";
import { makeFunctionReference } from "convex/server";
import { WebSocket } from "ws"; // comes with convex

const [url, path, first] = process.argv.slice(2);
const client = new ConvexReactClient(url, { webSocketConstructor: WebSocket });
const watch = client.watchPaginatedQuery(makeFunctionReference(path), {}, { initialNumItems: Number(first), id: 1 });
let last;
watch.onUpdate(() => {
  const list = watch.localQueryResult();
  if (list?.status === "CanLoadMore") list.loadMore(Number(first));
  const shown = JSON.stringify(list?.results);
  if (list?.status !== "Exhausted" || shown === last) return;
  last = shown;
  console.log(JSON.stringify({ list: list.results, connections: client.connectionState().connectionCount }));
});
