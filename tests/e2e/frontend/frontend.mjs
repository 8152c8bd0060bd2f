// A product frontend, written from schemas/ alone: it creates an endpoint, watches it until it is ready, deletes it and
// watches it until it is gone. It knows no code of Millrace: subjects, types, headers and fields are asyncapi.yaml's.
//
//   node frontend.mjs <nats url> <tenant> <project> <endpoint name> [<user> <password>]

import { randomUUID } from "node:crypto";
import { jetstream } from "@nats-io/jetstream";
import { connect, headers } from "@nats-io/transport-node";

const [url, tenant, project, name, user, pass] = process.argv.slice(2);
const PATIENCE_MS = 90_000;
const SPEC = { model: "millrace/ngram-1", tier: "l40s-dedicated", region: "eu-1", scaling: { min: 1, max: 1 } };

const bus = await connect({ servers: url, user, pass });
const stream = jetstream(bus);
const timer = setTimeout(() => fail("it took too long"), PATIENCE_MS);

function fail(why) {
  console.error(why);
  process.exit(1);
}

function say(what) {
  console.log(JSON.stringify(what));
}

/** An ordered reader of what endpoint-api tells of one event, from now on: channels command.answered, endpoint.stage_changed. */
async function hear(event) {
  const consumer = await stream.consumers.get("MR_EVT", {
    filter_subjects: `mr.v1.evt.endpoint-api.${event}.>`,
    deliver_policy: "new",
  });
  return consumer.consume();
}

/** The next message that fits, as its headers and its body; what came twice is taken once. */
function reader(messages) {
  const seen = new Set();
  const each = messages[Symbol.asyncIterator]();
  return async (fits) => {
    for (;;) {
      const { value: message, done } = await each.next();
      if (done) return fail("the bus went away");
      const id = message.headers.get("ce-id");
      if (seen.has(id)) continue;
      seen.add(id);
      const body = message.json();
      if (fits(body, message.headers)) return { body, headers: message.headers };
    }
  };
}

/** Publish a command, twice as a nervous frontend does, and wait for its one answer. */
async function ask(kind, data) {
  const id = randomUUID();
  const about = headers();
  about.set("ce-specversion", "1.0");
  about.set("ce-id", id);
  about.set("ce-type", `cmd.${kind}.v1`);
  about.set("ce-source", "/frontend");
  about.set("ce-time", new Date().toISOString());
  about.set("content-type", "application/json");
  const body = JSON.stringify({ tenant_id: tenant, project_id: project, actor: "jane@acme.example", ...data });
  const subject = `mr.v1.cmd.${kind.replace(".", "-")}.${tenant}.${id}`;
  for (let time = 0; time < 2; time++) await stream.publish(subject, body, { headers: about, msgID: id });
  const { body: answer } = await nextAnswer((each) => each.command_id === id);
  say({ asked: kind, status: answer.status });
  if (answer.status >= 400) fail(JSON.stringify(answer.body));
  return answer.body;
}

async function watch(endpoint, last) {
  for (;;) {
    const { body } = await nextStage((_, about) => about.get("ce-subject") === endpoint);
    say({ stage: body.stage });
    if (body.stage === last) return;
    if (body.stage === "failed") fail(`${body.reason}: ${body.message}`);
  }
}

const nextAnswer = reader(await hear("command-answered"));
const nextStage = reader(await hear("endpoint-stage-changed"));

const created = await ask("endpoint.create", { name, spec: SPEC });
await watch(created.endpoint_id, "ready");
await ask("endpoint.delete", { endpoint: created.endpoint_id });
await watch(created.endpoint_id, "deleted");

clearTimeout(timer);
await bus.close();
process.exit(0);
