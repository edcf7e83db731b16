using System.Buffers.Text;
using System.Text;
using System.Text.Json;
using NSec.Cryptography;

namespace Example;

/// <summary>The vault's public keys; they are read again when an answer names one that is not there.</summary>
internal sealed class SigningKeys(Func<Task<string>> read)
{
    /// <summary>How long until they may be read again, so that nobody makes us read them for each forged answer.</summary>
    private static readonly TimeSpan AtMostEvery = TimeSpan.FromSeconds(1);

    private readonly SemaphoreSlim _lock = new(1);
    private Dictionary<string, PublicKey> _keys = [];
    private long? _readAt;

    /// <summary>The payload of a token (JWS, compact) that one of the keys has signed as this type.</summary>
    public async Task<JsonElement> VerifyAsync(string token, string type)
    {
        var parts = token.Split('.');
        if (parts.Length != 3)
        {
            throw new Forged("it is no signed token");
        }
        try
        {
            var header = Json(parts[0]);
            // The one algorithm that the vault uses; what the token says of others is not listened to.
            if (Text(header, "alg") != "EdDSA" || Text(header, "typ") != type)
            {
                throw new Forged("it is signed as something else");
            }
            var key = await FindAsync(Text(header, "kid"));
            var signed = Encoding.ASCII.GetBytes($"{parts[0]}.{parts[1]}");
            if (!SignatureAlgorithm.Ed25519.Verify(key, signed, Base64Url.DecodeFromChars(parts[2])))
            {
                throw new Forged("the signature does not verify");
            }
            return Json(parts[1]);
        }
        catch (Exception bad) when (bad is FormatException or JsonException or InvalidOperationException)
        {
            throw new Forged($"the signature does not verify: {bad.Message}");
        }
    }

    private async Task<PublicKey> FindAsync(string kid)
    {
        await _lock.WaitAsync();
        try
        {
            var mayBeRead = _readAt is not { } readAt || TimeProvider.System.GetElapsedTime(readAt) >= AtMostEvery;
            if (!_keys.ContainsKey(kid) && mayBeRead)
            {
                using var set = JsonDocument.Parse(await read());
                _keys = set.RootElement.GetProperty("keys").EnumerateArray()
                    .Where(key => Text(key, "kty") == "OKP" && Text(key, "crv") == "Ed25519")
                    .ToDictionary(key => Text(key, "kid"), key => Imported(Text(key, "x")));
                _readAt = TimeProvider.System.GetTimestamp();
            }
            return _keys.TryGetValue(kid, out var found) ? found : throw new Forged("the vault has no key of that name");
        }
        finally
        {
            _lock.Release();
        }
    }

    private static PublicKey Imported(string x) =>
        PublicKey.Import(SignatureAlgorithm.Ed25519, Base64Url.DecodeFromChars(x), KeyBlobFormat.RawPublicKey);

    private static JsonElement Json(string part)
    {
        using var document = JsonDocument.Parse(Base64Url.DecodeFromChars(part));
        return document.RootElement.Clone();
    }

    private static string Text(JsonElement element, string name) =>
        element.TryGetProperty(name, out var value) ? value.GetString() ?? "" : "";
}
