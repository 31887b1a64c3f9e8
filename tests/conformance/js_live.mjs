// A live query for as long as it takes. Prints each result with the number of connections made so far.
import { ConvexClient } from "convex/browser";
import { makeFunctionReference } from "convex/server";

const [url, path, args] = process.argv.slice(2);
const client = new ConvexClient(url);
const say = (result) => {
  const { connectionCount, connectionRetries } = client.connectionState();
  console.log(JSON.stringify({ ...result, connections: connectionCount, retries: connectionRetries }));
};
client.onUpdate(makeFunctionReference(path), JSON.parse(args), (value) => say({ value }), ({ message }) => say({ message }));
