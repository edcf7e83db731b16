package example;

import com.google.gson.Gson;
import com.google.gson.JsonObject;
import dynarex.credentials.v1.ChangeEvent;
import dynarex.credentials.v1.CredentialResolverGrpc;
import dynarex.credentials.v1.CredentialResolverGrpc.CredentialResolverBlockingStub;
import dynarex.credentials.v1.GetSigningKeysRequest;
import dynarex.credentials.v1.Order;
import dynarex.credentials.v1.ResolveForOrderRequest;
import dynarex.credentials.v1.WatchChangesRequest;
import io.grpc.Grpc;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import java.io.File;
import java.io.IOException;
import java.time.Duration;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import java.util.function.Function;

/**
 * The vault, as an order service sees it: asked with a deadline, asked again where that helps, verified, kept while it may be.
 *
 * <p>It may be used by any number of threads.
 */
final class Vault implements AutoCloseable {
    /** How long a credential may take, everything that is tried again included. */
    private static final Duration DEADLINE = Duration.ofSeconds(5);
    /** Milliseconds before a watch that broke begins again: the first pause, and the longest. */
    private static final long FIRST_PAUSE = 200;
    private static final long LONGEST_PAUSE = 30_000;

    /**
     * What failed with UNAVAILABLE is tried again: each call of this service only reads. When half of the calls fail, no more are
     * tried again.
     */
    private static final String SERVICE_CONFIG = """
            {
              "methodConfig": [{
                "name": [{"service": "dynarex.credentials.v1.CredentialResolver"}],
                "retryPolicy": {
                  "maxAttempts": 5,
                  "initialBackoff": "0.2s",
                  "maxBackoff": "2s",
                  "backoffMultiplier": 2,
                  "retryableStatusCodes": ["UNAVAILABLE"]
                }
              }],
              "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1}
            }
            """;

    /** A credential, and whether it was still at hand. */
    record Found(Credential credential, boolean fromCache) {}

    private final ManagedChannel channel;
    private final CredentialResolverBlockingStub stub;
    private final SigningKeys keys = new SigningKeys(this::readKeys);
    private final Cache cache = new Cache();
    private final Consumer<String> onChange;
    private final Set<String> watched = ConcurrentHashMap.newKeySet();

    @SuppressWarnings("unchecked")
    Vault(String address, File ca, File certificate, File key, Consumer<String> onChange) throws IOException {
        var identity = TlsChannelCredentials.newBuilder().trustManager(ca).keyManager(certificate, key).build();
        this.channel = Grpc.newChannelBuilder(address, identity)
                .defaultServiceConfig(new Gson().fromJson(SERVICE_CONFIG, Map.class))
                .enableRetry()
                // Finds a connection on which nothing comes any more, such as after a change of the network.
                .keepAliveTime(30, TimeUnit.SECONDS)
                .keepAliveTimeout(10, TimeUnit.SECONDS)
                .build();
        // A call waits for the connection, until its deadline.
        this.stub = CredentialResolverGrpc.newBlockingStub(channel).withWaitForReady();
        this.onChange = onChange;
    }

    /** As the command line does: TRESOR_SERVER, TRESOR_CA, TRESOR_CERT, TRESOR_KEY, else a `tresor dev` in this folder. */
    static Vault fromEnvironment(Consumer<String> onChange) throws IOException {
        var environment = System.getenv();
        var server = environment.getOrDefault("TRESOR_SERVER", "https://localhost:8443");
        var ca = environment.getOrDefault("TRESOR_CA", "tresor-dev/pki/ca.pem");
        var certificate = environment.getOrDefault("TRESOR_CERT", "tresor-dev/pki/order-service.pem");
        var key = environment.getOrDefault("TRESOR_KEY", "tresor-dev/pki/order-service.key");
        return new Vault(server.replace("https://", ""), new File(ca), new File(certificate), new File(key), onChange);
    }

