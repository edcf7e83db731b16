using Dynarex.Credentials.V1;

namespace Example;

/// <summary>Answers, as long as the vault lets them be kept and tells of no change.</summary>
internal sealed class Cache
{
    private readonly Lock _lock = new();
    private readonly Dictionary<ResolveForOrderRequest, (Credential Credential, long Since, TimeSpan Time)> _kept = [];

    /// <summary>The newest change of each provider of a tenant, and, where there is no provider, of the tenant.</summary>
    private readonly Dictionary<(string Tenant, string? Provider), ulong> _changes = [];

    public Credential? Get(ResolveForOrderRequest question)
    {
        lock (_lock)
        {
            return _kept.TryGetValue(question, out var kept) && !IsOver(kept) ? kept.Credential : null;
        }
    }

    public void Keep(ResolveForOrderRequest question, Credential credential, TimeSpan time, ulong revision)
    {
        lock (_lock)
        {
            Forget((_, kept) => IsOver(kept));
            // An answer that was under way when a change was told may be from before it.
            var newest = Math.Max(
                _changes.GetValueOrDefault((question.Tenant, null)),
                _changes.GetValueOrDefault((question.Tenant, question.Provider)));
            if (revision >= newest && time > TimeSpan.Zero)
            {
                _kept[question] = (credential, TimeProvider.System.GetTimestamp(), time);
            }
        }
    }

    /// <summary>Drops what is kept of the provider; without one, of the tenant.</summary>
    /// <remarks>Not only the credential that has changed: an order that got the general one may now get its office's.</remarks>
    public void Drop(string tenant, string? provider, ulong revision)
    {
        lock (_lock)
        {
            Forget((question, _) => question.Tenant == tenant && (provider is null || question.Provider == provider));
            // After a restore from a backup, revisions begin anew.
            foreach (var changed in _changes.Keys.Where(changed => provider is null && changed.Tenant == tenant).ToList())
            {
                _changes.Remove(changed);
            }
            _changes[(tenant, provider)] = revision;
        }
    }

    private void Forget(Func<ResolveForOrderRequest, (Credential, long, TimeSpan), bool> isConcerned)
    {
        foreach (var (question, _) in _kept.Where(each => isConcerned(each.Key, each.Value)).ToList())
        {
            _kept.Remove(question);
        }
    }

    private static bool IsOver((Credential, long Since, TimeSpan Time) kept) =>
        TimeProvider.System.GetElapsedTime(kept.Since) >= kept.Time;
}
