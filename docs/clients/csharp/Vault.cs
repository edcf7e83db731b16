using System.Collections.Concurrent;
using System.Net.Security;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json;
using Dynarex.Credentials.V1;
using Grpc.Core;
using Grpc.Net.Client;
using Grpc.Net.Client.Configuration;

namespace Example;

/// <summary>
/// The vault, as an order service sees it: asked with a deadline, asked again where that helps, verified, kept while it may be.
/// </summary>
public sealed class Vault : IDisposable
{
    /// <summary>How long a credential may take, everything that is tried again included.</summary>
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(5);

    /// <summary>How long until a watch that broke begins again: the first pause, and the longest.</summary>
    private static readonly TimeSpan FirstPause = TimeSpan.FromMilliseconds(200);
    private static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(30);

    /// <summary>
    /// What failed with UNAVAILABLE is tried again: each call of this service only reads. When half of the calls fail, no more are
    /// tried again.
    /// </summary>
    private static readonly ServiceConfig Retries = new()
    {
        MethodConfigs =
        {
            new MethodConfig
            {
                Names = { MethodName.Default },
                RetryPolicy = new RetryPolicy
                {
                    MaxAttempts = 5,
                    InitialBackoff = TimeSpan.FromSeconds(0.2),
                    MaxBackoff = TimeSpan.FromSeconds(2),
                    BackoffMultiplier = 2,
                    RetryableStatusCodes = { StatusCode.Unavailable },
                },
            },
        },
        RetryThrottling = new RetryThrottlingPolicy { MaxTokens = 10, TokenRatio = 0.1 },
    };

    private readonly GrpcChannel _channel;
    private readonly CredentialResolver.CredentialResolverClient _resolver;
    private readonly SigningKeys _keys;
    private readonly Cache _cache = new();
    private readonly Action<string> _onChange;
    private readonly ConcurrentDictionary<string, bool> _watched = new();
    private readonly CancellationTokenSource _closing = new();

    public Vault(Uri server, string ca, string certificate, string key, Action<string> onChange)
    {
        var trust = new X509ChainPolicy
        {
            TrustMode = X509ChainTrustMode.CustomRootTrust,
            RevocationMode = X509RevocationMode.NoCheck,
        };
        trust.CustomTrustStore.ImportFromPemFile(ca);
        var chain = new X509Certificate2Collection();
        chain.ImportFromPemFile(certificate);
        // On Windows, TLS takes no key that was only read from PEM: export both to PKCS #12 and load that.
        var identity = X509Certificate2.CreateFromPemFile(certificate, key);
        var handler = new SocketsHttpHandler
        {
            SslOptions = new SslClientAuthenticationOptions
            {
                CertificateChainPolicy = trust,
                ClientCertificateContext = SslStreamCertificateContext.Create(identity, chain, offline: true),
            },
            EnableMultipleHttp2Connections = true,
            // Finds a connection on which nothing comes any more, such as after a change of the network.
            KeepAlivePingDelay = TimeSpan.FromSeconds(30),
            KeepAlivePingTimeout = TimeSpan.FromSeconds(10),
        };
        _channel = GrpcChannel.ForAddress(server, new GrpcChannelOptions
        {
            HttpHandler = handler,
            DisposeHttpClient = true,
            ServiceConfig = Retries,
            InitialReconnectBackoff = TimeSpan.FromMilliseconds(200),
            MaxReconnectBackoff = TimeSpan.FromSeconds(2),
        });
        _resolver = new CredentialResolver.CredentialResolverClient(_channel);
        _keys = new SigningKeys(async () =>
            (await CallAsync(options => _resolver.GetSigningKeysAsync(new GetSigningKeysRequest(), options))).Jwks);
        _onChange = onChange;
    }

    /// <summary>
    /// As the command line does: TRESOR_SERVER, TRESOR_CA, TRESOR_CERT, TRESOR_KEY, else a `tresor dev` in this folder.
    /// </summary>
    public static Vault FromEnvironment(Action<string> onChange)
    {
        static string Or(string name, string otherwise) => Environment.GetEnvironmentVariable(name) ?? otherwise;
        return new Vault(
            new Uri(Or("TRESOR_SERVER", "https://localhost:8443")),
            Or("TRESOR_CA", "tresor-dev/pki/ca.pem"),
            Or("TRESOR_CERT", "tresor-dev/pki/order-service.pem"),
            Or("TRESOR_KEY", "tresor-dev/pki/order-service.key"),
            onChange);
    }