    /** The credential that the order gets of this provider. */
    Found credential(String tenant, String provider, Order order) throws Refusal, Forged {
        // The order's id is a part of it: each order asks once, so that the audit log has a line for each.
        var question = ResolveForOrderRequest.newBuilder().setTenant(tenant).setProvider(provider).setOrder(order).build();
        var kept = cache.get(question);
        if (kept.isPresent()) {
            return new Found(kept.get(), true);
        }
        var answer = call(stub -> stub.resolveForOrder(question));
        var credential = verified(question, answer.getCredential().getSignedCredential());
        watchFrom(tenant, answer.getRevision());
        var cacheFor = answer.getCredential().getCacheFor();
        var time = Duration.ofSeconds(cacheFor.getSeconds(), cacheFor.getNanos());
        cache.keep(question, credential, time, answer.getRevision());
        return new Found(credential, false);
    }

    @Override
    public void close() {
        channel.shutdownNow();
    }

    private String readKeys() throws Refusal {
        return call(stub -> stub.getSigningKeys(GetSigningKeysRequest.getDefaultInstance())).getJwks();
    }

    /** Calls within the deadline. The channel tries again what is UNAVAILABLE; a quota says itself when to come back. */
    private <A> A call(Function<CredentialResolverBlockingStub, A> rpc) throws Refusal {
        var ends = System.nanoTime() + DEADLINE.toNanos();
        while (true) {
            Refusal refusal;
            try {
                return rpc.apply(stub.withDeadlineAfter(ends - System.nanoTime(), TimeUnit.NANOSECONDS));
            } catch (StatusRuntimeException error) {
                refusal = Refusal.of(error);
            }
            var wait = refusal.retryAfter;
            var isWorthIt = refusal.code == Status.Code.RESOURCE_EXHAUSTED && wait != null;
            if (!isWorthIt || System.nanoTime() + wait.toNanos() - ends >= 0) {
                throw refusal;
            }
            sleep(wait.toMillis());
        }
    }

    /** What the vault has signed, and nothing else of its answer. */
    private Credential verified(ResolveForOrderRequest question, String token) throws Forged, Refusal {
        JsonObject payload = keys.verify(token, "dynarex-credential+jws");
        var tenant = payload.get("tenant").getAsString();
        var provider = payload.get("provider").getAsString();
        if (!tenant.equals(question.getTenant()) || !provider.equals(question.getProvider())) {
            throw new Forged("it is for another tenant or provider");
        }
        var path = tenant + "/" + provider + "/" + payload.get("scope").getAsString();
        if (payload.has("subject")) {
            path += "/" + payload.get("subject").getAsString();
        }
        var secret = payload.getAsJsonObject(payload.has("login") ? "login" : "mail_account");
        return new Credential(path, payload.get("version").getAsLong(), secret);
    }

    /** Follows the tenant's changes from its first answer on, so that none falls between the two. */
    private void watchFrom(String tenant, long revision) {
        if (watched.add(tenant)) {
            var thread = new Thread(() -> watch(tenant, revision), "watch " + tenant);
            thread.setDaemon(true);
            thread.start();
        }
    }

    private void watch(String tenant, long revision) {
        var pause = FIRST_PAUSE;
        while (!channel.isShutdown()) {
            var request = WatchChangesRequest.newBuilder().setTenant(tenant).setFromRevision(revision).build();
            try {
                var answers = stub.watchChanges(request);
                while (answers.hasNext()) {
                    var event = answers.next().getEvent();
                    revision = event.getRevision();
                    pause = FIRST_PAUSE;
                    changed(tenant, event);
                }
            } catch (StatusRuntimeException broken) {
                // It goes on after the last revision that was seen; until then `cache_for` limits what is kept.
            }
            sleep((long) (pause * ThreadLocalRandom.current().nextDouble(0.5, 1)));
            pause = Math.min(pause * 2, LONGEST_PAUSE);
            // The channel's own pauses grow to two minutes.
            channel.resetConnectBackoff();
        }
    }

    private void changed(String tenant, ChangeEvent event) {
        if (event.getKind() == ChangeEvent.Kind.KIND_RESYNC) {
            cache.dropAll(tenant, event.getRevision());
            onChange.accept(tenant);
        } else {
            var provider = event.getRef().getProvider();
            cache.drop(tenant, provider, event.getRevision());
            onChange.accept(tenant + "/" + provider);
        }
    }

    private static void sleep(long milliseconds) {
        try {
            Thread.sleep(milliseconds);
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
        }
    }
}
