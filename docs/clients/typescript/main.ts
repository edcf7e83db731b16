/**
 * node main.ts TENANT PROVIDER: for each line `ORDER OFFICE` on standard input, tells which credential the order gets.
 *
 * It logs in nowhere, and prints no secret.
 */

import { createInterface } from "node:readline/promises";

import { Forged, Refusal, Vault } from "./vault.ts";

const [tenant = "demo", provider = "dat"] = process.argv.slice(2);
const vault = Vault.fromEnvironment((what) => console.log(`changed: ${what}`));

for await (const line of createInterface({ input: process.stdin })) {
  const [orderId = "", officeId] = line.split(" ");
  try {
    const { credential, fromCache } = await vault.credential(tenant, provider, { orderId, officeId });
    // Here an order service logs in with `credential.expose()`.
    console.log(`${orderId}: ${credential.path} v${credential.version} from the ${fromCache ? "cache" : "vault"}`);
  } catch (error) {
    if (error instanceof Refusal) {
      console.log(`${orderId}: ${whatToDo(error)}`);
    } else if (error instanceof Forged) {
      console.log(`${orderId}: FORGED: ${error.message}`);
    } else {
      throw error;
    }
  }
}
vault.close();

/** Programs go by the reason; the text is for people. */
function whatToDo({ reason, metadata, message }: Refusal): string {
  switch (reason) {
    case "CREDENTIAL_NOT_CONFIGURED":
    case "CREDENTIAL_DISABLED":
    case "CREDENTIAL_EXPIRED":
      return `${reason}: an administrator has to see to ${metadata.path}`;
    case "ORDER_LACKS_OFFICE":
    case "ORDER_LACKS_APPRAISER":
    case "ORDER_LACKS_USER":
      return `${reason}: the order has to say more`;
    default:
      return message;
  }
}
