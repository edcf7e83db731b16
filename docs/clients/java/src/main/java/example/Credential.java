package example;

import com.google.gson.JsonObject;

/**
 * What an order logs in with.
 *
 * @param secret {@code login} or {@code mail_account}, as docs/DOMAIN.md says
 */
record Credential(String path, long version, JsonObject secret) {
    /** Never the secret. */
    @Override
    public String toString() {
        return path + " v" + version;
    }
}
