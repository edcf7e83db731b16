package example;

/** An answer that the vault has not signed as it came. */
final class Forged extends Exception {
    Forged(String message) {
        super(message);
    }
}
