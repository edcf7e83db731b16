// TresorClient TENANT PROVIDER: for each line `ORDER OFFICE` on standard input, tells which credential the order gets.
//
// It logs in nowhere, and prints no secret.

using Dynarex.Credentials.V1;
using Example;

var (tenant, provider) = (args[0], args[1]);
using var vault = Vault.FromEnvironment(what => Console.WriteLine($"changed: {what}"));

while (Console.ReadLine() is { } line)
{
    var words = line.Split(' ');
    var order = new Order { OrderId = words[0], OfficeId = words[1] };
    try
    {
        var (credential, fromCache) = await vault.CredentialAsync(tenant, provider, order);
        // Here an order service logs in with `credential.Expose()`.
        Console.WriteLine($"{words[0]}: {credential.Path} v{credential.Version} from the {(fromCache ? "cache" : "vault")}");
    }
    catch (Refusal refusal)
    {
        Console.WriteLine($"{words[0]}: {WhatToDo(refusal)}");
    }
    catch (Forged forged)
    {
        Console.WriteLine($"{words[0]}: FORGED: {forged.Message}");
    }
}

// Programs go by the reason; the text is for people.
static string WhatToDo(Refusal refusal) => refusal.Reason switch
{
    "CREDENTIAL_NOT_CONFIGURED" or "CREDENTIAL_DISABLED" or "CREDENTIAL_EXPIRED" =>
        $"{refusal.Reason}: an administrator has to see to {refusal.Metadata["path"]}",
    "ORDER_LACKS_OFFICE" or "ORDER_LACKS_APPRAISER" or "ORDER_LACKS_USER" => $"{refusal.Reason}: the order has to say more",
    _ => refusal.Message,
};
