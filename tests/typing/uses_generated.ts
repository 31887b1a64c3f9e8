// What the TypeScript compiler makes of generated types. A line that must not compile names its error.
import { ConvexHttpClient } from "convex/browser";
import { api, internal } from "./convex/api.js";
import type { DataModel, Doc, Id, TableNames } from "./convex/dataModel.js";
import type { FunctionReference } from "convex/server";

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
function same<A, B>(_: Same<A, B>): void {}

export async function correct(client: ConvexHttpClient, channel: Id<"channels">): Promise<void> {
  const bodies = await client.query(api.messages.listBodies, { channel, limit: 3 });
  same<typeof bodies, string[]>(true);
  const sent = await client.mutation(api.messages.send, { channelId: channel, body: "x", author: { name: "Ann" } });
  same<typeof sent, Id<"messages">>(true);
  const count = await client.action(api.messages.count, { count: 1 });
  same<typeof count, bigint>(true);
  const url = await client.query(api.deep.nested.getURL, {});
  same<typeof url.in, ArrayBuffer>(true);
  await client.query(api.messages.default, { anything: "goes" });
  const found = await client.query(api.messages.channel, { id: channel });
  same<typeof found, Doc<"channels"> | null>(true);
  same<TableNames, "channels" | "messages" | "shapes" | "things">(true);
  same<Doc<"messages">["author"]["age"], number | undefined>(true);
  same<DataModel["messages"]["indexes"]["by_channel"], ["channel", "author.name", "_creationTime"]>(true);
  const notify: FunctionReference<"mutation", "internal", { message: Id<"messages"> }, null> = internal.messages.notify;
  void notify;
}

export async function mistaken(client: ConvexHttpClient, channel: Id<"channels">, doc: Doc<"shapes">): Promise<void> {
  await client.query(api.messages.listBodies, { chanel: channel }); // expect: TS2561
  await client.query(api.messages.listBodies, { channel, limit: "3" }); // expect: TS2322
  await client.query(api.messages.listBodies, {}); // expect: TS2741
  await client.query(api.messages.send, { channelId: channel, body: "x", author: { name: "Ann" } }); // expect: TS2345
  await client.query(api.messages.listBodys, { channel }); // expect: TS2551
  await client.mutation(internal.messages.notify, { message: "x" as Id<"messages"> }); // expect: TS2345
  const other: Id<"messages"> = channel; // expect: TS2322
  const wrong: Doc<"chanels"> | null = null; // expect: TS2344
  const bodies: number[] = await client.query(api.messages.listBodies, { channel }); // expect: TS2322
  (await client.query(api.messages.channel, { id: channel })).name; // expect: TS2531
  console.log(doc.radius, other, wrong, bodies); // expect: TS2339
}
