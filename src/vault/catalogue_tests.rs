//! The rules of the catalogue.

use super::*;

fn changed(text: &str) -> Result<Catalogue, String> {
    let changed = Catalogue::built_in().with_changes(text, "tresor.toml");
    changed.map_err(|errors| errors.to_string())
}

#[test]
fn every_deployment_knows_the_eleven_providers() {
    let catalogue = Catalogue::built_in();
    let ids: Vec<_> = catalogue.ids().map(ProviderId::as_str).collect();
    let expected = [
        "dat",
        "audatex",
        "cartv",
        "car-casion",
        "wom",
        "winvalue",
        "autoonline",
        "egub",
        "persaldo24",
        "cardetektiv",
        "email",
    ];
    assert_eq!(ids, expected);
}

#[test]
fn dat_has_a_seven_digit_number_and_the_plain_signature() {
    let catalogue = Catalogue::built_in();
    let dat = catalogue.get("dat").unwrap();
    assert_eq!(dat.customer_number, CustomerNumber::Required { digits: Some(7) });
    assert_eq!(dat.customer_signature, Some(SignatureVariant::Plain));
    assert_eq!(
        dat.categories,
        [Category::Identification, Category::Calculation, Category::Valuation]
    );
    assert!(
        catalogue
            .iter()
            .filter(|other| other.id != dat.id)
            .all(|other| other.customer_signature.is_none())
    );
}

#[test]
fn only_mail_is_sent_per_user_and_only_mail_has_no_customer_number() {
    for provider in Catalogue::built_in().iter() {
        let is_mail = provider.id.as_str() == "email";
        assert_eq!(provider.kind == ProviderKind::MailAccount, is_mail);
        assert_eq!(provider.allows(ScopeKind::User), is_mail);
        assert_eq!(provider.customer_number == CustomerNumber::None, is_mail);
        assert!(
            [ScopeKind::General, ScopeKind::Office, ScopeKind::Appraiser]
                .iter()
                .all(|s| provider.allows(*s))
        );
    }
}

#[test]
fn an_entry_with_a_known_id_adjusts_only_what_it_gives() {
    let catalogue = changed("[[provider]]\nid = 'dat'\ncustomer_signature = 'time-limited'").unwrap();
    let built_in = Catalogue::built_in();
    let expected = Provider {
        customer_signature: Some(SignatureVariant::TimeLimited),
        ..built_in.get("dat").unwrap().clone()
    };
    assert_eq!(catalogue.get("dat"), Some(&expected));
    assert!(catalogue.ids().eq(built_in.ids()));
}

#[test]
fn an_adjusted_entry_can_lose_its_digits_and_its_signature() {
    let text = "[[provider]]\nid = 'dat'\ncustomer_number_digits = 0\ncustomer_signature = 'none'";
    let catalogue = changed(text).unwrap();
    let dat = catalogue.get("dat").unwrap();
    assert_eq!(dat.customer_number, CustomerNumber::Required { digits: None });
    assert_eq!(dat.customer_signature, None);
}

#[test]
fn a_new_exchange_needs_no_new_release() {
    let text = "[[provider]]\nid = 'auktion-24'\nname = 'Auktion 24'\ncategories = ['residual-value-exchange']\n\
                kind = 'login'\ncustomer_number = 'optional'\nscopes = ['office', 'general']";
    let catalogue = changed(text).unwrap();
    let new = catalogue.iter().last().unwrap();
    assert_eq!(new.name, "Auktion 24");
    assert_eq!(new.scopes, [ScopeKind::General, ScopeKind::Office]);
}

#[test]
fn a_new_entry_names_every_key_that_it_lacks() {
    let errors = changed("\n[[provider]]\nid = 'auktion-24'").unwrap_err();
    for key in ["name", "categories", "kind", "customer_number", "scopes"] {
        assert!(
            errors.contains(&format!("tresor.toml:2: provider[1].{key}: is missing")),
            "{key}: {errors}"
        );
    }
}

#[test]
fn a_provider_can_be_taken_out() {
    let catalogue = changed("[[provider]]\nid = 'wom'\nremoved = true").unwrap();
    assert_eq!(catalogue.get("wom"), None);
    assert_eq!(catalogue.iter().count(), 10);
}

#[test]
fn contradictions_are_refused() {
    let login = "name = 'X'\ncategories = ['mail']\nkind = 'login'\nscopes = ['general']\nid = 'x'";
    let account = "name = 'X'\ncategories = ['mail']\nkind = 'mail-account'\nscopes = ['general']\nid = 'x'";
    for (text, wrong) in [
        (
            format!("{account}\ncustomer_number = 'optional'"),
            "provider[1].customer_number: must be \"none\"",
        ),
        (
            format!("{login}\ncustomer_number = 'none'\ncustomer_number_digits = 3"),
            "customer_number_digits: counts",
        ),
        (
            format!("{login}\ncustomer_number = 'optional'\ncustomer_signature = 'plain'"),
            "customer_signature: is made",
        ),
        (
            "id = 'dat'\nremoved = true\nname = 'DAT'".to_owned(),
            "removed: takes the entry out",
        ),
        (
            "id = 'nobody'\nremoved = true".to_owned(),
            "removed: \"nobody\" is not in the catalogue",
        ),
        (
            "id = 'dat'\n[[provider]]\nid = 'dat'".to_owned(),
            "provider[2].id: \"dat\" has an entry already",
        ),
        (
            "id = 'DAT'".to_owned(),
            "provider[1].id: \"DAT\" is not an id of a provider",
        ),
        (
            "id = 'dat'\nscopes = ['office', 'office']".to_owned(),
            "scopes: \"office\" is there twice",
        ),
        ("id = 'dat'\nscopes = []".to_owned(), "scopes: is empty"),
        ("id = 'dat'\nkind = 'logins'".to_owned(), "did you mean \"login\"?"),
        (
            "id = 'dat'\ncategories = ['exchange']".to_owned(),
            "\"residual-value-exchange\"",
        ),
        (
            "id = 'dat'\ncustomer_number_digit = 8".to_owned(),
            "did you mean \"customer_number_digits\"?",
        ),
        (
            "id = 'dat'\ncustomer_number_digits = 21".to_owned(),
            "21 is not a whole number between 0 and 20",
        ),
    ] {
        let errors = changed(&format!("[[provider]]\n{text}")).unwrap_err();
        assert!(errors.contains(wrong), "{text}\n{errors}");
    }
}
