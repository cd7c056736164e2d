// Asks the server of githubtest for what it knows, as GitHub's own client asks GitHub.
// TestOctokit runs it and says in API, TOKEN, READER, HEAD and START what is there;
// /control/… is the test's, for what only GitHub's pages do.
import assert from "node:assert/strict";
import { throttling } from "@octokit/plugin-throttling";
import { Octokit } from "@octokit/rest";

const { API, TOKEN, READER, HEAD, START } = process.env;
const branch = "sluice/promote/staging/api";
const at = { owner: "shop", repo: "environments" };
const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const client = (auth, options = {}, Client = Octokit) => new Client({ auth, baseUrl: `${API}/api/v3`, log: quiet, ...options });
const octokit = client(TOKEN);
const { git, issues, pulls, rateLimit, repos, users } = octokit.rest;

const control = async (what) => assert.equal((await fetch(`${API}/control/${what}`, { method: "POST" })).status, 200);

// refused expects an error of a status, and returns it.
async function refused(status, message, call) {
  let error;
  await assert.rejects(call, (e) => ((error = e), true));
  assert.equal(error.status, status, `${error.status} ${error.message}`);
  assert.match(error.message, message);
  return error;
}

const steps = {
  async "who and where"() {
    assert.equal((await users.getAuthenticated()).data.login, "ada");
    assert.deepEqual(await octokit.graphql("{ viewer { login } }"), { viewer: { login: "ada" } });
    assert.equal((await repos.get(at)).data.default_branch, "main");
    assert.equal((await git.getRef({ ...at, ref: `heads/${branch}` })).data.object.sha, HEAD);
    await refused(404, /Not Found/, () => git.getRef({ ...at, ref: "heads/none" }));
    await refused(404, /Not Found/, () => repos.get({ ...at, repo: "other" }));
    await refused(401, /Bad credentials/, () => client("ghp_wrong").rest.repos.get(at));
    await refused(403, /not accessible by personal access token/, () =>
      client(READER).rest.issues.createComment({ ...at, issue_number: 1, body: "no" }));
  },

  async "pull requests"() {
    const made = (await pulls.create({ ...at, head: branch, base: "main", title: "Promote", body: "Evidence", maintainer_can_modify: false })).data;
    assert.deepEqual([made.number, made.state, made.mergeable, made.head.sha, made.user.login], [1, "open", true, HEAD, "ada"]);
    const again = await refused(422, /A pull request already exists for shop:/, () => pulls.create({ ...at, head: `shop:${branch}`, base: "main", title: "Again" }));
    assert.equal(again.response.data.errors[0].resource, "PullRequest");
    const list = (await pulls.list({ ...at, state: "open", head: `shop:${branch}`, base: "main" })).data;
    assert.deepEqual(list.map((p) => p.number), [1]);
    assert.equal(list[0].mergeable, undefined, "lists do not say whether one can be merged");
    assert.equal((await pulls.update({ ...at, pull_number: 1, title: "Other", state: "closed" })).data.state, "closed");
    assert.deepEqual((await pulls.list({ ...at })).data, []);
    assert.equal((await pulls.update({ ...at, pull_number: 1, state: "open", body: "More" })).data.body, "More");
    await refused(404, /Not Found/, () => pulls.get({ ...at, pull_number: 2 }));
    await refused(404, /Not Found/, () => pulls.checkIfMerged({ ...at, pull_number: 1 }));
  },

  async "issues and labels"() {
    const issue = { ...at, issue_number: 1 };
    const names = (answer) => answer.data.map((l) => l.name);
    assert.deepEqual(names(await issues.addLabels({ ...issue, labels: ["one", "two"] })), ["one", "two"]);
    assert.deepEqual(names(await issues.listLabelsOnIssue(issue)), ["one", "two"]);
    assert.deepEqual(names(await issues.setLabels({ ...issue, labels: ["two", "three"] })), ["two", "three"]);
    assert.deepEqual(names(await issues.removeLabel({ ...issue, name: "three" })), ["two"]);
    await refused(404, /Label does not exist/, () => issues.removeLabel({ ...issue, name: "three" }));
    assert.deepEqual((await issues.createLabel({ ...at, name: "sluice/promotion", color: "ededed" })).data.name, "sluice/promotion");
    await refused(422, /already_exists/, () => issues.createLabel({ ...at, name: "one" }));
    assert.deepEqual(names(await issues.listLabelsForRepo(at)).sort(), ["one", "sluice/promotion", "three", "two"]);
    assert.equal((await issues.get(issue)).data.pull_request.html_url, `${(await repos.get(at)).data.html_url}/pull/1`);
    assert.equal((await issues.listForRepo({ ...at, labels: "two", state: "open" })).data.length, 1);
    assert.equal((await issues.listForRepo({ ...at, labels: "two,one" })).data.length, 0);
    assert.equal((await issues.update({ ...issue, title: "By its issue" })).data.title, "By its issue");
    assert.equal((await pulls.get({ ...at, pull_number: 1 })).data.title, "By its issue");
  },

  async "comments"() {
    const made = (await issues.createComment({ ...at, issue_number: 1, body: "Hello" })).data;
    const one = { ...at, comment_id: made.id };
    assert.equal((await issues.getComment(one)).data.body, "Hello");
    assert.equal((await issues.updateComment({ ...one, body: "Bye" })).data.body, "Bye");
    assert.deepEqual((await issues.listComments({ ...at, issue_number: 1 })).data.map((c) => c.body), ["Bye"]);
    assert.equal((await issues.get({ ...at, issue_number: 1 })).data.comments, 1);
    assert.equal((await issues.deleteComment(one)).status, 204);
    await refused(404, /Not Found/, () => issues.getComment(one));
  },

  async "statuses"() {
    for (const state of ["pending", "success"]) {
      const made = await repos.createCommitStatus({ ...at, sha: HEAD, state, context: "sluice/soak", description: "waits", target_url: "https://example.com" });
      assert.equal(made.status, 201);
    }
    await repos.createCommitStatus({ ...at, sha: HEAD, state: "pending", context: "sluice/order" });
    const combined = (await repos.getCombinedStatusForRef({ ...at, ref: branch })).data;
    assert.deepEqual([combined.state, combined.sha, combined.total_count], ["pending", HEAD, 2]);
    assert.deepEqual(Object.fromEntries(combined.statuses.map((s) => [s.context, s.state])), { "sluice/soak": "success", "sluice/order": "pending" });
    assert.equal((await repos.listCommitStatusesForRef({ ...at, ref: HEAD })).data.length, 3);
    await refused(422, /No commit found for SHA/, () => repos.createCommitStatus({ ...at, sha: "0".repeat(40), state: "success" }));
  },

  async "deployments"() {
    const wanted = { ...at, ref: HEAD, environment: "staging/api", task: "sluice", auto_merge: false };
    await refused(409, /Conflict/, () => repos.createDeployment(wanted));
    const made = (await repos.createDeployment({ ...wanted, required_contexts: [] })).data;
    const one = { ...at, deployment_id: made.id };
    assert.deepEqual((await repos.getDeployment(one)).data, made);
    assert.deepEqual((await repos.listDeployments({ ...at, environment: "staging/api", sha: HEAD })).data.map((d) => d.id), [made.id]);
    assert.deepEqual((await repos.listDeployments({ ...at, environment: "production/api" })).data, []);
    const status = (await repos.createDeploymentStatus({ ...one, state: "success", description: "live", environment_url: "https://example.com" })).data;
    assert.equal((await repos.getDeploymentStatus({ ...one, status_id: status.id })).data.state, "success");
    assert.deepEqual((await repos.listDeploymentStatuses(one)).data.map((s) => s.environment), ["staging/api"]);
    await refused(404, /Not Found/, () => repos.getDeployment({ ...at, deployment_id: 4711 }));
  },

  async "merges"() {
    const one = { ...at, pull_number: 1 };
    await refused(409, /Head branch was modified/, () => pulls.merge({ ...one, sha: START }));
    await control("protect");
    assert.equal((await pulls.get(one)).data.mergeable_state, "blocked");
    await refused(405, /approving review is required/, () => pulls.merge({ ...one, sha: HEAD }));
    await control("unprotect");
    await refused(405, /not allowed/, () => pulls.merge({ ...one, sha: HEAD, merge_method: "squash" }));
    const merged = (await pulls.merge({ ...one, sha: HEAD, merge_method: "merge", commit_title: "Merge it" })).data;
    assert.equal(merged.merged, true);
    assert.equal((await git.getRef({ ...at, ref: "heads/main" })).data.object.sha, merged.sha);
    assert.equal((await pulls.get(one)).data.merge_commit_sha, merged.sha);
    assert.equal((await pulls.checkIfMerged(one)).status, 204);
    await refused(405, /not mergeable/, () => pulls.merge(one));
    assert.equal((await git.deleteRef({ ...at, ref: `heads/${branch}` })).status, 204);
    await refused(422, /Reference does not exist/, () => git.deleteRef({ ...at, ref: `heads/${branch}` }));
  },

  async "pages"() {
    await control("crowd"); // 24 pull requests
    const all = await octokit.paginate(pulls.list, { ...at, state: "all", per_page: 10 });
    assert.deepEqual(all.map((p) => p.number), Array.from({ length: 25 }, (_, i) => 25 - i));
    const oldest = await octokit.paginate("GET /repos/{owner}/{repo}/pulls", { ...at, state: "all", direction: "asc", per_page: 10 });
    assert.deepEqual(oldest.map((p) => p.number), Array.from({ length: 25 }, (_, i) => i + 1));
    const contexts = await octokit.paginate(repos.getCombinedStatusForRef, { ...at, ref: HEAD, per_page: 1 }, (answer) => answer.data.statuses);
    assert.deepEqual(contexts.map((s) => s.context).sort(), ["sluice/order", "sluice/soak"]);
    assert.equal((await octokit.paginate(issues.listForRepo, { ...at, state: "all" })).length, 25);
    assert.deepEqual((await pulls.list({ ...at, state: "all", page: 9 })).data, []);
  },

  async "conditional requests"() {
    const first = await repos.get(at);
    const used = (answer) => Number(answer.headers["x-ratelimit-used"]);
    for (const tag of [first.headers.etag, `"other", ${first.headers.etag}`, first.headers.etag.replace("W/", "")]) {
      const error = await refused(304, /Not modified/, () => repos.get({ ...at, headers: { "if-none-match": tag } }));
      assert.equal(used(error.response), used(first), "an unchanged answer costs nothing");
    }
    assert.equal((await repos.get({ ...at, headers: { "if-none-match": '"other"' } })).status, 200);
  },

  async "limits"() {
    const { core } = (await rateLimit.get()).data.resources;
    assert.equal(core.used + core.remaining, core.limit);
    assert.equal((await rateLimit.get()).data.resources.core.used, core.used, "asking costs nothing");

    const told = [];
    const retry = (kind) => (after, options, _octokit, retries) => (told.push([kind, options.method, after > 0]), retries < 1);
    const careful = client(TOKEN, { throttle: { onRateLimit: retry("primary"), onSecondaryRateLimit: retry("secondary"), retryAfterBaseValue: 1 } }, Octokit.plugin(throttling));
    for (const status of [403, 429]) {
      await control(`throttle?status=${status}`);
      assert.equal((await careful.rest.repos.get(at)).status, 200, "asked again");
      assert.deepEqual(told.splice(0), [["secondary", "GET", true]]);
    }
    await control("exhaust");
    await refused(403, /API rate limit exceeded/, () => careful.rest.repos.get(at));
    assert.deepEqual(told.splice(0), [["primary", "GET", true], ["primary", "GET", true]]);
    assert.equal((await rateLimit.get()).data.resources.core.remaining, 0);
    await control("refill");
    assert.equal((await repos.get(at)).headers["x-ratelimit-remaining"], "4999");
  },

  async "a new name"() {
    await control("rename");
    assert.equal((await repos.get(at)).data.full_name, "shop/renamed");
    assert.equal((await pulls.get({ ...at, pull_number: 1 })).data.merged, true);
  },
};

for (const [name, step] of Object.entries(steps)) {
  try {
    await step();
  } catch (error) {
    console.error(`${name}: ${error.stack}`);
    process.exit(1);
  }
}
