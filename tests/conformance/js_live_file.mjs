// A live query whose arguments are in a file, since they may be longer than a command line. Prints each result.
import { readFileSync } from "node:fs";
import { ConvexClient } from "convex/browser";
import { makeFunctionReference } from "convex/server";

const [url, path, file] = process.argv.slice(2);
const client = new ConvexClient(url);
client.onUpdate(makeFunctionReference(path), JSON.parse(readFileSync(file, "utf8")), (value) =>
  console.log(JSON.stringify({ value })),
);
