/** Credentials from Tresor: asked for with a deadline, asked for again where that helps, verified, kept while they may be. */

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import * as jose from "jose";
import protobuf from "protobufjs";

/** Milliseconds that a credential may take, everything that is tried again included. */
const DEADLINE = 5_000;
/** Milliseconds between two readings of the signing keys, so that nobody makes us read them for each forged answer. */
const KEYS_AT_MOST_EVERY = 1_000;
/** Milliseconds before a watch that broke begins again: the first pause, and the longest. */
const FIRST_PAUSE = 200;
const LONGEST_PAUSE = 30_000;

/** What failed with UNAVAILABLE is tried again: each call of this service only reads. */
const SERVICE_CONFIG = {
  loadBalancingConfig: [],
  methodConfig: [
    {
      name: [{ service: "dynarex.credentials.v1.CredentialResolver" }],
      retryPolicy: {
        maxAttempts: 5,
        initialBackoff: "0.2s",
        maxBackoff: "2s",
        backoffMultiplier: 2,
        retryableStatusCodes: ["UNAVAILABLE"],
      },
    },
  ],
  // When half of the calls fail, no more are tried again.
  retryThrottling: { maxTokens: 10, tokenRatio: 0.1 },
};
const CHANNEL: grpc.ChannelOptions = {
  "grpc.service_config": JSON.stringify(SERVICE_CONFIG),
  "grpc.initial_reconnect_backoff_ms": 200,
  "grpc.max_reconnect_backoff_ms": 2_000,
  // Finds a connection on which nothing comes any more, such as after a change of the network.
  "grpc.keepalive_time_ms": 30_000,
  "grpc.keepalive_timeout_ms": 10_000,
};

export interface Order {
  orderId: string;
  officeId?: string;
  createdInOfficeId?: string;
  appraiserId?: string;
  userId?: string;
}

/** What an order logs in with. */
export class Credential {
  readonly path: string;
  readonly version: number;
  /** `login` or `mail_account`, as docs/DOMAIN.md says; private, so that nothing prints it. */
  readonly #secret: Record<string, unknown>;

  constructor(path: string, version: number, secret: Record<string, unknown>) {
    this.path = path;
    this.version = version;
    this.#secret = secret;
  }

  expose(): Record<string, unknown> {
    return this.#secret;
  }
}

/** The vault hands nothing out: why, in words for programs (`code`, `reason`) and for people. */
export class Refusal extends Error {
  readonly code: string;
  reason = "";
  metadata: Record<string, string> = {};
  /** Milliseconds after which it may be tried again, if the vault says so. */
  retryAfter: number | undefined;

  constructor(error: grpc.ServiceError) {
    super();
    this.code = grpc.status[error.code] ?? String(error.code);
    const [details] = error.metadata?.get("grpc-status-details-bin") ?? [];
    for (const { type_url, value } of details instanceof Buffer ? decode("Status", details).details : []) {
      if (type_url.endsWith("/google.rpc.ErrorInfo")) {
        ({ reason: this.reason, metadata: this.metadata } = decode("ErrorInfo", value));
      } else if (type_url.endsWith("/google.rpc.RetryInfo")) {
        this.retryAfter = milliseconds(decode("RetryInfo", value).retryDelay);
      }
    }
    this.message = `${this.code} ${this.reason}`.trim() + `: ${error.details}`;
  }
}

/** An answer that the vault has not signed as it came. */
export class Forged extends Error {}

/** The vault, as an order service sees it. */
export class Vault {
  readonly #stub: Resolver;
  readonly #keys: SigningKeys;
  readonly #cache = new Cache();
  readonly #watches = new Map<string, grpc.ClientReadableStream<{ event: ChangeEvent }> | undefined>();
  readonly #onChange: (what: string) => void;
  #isClosed = false;

  constructor(address: string, ca: string, certificate: string, key: string, onChange = (_: string) => {}) {
    const [roots, chain, secret] = [ca, certificate, key].map((path) => readFileSync(path));
    this.#stub = new ResolverClient(address, grpc.credentials.createSsl(roots, secret, chain), CHANNEL) as unknown as Resolver;
    this.#keys = new SigningKeys(async () => (await this.#call<{ jwks: string }>("GetSigningKeys", {})).jwks);
    this.#onChange = onChange;
  }

