package example;

import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.PublicKey;
import java.security.Signature;
import java.security.spec.X509EncodedKeySpec;
import java.util.Base64;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.Map;

/** The vault's public keys; they are read again when an answer names one that is not there. */
final class SigningKeys {
    /** Nanoseconds between two readings, so that nobody makes us read them for each forged answer. */
    private static final long AT_MOST_EVERY = 1_000_000_000;
    /** What stands before the 32 bytes of an Ed25519 key in X.509 (RFC 8410). */
    private static final byte[] X509 = HexFormat.of().parseHex("302a300506032b6570032100");

    /** Reads the JSON Web Key Set. */
    interface Reader {
        String read() throws Refusal;
    }

    private final Reader reader;
    private Map<String, PublicKey> keys = Map.of();
    private long readAt = System.nanoTime() - AT_MOST_EVERY;

    SigningKeys(Reader reader) {
        this.reader = reader;
    }

    /** The payload of a token (JWS, compact) that one of the keys has signed as this type. */
    JsonObject verify(String token, String type) throws Forged, Refusal {
        var parts = token.split("\\.", -1);
        try {
            if (parts.length != 3) {
                throw new Forged("it is no signed token");
            }
            var header = json(parts[0]);
            // The one algorithm that the vault uses; what the token says of others is not listened to.
            if (!text(header, "alg").equals("EdDSA") || !text(header, "typ").equals(type)) {
                throw new Forged("it is signed as something else");
            }
            var signature = Signature.getInstance("Ed25519");
            signature.initVerify(find(text(header, "kid")));
            signature.update((parts[0] + "." + parts[1]).getBytes(StandardCharsets.US_ASCII));
            if (!signature.verify(Base64.getUrlDecoder().decode(parts[2]))) {
                throw new Forged("the signature does not verify");
            }
            return json(parts[1]);
        } catch (GeneralSecurityException | IllegalArgumentException | JsonParseException | IllegalStateException bad) {
            throw new Forged("the signature does not verify: " + bad.getMessage());
        }
    }

    private synchronized PublicKey find(String kid) throws Forged, Refusal, GeneralSecurityException {
        if (!keys.containsKey(kid) && System.nanoTime() - readAt >= AT_MOST_EVERY) {
            var read = new HashMap<String, PublicKey>();
            for (var each : JsonParser.parseString(reader.read()).getAsJsonObject().getAsJsonArray("keys")) {
                var key = each.getAsJsonObject();
                if (text(key, "kty").equals("OKP") && text(key, "crv").equals("Ed25519")) {
                    read.put(text(key, "kid"), publicKey(Base64.getUrlDecoder().decode(text(key, "x"))));
                }
            }
            keys = read;
            readAt = System.nanoTime();
        }
        var key = keys.get(kid);
        if (key == null) {
            throw new Forged("the vault has no key of that name");
        }
        return key;
    }

    private static PublicKey publicKey(byte[] raw) throws GeneralSecurityException {
        var encoded = new ByteArrayOutputStream();
        encoded.writeBytes(X509);
        encoded.writeBytes(raw);
        return KeyFactory.getInstance("Ed25519").generatePublic(new X509EncodedKeySpec(encoded.toByteArray()));
    }

    private static JsonObject json(String part) {
        var text = new String(Base64.getUrlDecoder().decode(part), StandardCharsets.UTF_8);
        return JsonParser.parseString(text).getAsJsonObject();
    }

    private static String text(JsonObject object, String name) {
        return object.has(name) ? object.get(name).getAsString() : "";
    }
}
