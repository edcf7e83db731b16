//! What a save or a choice warns of. A warning changes nothing: what was asked for is done.

use std::time::Duration;

use super::builders::{Credential, dat, mail, office, order, subject, wom};
use super::support::{TestVault, assigned, password, set, start, with_fallback};
use crate::vault::assignment::Mode;
use crate::vault::catalogue::ProviderKind;
use crate::vault::scope::Scope;
use crate::vault::warning::Warning;

/// The reasons that a first save warns with, and the fields that they are about.
async fn warned_of(credential: Credential, kind: ProviderKind) -> Vec<(&'static str, &'static str)> {
    let saved = TestVault::new().await.save(credential).await;
    let about = |warning: &Warning| (warning.reason(), warning.field(kind));
    saved.warnings.iter().map(about).collect()
}

#[tokio::test]
async fn nothing_remarkable_gives_no_warning() {
    for credential in [dat(), dat().partner("99", "signature"), wom(), mail(), mail().oauth2()] {
        assert_eq!(TestVault::new().await.save(credential).await.warnings, []);
    }
}

#[tokio::test]
async fn white_space_around_a_password_is_kept_and_warned_of() {
    const REASON: &str = "PASSWORD_SURROUNDED_BY_WHITE_SPACE";
    for bad in [" password", "password ", "password\n", "\u{a0}password", "\t"] {
        let of_login = warned_of(wom().password(bad), ProviderKind::Login).await;
        assert_eq!(of_login, [(REASON, "login.password")], "{bad:?}");
    }
    let of_mail = warned_of(mail().password("password "), ProviderKind::MailAccount).await;
    assert_eq!(of_mail, [(REASON, "mail_account.password")]);
    assert_eq!(warned_of(wom().password("pass word"), ProviderKind::Login).await, []);

    let vault = TestVault::new().await;
    vault.save(wom().password(" password\n")).await;
    assert_eq!(password(&vault.resolve("wom", order()).unwrap()), " password\n");
}

#[tokio::test]
async fn what_does_not_show_itself_in_a_password_is_kept_and_warned_of() {
    const REASON: &str = "PASSWORD_HOLDS_UNPRINTABLE";
    for bad in ["\u{feff}password", "pass\nword", "\u{1b}[Apassword", "pass\u{200b}word"] {
        let of_login = warned_of(wom().password(bad), ProviderKind::Login).await;
        assert_eq!(of_login, [(REASON, "login.password")], "{bad:?}");
    }
    let of_mail = warned_of(mail().password("pass\tword"), ProviderKind::MailAccount).await;
    assert_eq!(of_mail, [(REASON, "mail_account.password")]);
    assert_eq!(warned_of(wom().password("pässwörd €"), ProviderKind::Login).await, []);
}

#[tokio::test]
async fn a_signature_that_does_not_follow_from_the_login_is_warned_of() {
    let warned = warned_of(dat().signature("jA0E"), ProviderKind::Login).await;
    assert_eq!(warned, [("CUSTOMER_SIGNATURE_DIFFERS", "login.customer_signature")]);
}

#[tokio::test]
async fn an_end_that_has_passed_is_warned_of() {
    let at = async |end| warned_of(wom().valid_until(end), ProviderKind::Login).await;
    assert_eq!(at(start()).await, [("ALREADY_EXPIRED", "valid_until")]);
    assert_eq!(at(start().after(Duration::from_millis(1))).await, []);
}

/// Whoever may only write could otherwise guess a password without leaving a trace.
#[tokio::test]
async fn no_warning_depends_on_what_the_stored_secret_is() {
    let vault = TestVault::new().await;
    vault.save(dat().password("s3cret")).await;
    for guess in ["wrong", "s3cret"] {
        assert_eq!(vault.save(dat().password(guess)).await.warnings, [], "{guess}");
    }
}

#[tokio::test]
async fn all_warnings_come_at_once() {
    let vault = TestVault::new().await;
    let credential = dat().password(" password").signature("given").valid_until(start());
    vault.save(credential.clone()).await;
    vault.set_enabled(dat().name(), false, None).await.unwrap();
    let reasons: Vec<_> = vault
        .save(credential)
        .await
        .warnings
        .iter()
        .map(Warning::reason)
        .collect();
    assert_eq!(
        reasons,
        [
            "PASSWORD_SURROUNDED_BY_WHITE_SPACE",
            "CUSTOMER_SIGNATURE_DIFFERS",
            "ALREADY_EXPIRED",
            "STAYS_DISABLED"
        ]
    );
}

#[tokio::test]
async fn a_choice_warns_of_everybody_known_who_is_left_without() {
    let vault = TestVault::new().await;
    let soon = start().after(Duration::from_mins(1));
    for credential in [
        wom(),
        wom().office("leipzig"),
        wom().office("gera").valid_until(soon),
        wom().office("halle"),
        dat().office("dresden"),
        wom().tenant("other").office("elsewhere"),
    ] {
        vault.save(credential).await;
    }
    vault.clock.set(soon);
    vault
        .set_enabled(wom().office("halle").name(), false, None)
        .await
        .unwrap();
    let (_, warnings) = vault
        .set_assignment(set("wom", assigned(Mode::PerOffice)))
        .await
        .unwrap();
    let without = ["dresden", "gera", "halle"].map(|id| Warning::WithoutCredential { scope: office(id) });
    assert_eq!(warnings, without);

    let (_, warnings) = vault
        .set_assignment(set("wom", with_fallback(Mode::PerOffice)))
        .await
        .unwrap();
    let without = ["gera", "halle"].map(|id| Warning::WithoutCredential { scope: office(id) });
    assert_eq!(
        warnings, without,
        "the general one takes dresden's place, never a disabled or expired one's"
    );
}

#[tokio::test]
async fn a_choice_of_the_general_credential_warns_if_there_is_none() {
    let vault = TestVault::new().await;
    let (_, warnings) = vault.set_assignment(set("wom", assigned(Mode::General))).await.unwrap();
    assert_eq!(warnings, [Warning::WithoutCredential { scope: Scope::General }]);
    vault.save(wom()).await;
    let (_, warnings) = vault.set_assignment(set("wom", assigned(Mode::General))).await.unwrap();
    assert_eq!(warnings, []);
}

#[tokio::test]
async fn a_choice_names_a_hundred_and_counts_the_rest() {
    let vault = TestVault::new().await;
    let ids: Vec<String> = (0..103).map(|n| format!("user-{n:03}")).collect();
    for id in &ids {
        vault.save(mail().user(id)).await;
        vault.delete(mail().user(id).name(), None).await.unwrap();
    }
    let (_, warnings) = vault
        .set_assignment(set("email", assigned(Mode::PerUser)))
        .await
        .unwrap();
    let named = ids[..100].iter().map(|id| Warning::WithoutCredential {
        scope: Scope::User(subject(id)),
    });
    let expected: Vec<_> = named.chain([Warning::MoreWithoutCredential { count: 3 }]).collect();
    assert_eq!(warnings, expected);
    assert_eq!(warnings[100].message(), "3 more have no usable credential");
}

#[tokio::test]
async fn no_warning_tells_a_secret() {
    let vault = TestVault::new().await;
    let credential = dat()
        .password(" hush-password")
        .signature("hush-signature")
        .valid_until(start());
    vault.save(credential.clone()).await;
    for warning in vault.save(credential).await.warnings {
        assert!(
            !format!("{} {warning:?}", warning.message()).contains("hush"),
            "{warning:?}"
        );
    }
}