    /// <summary>The credential that the order gets of this provider, and whether it was still at hand.</summary>
    /// <exception cref="Refusal">The vault hands nothing out.</exception>
    /// <exception cref="Forged">The answer is not as the vault has signed it.</exception>
    public async Task<(Credential Credential, bool FromCache)> CredentialAsync(string tenant, string provider, Order order)
    {
        // The order's id is a part of it: each order asks once, so that the audit log has a line for each.
        var question = new ResolveForOrderRequest { Tenant = tenant, Provider = provider, Order = order.Clone() };
        if (_cache.Get(question) is { } kept)
        {
            return (kept, true);
        }
        var answer = await CallAsync(options => _resolver.ResolveForOrderAsync(question, options));
        var credential = await VerifiedAsync(question, answer.Credential.SignedCredential);
        if (_watched.TryAdd(tenant, true))
        {
            _ = WatchAsync(tenant, answer.Revision);
        }
        _cache.Keep(question, credential, answer.Credential.CacheFor.ToTimeSpan(), answer.Revision);
        return (credential, false);
    }

    public void Dispose()
    {
        _closing.Cancel();
        _channel.Dispose();
    }

    /// <summary>Calls within the deadline. The channel tries again what is UNAVAILABLE; a quota says itself when to come back.</summary>
    private static async Task<TAnswer> CallAsync<TAnswer>(Func<CallOptions, AsyncUnaryCall<TAnswer>> rpc)
    {
        var ends = DateTime.UtcNow + Deadline;
        while (true)
        {
            Refusal refusal;
            try
            {
                // A call waits for the connection, until its deadline.
                return await rpc(new CallOptions(deadline: ends).WithWaitForReady());
            }
            catch (RpcException error)
            {
                refusal = Refusal.Of(error);
            }
            if (refusal is not { Code: StatusCode.ResourceExhausted, RetryAfter: { } wait } || DateTime.UtcNow + wait >= ends)
            {
                throw refusal;
            }
            await Task.Delay(wait);
        }
    }

    /// <summary>What the vault has signed, and nothing else of its answer.</summary>
    private async Task<Credential> VerifiedAsync(ResolveForOrderRequest question, string token)
    {
        JsonElement payload = await _keys.VerifyAsync(token, "dynarex-credential+jws");
        var (tenant, provider) = (payload.GetProperty("tenant").GetString(), payload.GetProperty("provider").GetString());
        if (tenant != question.Tenant || provider != question.Provider)
        {
            throw new Forged("it is for another tenant or provider");
        }
        var path = $"{tenant}/{provider}/{payload.GetProperty("scope").GetString()}";
        if (payload.TryGetProperty("subject", out var subject))
        {
            path += $"/{subject.GetString()}";
        }
        var secret = payload.TryGetProperty("login", out var login) ? login : payload.GetProperty("mail_account");
        return new Credential(path, payload.GetProperty("version").GetUInt64(), secret);
    }

    /// <summary>Follows the tenant's changes from its first answer on, so that none falls between the two.</summary>
    private async Task WatchAsync(string tenant, ulong revision)
    {
        var pause = FirstPause;
        while (!_closing.IsCancellationRequested)
        {
            var request = new WatchChangesRequest { Tenant = tenant, FromRevision = revision };
            var options = new CallOptions(cancellationToken: _closing.Token).WithWaitForReady();
            try
            {
                using var stream = _resolver.WatchChanges(request, options);
                await foreach (var answer in stream.ResponseStream.ReadAllAsync())
                {
                    revision = answer.Event.Revision;
                    pause = FirstPause;
                    Changed(tenant, answer.Event);
                }
            }
            catch (Exception broken) when (broken is RpcException or OperationCanceledException or ObjectDisposedException)
            {
                // It goes on after the last revision that was seen; until then `cache_for` limits what is kept.
            }
            await Task.Delay(pause * (0.5 + Random.Shared.NextDouble() / 2));
            pause = pause * 2 < LongestPause ? pause * 2 : LongestPause;
        }
    }

    private void Changed(string tenant, ChangeEvent change)
    {
        var provider = change.Kind == ChangeEvent.Types.Kind.Resync ? null : change.Ref.Provider;
        _cache.Drop(tenant, provider, change.Revision);
        _onChange(provider is null ? tenant : $"{tenant}/{provider}");
    }
}