  /** As the command line does: TRESOR_SERVER, TRESOR_CA, TRESOR_CERT, TRESOR_KEY, else a `tresor dev` in this folder. */
  static fromEnvironment(onChange?: (what: string) => void): Vault {
    const { TRESOR_SERVER = "https://localhost:8443", TRESOR_CA, TRESOR_CERT, TRESOR_KEY } = process.env;
    const pki = "tresor-dev/pki";
    return new Vault(
      TRESOR_SERVER.replace("https://", ""),
      TRESOR_CA ?? `${pki}/ca.pem`,
      TRESOR_CERT ?? `${pki}/order-service.pem`,
      TRESOR_KEY ?? `${pki}/order-service.key`,
      onChange,
    );
  }

  /**
   * The credential that the order gets of this provider, and whether it was still at hand.
   *
   * Throws Refusal and Forged.
   */
  async credential(tenant: string, provider: string, order: Order): Promise<{ credential: Credential; fromCache: boolean }> {
    // The order's id is a part of it: each order asks once, so that the audit log has a line for each.
    const question = JSON.stringify([
      tenant, provider, order.orderId, order.officeId, order.createdInOfficeId, order.appraiserId, order.userId,
    ]);
    const kept = this.#cache.get(question);
    if (kept) {
      return { credential: kept, fromCache: true };
    }
    const answer = await this.#call<Answer>("ResolveForOrder", { tenant, provider, order });
    const credential = await this.#verified(tenant, provider, answer.credential.signedCredential);
    this.#watchFrom(tenant, answer.revision);
    this.#cache.keep({ question, tenant, provider, credential }, milliseconds(answer.credential.cacheFor), answer.revision);
    return { credential, fromCache: false };
  }

  close(): void {
    this.#isClosed = true;
    for (const stream of this.#watches.values()) {
      stream?.cancel();
    }
    this.#stub.close();
  }

  /** Calls within the deadline. The channel tries again what is UNAVAILABLE; a quota says itself when to come back. */
  async #call<A>(method: "ResolveForOrder" | "GetSigningKeys", request: object): Promise<A> {
    const deadline = Date.now() + DEADLINE;
    for (;;) {
      try {
        return await new Promise<A>((resolve, reject) => {
          this.#stub[method](request, waitForReady(), { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
        });
      } catch (error) {
        const refusal = new Refusal(error as grpc.ServiceError);
        const { code, retryAfter } = refusal;
        if (code !== "RESOURCE_EXHAUSTED" || retryAfter === undefined || Date.now() + retryAfter >= deadline) {
          throw refusal;
        }
        await sleep(retryAfter);
      }
    }
  }

  /** What the vault has signed, and nothing else of its answer. */
  async #verified(tenant: string, provider: string, token: string): Promise<Credential> {
    let signed: jose.CompactVerifyResult;
    try {
      signed = await jose.compactVerify(token, (header) => this.#keys.find(header), { algorithms: ["EdDSA"] });
    } catch (error) {
      if (error instanceof jose.errors.JOSEError || error instanceof TypeError) {
        throw new Forged(`the signature does not verify: ${error.message}`);
      }
      throw error;
    }
    if (signed.protectedHeader.typ !== "dynarex-credential+jws") {
      throw new Forged("it is signed as something else");
    }
    const payload = JSON.parse(new TextDecoder().decode(signed.payload));
    if (payload.tenant !== tenant || payload.provider !== provider) {
      throw new Forged("it is for another tenant or provider");
    }
    const path = [tenant, provider, payload.scope, payload.subject].filter(Boolean).join("/");
    return new Credential(path, payload.version, payload.login ?? payload.mail_account);
  }

  /** Follows the tenant's changes from its first answer on, so that none falls between the two. */
  #watchFrom(tenant: string, revision: number): void {
    if (!this.#watches.has(tenant)) {
      this.#watches.set(tenant, undefined);
      void this.#watch(tenant, revision);
    }
  }

  async #watch(tenant: string, fromRevision: number): Promise<void> {
    let pause = FIRST_PAUSE;
    while (!this.#isClosed) {
      const stream = this.#stub.WatchChanges({ tenant, fromRevision }, waitForReady());
      this.#watches.set(tenant, stream);
      try {
        for await (const { event } of stream) {
          fromRevision = event.revision;
          pause = FIRST_PAUSE;
          this.#changed(tenant, event);
        }
      } catch {
        // It goes on after the last revision that was seen; until then `cacheFor` limits what is kept.
      }
      await sleep(pause * (0.5 + Math.random() / 2), undefined, { ref: false });
      pause = Math.min(pause * 2, LONGEST_PAUSE);
    }
  }

  #changed(tenant: string, event: ChangeEvent): void {
    const provider = event.kind === "KIND_RESYNC" ? undefined : event.ref.provider;
    this.#cache.drop(tenant, provider, event.revision);
    this.#onChange(provider === undefined ? tenant : `${tenant}/${provider}`);
  }
}

