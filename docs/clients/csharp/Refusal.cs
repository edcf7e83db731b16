using System.Text.RegularExpressions;
using Google.Rpc;
using Grpc.Core;

namespace Example;

/// <summary>The vault hands nothing out: why, in words for programs (Code, Reason) and for people.</summary>
public sealed partial class Refusal : Exception
{
    public StatusCode Code { get; }

    public string Reason { get; }

    public IReadOnlyDictionary<string, string> Metadata { get; }

    /// <summary>After what time it may be tried again; null if the vault does not say so.</summary>
    public TimeSpan? RetryAfter { get; }

    private Refusal(RpcException error, ErrorInfo info, RetryInfo? retry)
        : base($"{Name(error.StatusCode)} {info.Reason}".TrimEnd() + $": {error.Status.Detail}")
    {
        Code = error.StatusCode;
        Reason = info.Reason;
        Metadata = info.Metadata.ToDictionary();
        RetryAfter = retry?.RetryDelay?.ToTimeSpan();
    }

    public static Refusal Of(RpcException error)
    {
        var details = error.GetRpcStatus();
        return new Refusal(error, details?.GetDetail<ErrorInfo>() ?? new ErrorInfo(), details?.GetDetail<RetryInfo>());
    }

    /// <summary>The name that all languages have, such as NOT_FOUND.</summary>
    private static string Name(StatusCode code) => BetweenWords().Replace(code.ToString(), "_").ToUpperInvariant();

    [GeneratedRegex("(?<=[a-z])(?=[A-Z])")]
    private static partial Regex BetweenWords();
}
