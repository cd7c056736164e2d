// Cuts GitHub's OpenAPI description to what promotion/github and its test server use:
// the operations listed here, and the components that they refer to. Whole it has
// 13 MB, cut a fifth of one.
//
//   node cut.mjs DESCRIPTION OUTPUT
import { readFileSync, writeFileSync } from "node:fs";

const repository = "/repos/{owner}/{repo}";
const operations = {
  "/": ["get"],
  "/user": ["get"],
  "/rate_limit": ["get"],
  "/app": ["get"],
  "/app/installations/{installation_id}/access_tokens": ["post"],
  [repository]: ["get"],
  [`${repository}/git/ref/{ref}`]: ["get"],
  [`${repository}/git/refs/{ref}`]: ["delete"],
  [`${repository}/pulls`]: ["get", "post"],
  [`${repository}/pulls/{pull_number}`]: ["get", "patch"],
  [`${repository}/pulls/{pull_number}/merge`]: ["get", "put"],
  [`${repository}/labels`]: ["get", "post"],
  [`${repository}/issues`]: ["get"],
  [`${repository}/issues/{issue_number}`]: ["get", "patch"],
  [`${repository}/issues/{issue_number}/labels`]: ["get", "post", "put"],
  [`${repository}/issues/{issue_number}/labels/{name}`]: ["delete"],
  [`${repository}/issues/{issue_number}/comments`]: ["get", "post"],
  [`${repository}/issues/comments/{comment_id}`]: ["get", "patch", "delete"],
  [`${repository}/commits/{ref}/status`]: ["get"],
  [`${repository}/commits/{ref}/statuses`]: ["get"],
  [`${repository}/statuses/{sha}`]: ["post"],
  [`${repository}/deployments`]: ["get", "post"],
  [`${repository}/deployments/{deployment_id}`]: ["get"],
  [`${repository}/deployments/{deployment_id}/statuses`]: ["get", "post"],
  [`${repository}/deployments/{deployment_id}/statuses/{status_id}`]: ["get"],
};

const [, , input, output] = process.argv;
const whole = JSON.parse(readFileSync(input, "utf8"));
const cut = { openapi: whole.openapi, info: whole.info, paths: {}, components: {} };

for (const [path, methods] of Object.entries(operations)) {
  cut.paths[path] = {};
  for (const method of methods) {
    const operation = whole.paths[path]?.[method];
    if (!operation) throw new Error(`the description has no ${method} ${path}`);
    cut.paths[path][method] = operation;
  }
}

// What is referred to, and what that refers to.
const open = [cut.paths];
while (open.length > 0) {
  const node = open.pop();
  if (node === null || typeof node !== "object") continue;
  delete node.examples; // of no use to validation, and most of the size
  if (typeof node.$ref === "string") {
    const [kind, name] = node.$ref.replace("#/components/", "").split("/");
    cut.components[kind] ??= {};
    if (!(name in cut.components[kind])) {
      cut.components[kind][name] = whole.components[kind][name];
      open.push(cut.components[kind][name]);
    }
  }
  open.push(...Object.values(node));
}
writeFileSync(output, JSON.stringify(cut));
