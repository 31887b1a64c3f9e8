// An app whose functions call components. Prints [step, result] for each.
import { ConvexClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { ConvexError } from "convex/values";

const [url, adminKey] = process.argv.slice(2);
const say = (step, result) => console.log(JSON.stringify([step, result]));
const client = new ConvexClient(url);
const failure = (error) => (error instanceof ConvexError ? { data: error.data } : { message: error.message });

function subscribe(query, args) {
  const results = [], waiting = [];
  const take = (result) => (waiting.length ? waiting.shift()(result) : results.push(result));
  client.onUpdate(query, args, take, (error) => take(failure(error)));
  return { next: () => new Promise((done) => (results.length ? done(results.shift()) : waiting.push(done))) };
}

const { signups } = api;
const left = subscribe(signups.left, {});
say("left", await left.next());
say("sign up", await client.mutation(signups.signUp, { name: "a" }));
say("left", await left.next());
say("callback", await client.mutation(signups.spendAndNote, { name: "b" }));
say("left", await left.next());
say("action", await client.action(signups.signUpSlowly, { name: "guest" }));
say("left", await left.next());
say("last", await client.mutation(signups.trySignUp, { name: "c" }));
say("left", await left.next());
say("thrown", await client.mutation(signups.signUp, { name: "d" }).catch(failure));
say("caught", await client.mutation(signups.trySignUp, { name: "e" }));
say("names", await client.query(signups.listNames, {}));
for (const path of ["quota/usage:left", "quota:left", "usage:left"])
  say("direct", await client.query(api[path.split(":")[0]][path.split(":")[1]], {}).catch(failure));
say("kept", await client.query(signups.reach, {}).catch(failure));

// What only an administrator can do: name the component.
client.client.setAdminAuth(adminKey);
const [id] = await new Promise((done) => {
  const { queryToken } = client.client.subscribe("usage:ids", {}, { componentPath: "quota" });
  const look = () => {
    const found = client.client.localQueryResultByToken(queryToken);
    found === undefined ? setImmediate(look) : done(found);
  };
  look();
});
say("peek", await client.query(signups.peek, { id }));
say("forged", await client.mutation(signups.overwrite, { id }).catch(failure));
const spend = (component) => client.client.mutationInternal("usage:spend", { name: "root" }, undefined, component);
say("admin", (await spend("guests")).success);
say("left", await left.next());
say("nowhere", { message: (await spend("nowhere")).errorMessage });
await client.close();
