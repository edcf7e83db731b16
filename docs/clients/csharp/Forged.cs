namespace Example;

/// <summary>An answer that the vault has not signed as it came.</summary>
public sealed class Forged(string message) : Exception(message);
