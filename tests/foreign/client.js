// A client in another language, with nothing of ours but what reflection tells it. Prints one JSON document.

const grpc = require("@grpc/grpc-js");
const { GrpcReflection } = require("grpc-js-reflection-client");

const [address, token] = process.argv.slice(2);
const PACKAGE = "sandboxd_api.v1.";
const OPTIONS = { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true };
const credentials = grpc.credentials.createInsecure();

function metadata() {
  const found = new grpc.Metadata();
  found.set("authorization", `Bearer ${token}`);
  return found;
}

function unary(stub, method, request) {
  return new Promise((resolve) => {
    stub[method](request, metadata(), { deadline: Date.now() + 30000 }, (error, answer) =>
      resolve({
        code: error ? grpc.status[error.code] : "OK",
        details: error ? error.details : "",
        rich: error ? error.metadata.get("grpc-status-details-bin").length : 0,
        answer,
      }),
    );
  });
}

function collect(call) {
  return new Promise((resolve) => {
    const events = [];
    call.on("data", (event) => events.push(event));
    call.on("error", (error) => resolve({ code: grpc.status[error.code], details: error.details, events }));
    call.on("end", () => resolve({ code: "OK", events }));
  });
}

async function emptyCalls(stubs) {
  const codes = {};
  for (const [service, stub] of Object.entries(stubs)) {
    for (const method of Object.values(stub.constructor.service)) {
      const name = method.path.split("/").pop();
      const options = { deadline: Date.now() + 30000 };
      let outcome;
      if (method.requestStream) {
        const call = stub[name](metadata(), options);
        const done = collect(call);
        call.write({});
        call.end();
        outcome = await done;
      } else if (method.responseStream) {
        outcome = await collect(stub[name]({}, metadata(), options));
      } else {
        outcome = await unary(stub, name, {});
      }
      codes[`${service}/${name}`] = { code: outcome.code, details: outcome.details };
    }
  }
  return codes;
}

async function mainJob(stubs) {
  const created = await unary(stubs.SandboxService, "CreateSandbox", { spec: { enable_debugging: true } });
  const sandbox_id = created.answer.sandbox.id;
  const executed = await unary(stubs.ExecutionService, "Execute", {
    sandbox_id,
    code: "x = 2**53 + 1\nx",
  });
  const streamed = await collect(
    stubs.ExecutionService.StreamExecute({ sandbox_id, code: "print('from node')\nx" }, metadata()),
  );
  const queried = await collect(
    stubs.DatabaseService.Query(
      { sandbox_id, sql: "SELECT id, name FROM users ORDER BY id LIMIT 2" },
      metadata(),
    ),
  );
  const refused = await unary(stubs.SandboxService, "CreateSandbox", {
    spec: { limits: { memory_bytes: "1125899906842624" } },
  });
  const deleted = await unary(stubs.SandboxService, "DeleteSandbox", { sandbox_id });
  return { created, executed, streamed, queried, refused, deleted };
}

async function debugging(stubs) {
  const created = await unary(stubs.SandboxService, "CreateSandbox", {});
  const sandbox_id = created.answer.sandbox.id;
  const code = "a = 1\nb = a + 1\nb";
  const steps = await collect(
    stubs.ExecutionService.Debug(
      { sandbox_id, code, debug_options: { detail: "DETAIL_FULL" } },
      metadata(),
    ),
  );
  const call = stubs.ExecutionService.DebugSession(metadata());
  const session = new Promise((resolve) => {
    const events = [];
    call.on("data", (event) => {
      events.push(event);
      if (event.event === "stopped") {
        const step = events.filter((found) => found.event === "stopped").length;
        call.write({ command_id: String(step + 1), resume: { mode: step < 3 ? "MODE_STEP_OVER" : "MODE_CONTINUE" } });
      }
      if (event.event === "finished") call.end();
    });
    call.on("error", (error) => resolve({ code: grpc.status[error.code], details: error.details, events }));
    call.on("end", () => resolve({ code: "OK", events }));
  });
  call.write({ command_id: "1", start: { sandbox_id, code, stop_at_entry: true } });
  const found = { steps, session: await session };
  await unary(stubs.SandboxService, "DeleteSandbox", { sandbox_id });
  return found;
}

async function main() {
  const reflection = new GrpcReflection(address, credentials);
  const services = await reflection.listServices("*", metadata());
  const stubs = {};
  const methods = {};
  for (const service of services.filter((name) => name.startsWith(PACKAGE))) {
    const descriptor = await reflection.getDescriptorBySymbol(service, metadata());
    const name = service.slice(PACKAGE.length);
    const Stub = descriptor.getPackageObject(OPTIONS).sandboxd_api.v1[name];
    stubs[name] = new Stub(address, credentials);
    methods[name] = Object.keys(Stub.service);
  }
  const found = {
    services,
    methods,
    empty: await emptyCalls(stubs),
    job: await mainJob(stubs),
    debugging: await debugging(stubs),
  };
  console.log(JSON.stringify(found));
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
