// Signs and verifies deliveries with the packages that senders and receivers
// use, for t/auth/standard-webhooks.t:
//
//     node signer.cjs DIRECTORY < cases.json
//
// DIRECTORY has node_modules; the answers go to standard output, in order:
//
//     { "sign": "svix", "secret": …, "id": …, "timestamp": …, "body": … }
//         the header webhook-signature
//     { "verify": "standardwebhooks", "secret": …, "headers": { … }, "body": … }
//         true or false

"use strict";

const { createRequire } = require("node:module");
const { readFileSync } = require("node:fs");
const path = require("node:path");

const load = createRequire(path.resolve(process.argv[2], "package.json"));
const packages = {
  standardwebhooks: load("standardwebhooks"),
  svix: load("svix"),
};

function answer(test) {
  const { Webhook } = packages[test.sign ?? test.verify];
  const webhook = new Webhook(test.secret);

  if (test.sign) {
    return webhook.sign(test.id, new Date(test.timestamp * 1000), test.body);
  }

  try {
    webhook.verify(test.body, test.headers);
    return true;
  } catch (error) {
    // Its body need not be JSON, which is looked at when the signature is good.
    if (error instanceof SyntaxError) {
      return true;
    }
    if (error.name !== "WebhookVerificationError") {
      throw error;
    }
    return false;
  }
}

const cases = JSON.parse(readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(cases.map(answer)));
