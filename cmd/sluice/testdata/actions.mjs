// Reads an action and workflows with GitHub's own parser and prints, as JSON, what it says
// is wrong with each: [{"file": …, "message": …}]. They come as the JSON list DOCUMENTS of
// {"kind": "action" or "workflow", "name": …, "content": …}.
import { register } from "node:module";

// The package imports JSON as bundlers do, without saying so.
const loader = `
  import { readFile } from "node:fs/promises";
  export const load = async (url, context, next) => !url.endsWith(".json") ? next(url, context) :
    { format: "module", shortCircuit: true, source: "export default " + (await readFile(new URL(url), "utf8")) };`;
register("data:text/javascript," + encodeURIComponent(loader));

const { NoOperationTraceWriter, convertWorkflowTemplate, parseWorkflow } = await import("@actions/workflow-parser");
const { parseAction } = await import("@actions/workflow-parser/actions/action-parser");

const faults = [];
for (const { kind, name, content } of JSON.parse(process.env.DOCUMENTS)) {
  const { context, value } = (kind === "action" ? parseAction : parseWorkflow)({ name, content }, new NoOperationTraceWriter());
  const messages = context.errors.getErrors().map((e) => e.message);
  if (kind === "workflow" && value) {
    messages.push(...((await convertWorkflowTemplate(context, value)).errors ?? []).map((e) => e.Message));
  }
  faults.push(...[...new Set(messages)].map((message) => ({ file: name, message })));
}
console.log(JSON.stringify(faults));
