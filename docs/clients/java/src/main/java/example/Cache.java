package example;

import dynarex.credentials.v1.ResolveForOrderRequest;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;

/** Answers, as long as the vault lets them be kept and tells of no change. */
final class Cache {
    private record Kept(Credential credential, long ends) {
        boolean isOver(long now) {
            return now - ends >= 0;
        }
    }

    private final Map<ResolveForOrderRequest, Kept> kept = new HashMap<>();
    /** The newest change of each provider, as {@code tenant/provider}, and of each tenant, as {@code tenant/}. */
    private final Map<String, Long> changes = new HashMap<>();

    synchronized Optional<Credential> get(ResolveForOrderRequest question) {
        var found = kept.get(question);
        return found == null || found.isOver(System.nanoTime()) ? Optional.empty() : Optional.of(found.credential());
    }

    synchronized void keep(ResolveForOrderRequest question, Credential credential, Duration time, long revision) {
        var now = System.nanoTime();
        kept.values().removeIf(each -> each.isOver(now));
        // An answer that was under way when a change was told may be from before it.
        var tenant = question.getTenant() + "/";
        var newest = Math.max(changes.getOrDefault(tenant, 0L), changes.getOrDefault(tenant + question.getProvider(), 0L));
        if (revision >= newest && !time.isZero()) {
            kept.put(question, new Kept(credential, now + time.toNanos()));
        }
    }

    /**
     * Drops what is kept of the provider.
     *
     * <p>Not only the credential that has changed: an order that got the general one may now get its office's.
     */
    synchronized void drop(String tenant, String provider, long revision) {
        kept.keySet().removeIf(question -> question.getTenant().equals(tenant) && question.getProvider().equals(provider));
        changes.put(tenant + "/" + provider, revision);
    }

    /** Drops what is kept of the tenant. */
    synchronized void dropAll(String tenant, long revision) {
        kept.keySet().removeIf(question -> question.getTenant().equals(tenant));
        // After a restore from a backup, revisions begin anew.
        changes.keySet().removeIf(name -> name.startsWith(tenant + "/"));
        changes.put(tenant + "/", revision);
    }
}
