package example;

import dynarex.credentials.v1.Order;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;

/**
 * {@code Main TENANT PROVIDER}: for each line {@code ORDER OFFICE} on standard input, tells which credential the order gets.
 *
 * <p>It logs in nowhere, and prints no secret.
 */
final class Main {
    public static void main(String[] arguments) throws IOException {
        var lines = new BufferedReader(new InputStreamReader(System.in));
        try (var vault = Vault.fromEnvironment(what -> System.out.println("changed: " + what))) {
            for (String line; (line = lines.readLine()) != null; ) {
                var words = line.split(" ");
                var order = Order.newBuilder().setOrderId(words[0]).setOfficeId(words[1]).build();
                System.out.println(words[0] + ": " + tell(vault, arguments[0], arguments[1], order));
            }
        }
    }

    private static String tell(Vault vault, String tenant, String provider, Order order) {
        try {
            var found = vault.credential(tenant, provider, order);
            // Here an order service logs in with `found.credential().secret()`.
            return found.credential() + " from the " + (found.fromCache() ? "cache" : "vault");
        } catch (Refusal refusal) {
            return whatToDo(refusal);
        } catch (Forged forged) {
            return "FORGED: " + forged.getMessage();
        }
    }

    /** Programs go by the reason; the text is for people. */
    private static String whatToDo(Refusal refusal) {
        return switch (refusal.reason) {
            case "CREDENTIAL_NOT_CONFIGURED", "CREDENTIAL_DISABLED", "CREDENTIAL_EXPIRED" ->
                refusal.reason + ": an administrator has to see to " + refusal.metadata.get("path");
            case "ORDER_LACKS_OFFICE", "ORDER_LACKS_APPRAISER", "ORDER_LACKS_USER" ->
                refusal.reason + ": the order has to say more";
            default -> refusal.getMessage();
        };
    }
}
