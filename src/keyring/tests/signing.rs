//! Signing keys: when each signs, and what stays of it.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_signing_key_verifies_and_its_private_half_is_gone() {
    let (_dir, store) = store();
    let keyring = open(&store, 1).await.unwrap();
    let old = keyring.signing_key();
    // Keys of the same millisecond have no order.
    while SystemClock.now() <= old.public().created_at() {
        tokio::task::yield_now().await;
    }
    let made = keyring.rotate_signing_key(Duration::ZERO).await.unwrap();
    assert_eq!(keyring.signing_key().public().kid(), made.kid);
    assert_eq!(keyring.retire_signing_keys().await.unwrap(), 1);
    for keyring in [keyring, open(&store, 1).await.unwrap()] {
        assert_eq!(keyring.signing_key().public().kid(), made.kid);
        assert_eq!(
            keyring.public_key(old.public().kid()).unwrap().jwk(),
            old.public().jwk()
        );
        assert_eq!((keyring.published_keys(), keyring.signing_key_times().len()), (2, 1));
    }
    // What is wrapped where its seed was grows another key.
    let name = Key::new(&format!("{SIGNING_KEY_PREFIX}{}", old.public().kid()));
    let record = store.get(&name).await.unwrap().unwrap();
    let unwrapped = wrapped::unwrap(&kek(1), &name, &record.value).await.unwrap();
    let grown = SigningKey::from_seed(&unwrapped.key, Timestamp::EPOCH, Timestamp::EPOCH).unwrap();
    assert_ne!(grown.public().kid(), old.public().kid());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_key_that_was_slipped_in_is_not_published() {
    let (_dir, store) = store();
    let keyring = open(&store, 1).await.unwrap();
    keyring.rotate_signing_key(Duration::ZERO).await.unwrap();
    keyring.retire_signing_keys().await.unwrap();
    let thief = SigningKey::from_seed(&[9; 32], Timestamp::EPOCH, Timestamp::EPOCH).unwrap();
    let name = Key::new(&format!("{SIGNING_KEY_PREFIX}{}", thief.public().kid()));
    for record in records(&store).await {
        let mut forged = decoded(&record);
        forged.public_key = thief.public().bytes().to_vec();
        let transaction = Transaction::new().put(name.clone(), forged.encode_to_vec());
        store.commit(transaction).await.unwrap();
        assert!(matches!(open(&store, 1).await, Err(KeyringError::Corrupt(key)) if key == name));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_signing_key_is_published_before_it_signs() {
    let (_dir, store) = store();
    let keyring = open(&store, 1).await.unwrap();
    let old = keyring.signing_key().public().kid().to_owned();
    let hour = Duration::from_hours(1);
    let made = keyring.rotate_signing_key(hour).await.unwrap();
    assert!(keyring.jwks().contains(&made.kid));
    for keyring in [&keyring, &open(&store, 1).await.unwrap()] {
        assert_eq!(keyring.signing_key().public().kid(), old);
        assert_eq!(keyring.next_signing_key().as_ref(), Some(&made));
        assert_eq!(keyring.retire_signing_keys().await.unwrap(), 0);
        assert_eq!(
            keyring.rotate_signing_key(hour).await.unwrap(),
            made,
            "one waits already"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_needs_a_key_at_once_does_not_get_one_that_waits() {
    let (_dir, store) = store();
    let keyring = open(&store, 1).await.unwrap();
    let old = keyring.signing_key();
    let hour = Duration::from_hours(1);
    let waiting = keyring.rotate_signing_key(hour).await.unwrap();
    assert_eq!(keyring.rotate_signing_key(hour).await.unwrap(), waiting);
    // Keys of the same millisecond have no order.
    while SystemClock.now() <= old.public().created_at() {
        tokio::task::yield_now().await;
    }
    let made = keyring.rotate_signing_key(Duration::ZERO).await.unwrap();
    assert_ne!(made.kid, waiting.kid);
    for keyring in [keyring, open(&store, 1).await.unwrap()] {
        assert_eq!(keyring.signing_key().public().kid(), made.kid);
        assert_eq!((keyring.published_keys(), keyring.signing_key_times().len()), (3, 3));
        assert_eq!(keyring.rotate_signing_key(hour).await.unwrap(), waiting);
    }
}
