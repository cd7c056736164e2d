// Package promotion carries a digest from one environment to the next by pull
// request: it proposes, shows the evidence, judges the gates and merges. Changes of
// traffic that are to be reviewed go the same way.
//
// Call New, then Service.Propose or Service.ProposeTraffic; Service.Gates says what a pull request
// waits for and Service.Merge merges it. Both Body and Judge are pure
// functions over one gathered Input, so what people read and what is decided
// come from the same facts.
//
// The pull requests live in a Forge; promotion/local keeps them in the
// repository itself and promotion/forgetest is the suite that every forge
// must pass.
//
// The package never reads a status back, never takes policy from the head of
// a pull request, never sees a decryption key (every render is keyless) and
// never talks to a cluster: what it needs to know of one it asks Health.
package promotion