/** The vault's public keys; they are read again when an answer names one that is not there. */
class SigningKeys {
  readonly #read: () => Promise<string>;
  #keys: jose.JWK[] = [];
  #readAt = -Infinity;

  constructor(read: () => Promise<string>) {
    this.#read = read;
  }

  async find({ kid }: jose.JWSHeaderParameters): Promise<jose.CryptoKey | Uint8Array> {
    const known = () => this.#keys.find((key) => key.kid === kid);
    if (!known() && Date.now() - this.#readAt >= KEYS_AT_MOST_EVERY) {
      this.#keys = JSON.parse(await this.#read()).keys;
      this.#readAt = Date.now();
    }
    const key = known();
    if (!key) {
      throw new Forged("the vault has no key of that name");
    }
    return jose.importJWK(key, "EdDSA");
  }
}

interface Kept {
  question: string;
  tenant: string;
  provider: string;
  credential: Credential;
}

/** Answers, as long as the vault lets them be kept and tells of no change. */
class Cache {
  #kept = new Map<string, Kept & { ends: number }>();
  /** The newest change of each provider, as `tenant/provider`, and of each tenant. */
  #changes = new Map<string, number>();

  get(question: string): Credential | undefined {
    const kept = this.#kept.get(question);
    return kept && performance.now() < kept.ends ? kept.credential : undefined;
  }

  keep(kept: Kept, time: number, revision: number): void {
    const now = performance.now();
    this.#forget((other) => other.ends <= now);
    // An answer that was under way when a change was told may be from before it.
    const newest = [kept.tenant, `${kept.tenant}/${kept.provider}`].map((name) => this.#changes.get(name) ?? 0);
    if (revision >= Math.max(...newest) && time > 0) {
      this.#kept.set(kept.question, { ...kept, ends: now + time });
    }
  }

  /**
   * Drops what is kept of the provider; without one, of the tenant.
   *
   * Not only the credential that has changed: an order that got the general one may now get its office's.
   */
  drop(tenant: string, provider: string | undefined, revision: number): void {
    this.#forget((kept) => kept.tenant === tenant && (provider === undefined || kept.provider === provider));
    if (provider === undefined) {
      // After a restore from a backup, revisions begin anew.
      for (const name of [...this.#changes.keys()].filter((name) => name.startsWith(`${tenant}/`))) {
        this.#changes.delete(name);
      }
    }
    this.#changes.set(provider === undefined ? tenant : `${tenant}/${provider}`, revision);
  }

  #forget(isConcerned: (kept: Kept & { ends: number }) => boolean): void {
    for (const kept of [...this.#kept.values()].filter(isConcerned)) {
      this.#kept.delete(kept.question);
    }
  }
}

/** What of the contract is used here. */
interface Answer {
  credential: { signedCredential: string; cacheFor: Duration };
  revision: number;
}

interface ChangeEvent {
  revision: number;
  kind: string;
  ref: { tenant: string; provider: string };
}

interface Duration {
  seconds: number | { toString(): string };
  nanos: number;
}

type Unary = (
  request: object,
  metadata: grpc.Metadata,
  options: grpc.CallOptions,
  answered: (error: grpc.ServiceError | null, answer?: any) => void,
) => void;

interface Resolver {
  ResolveForOrder: Unary;
  GetSigningKeys: Unary;
  WatchChanges(request: object, metadata: grpc.Metadata): grpc.ClientReadableStream<{ event: ChangeEvent }>;
  close(): void;
}

const PROTO = new URL("../../../proto/", import.meta.url).pathname;
const CONTRACT = loadSync("dynarex/credentials/v1/resolver.proto", {
  includeDirs: [PROTO],
  enums: String,
  longs: Number,
  defaults: true,
});
const ResolverClient = grpc.makeClientConstructor(
  CONTRACT["dynarex.credentials.v1.CredentialResolver"] as grpc.ServiceDefinition,
  "CredentialResolver",
);

const RPC = protobuf.loadSync(new URL("rpc.proto", import.meta.url).pathname);

function decode(message: string, bytes: Uint8Array): any {
  const type = RPC.lookupType(`google.rpc.${message}`);
  return type.toObject(type.decode(bytes), { defaults: true });
}

function milliseconds(duration: Duration): number {
  return Number(duration.seconds) * 1_000 + duration.nanos / 1e6;
}

/** Lets a call wait for the connection, until its deadline. */
function waitForReady(): grpc.Metadata {
  return new grpc.Metadata({ waitForReady: true });
}
