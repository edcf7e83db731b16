using System.Text.Json;

namespace Example;

/// <summary>What an order logs in with.</summary>
public sealed class Credential(string path, ulong version, JsonElement secret)
{
    public string Path => path;

    public ulong Version => version;

    /// <summary>`login` or `mail_account`, as docs/DOMAIN.md says; a method, so that nothing prints it.</summary>
    public JsonElement Expose() => secret;
}
