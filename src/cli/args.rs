//! Arguments that several subcommands take: a credential's path, an order, a point in time.

use clap::Args;
use prost_types::Timestamp;
use tresor::pb::v1;
use tresor::vault::scope::CredentialRef;

/// Parses a credential's path.
pub(crate) fn path(text: &str) -> Result<CredentialRef, String> {
    CredentialRef::from_path(text).ok_or_else(|| {
        "a credential's path is TENANT/PROVIDER/general, TENANT/PROVIDER/office/ID, TENANT/PROVIDER/appraiser/ID or \
         TENANT/PROVIDER/user/ID, such as demo/dat/office/leipzig; ids are made of A-Z a-z 0-9 . _ @ + -"
            .to_owned()
    })
}

/// The order that a credential is asked for.
#[derive(Debug, Args)]
pub(crate) struct OrderArgs {
    /// The order's id; logs and receipts name the order by it.
    #[arg(long = "order", value_name = "ID")]
    pub(crate) order_id: String,
    /// The office that the order belongs to today.
    #[arg(long, value_name = "ID")]
    office: Option<String>,
    /// The office in which the order was created; mail leaves from there. Left out: the same as --office.
    #[arg(long, value_name = "ID")]
    created_in_office: Option<String>,
    /// The appraiser who is responsible for the order.
    #[arg(long, value_name = "ID")]
    appraiser: Option<String>,
    /// The user at the screen.
    #[arg(long, value_name = "ID")]
    user: Option<String>,
}

impl From<OrderArgs> for v1::Order {
    fn from(order: OrderArgs) -> Self {
        Self {
            order_id: order.order_id,
            office_id: order.office.unwrap_or_default(),
            created_in_office_id: order.created_in_office.unwrap_or_default(),
            appraiser_id: order.appraiser.unwrap_or_default(),
            user_id: order.user.unwrap_or_default(),
        }
    }
}

const TIME_GRAMMAR: &str = "a time is written as 2027-03-31 or, with a zone, as 2027-03-31T18:00:00Z";

/// Parses a time until which something holds. A date alone means: to the end of that day, UTC.
pub(crate) fn until(text: &str) -> Result<Timestamp, String> {
    if is_date(text) {
        return time(&format!("{text}T23:59:59Z"));
    }
    time(text)
}

/// Parses a time before which something happens. A date alone means: the start of that day, UTC.
pub(crate) fn before(text: &str) -> Result<Timestamp, String> {
    if is_date(text) {
        return time(&format!("{text}T00:00:00Z"));
    }
    time(text)
}

fn is_date(text: &str) -> bool {
    text.len() == "2027-03-31".len() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

fn time(text: &str) -> Result<Timestamp, String> {
    // The parser takes a time without a zone for UTC; here it might as well be meant as local time.
    let zoned = text.get(10..).is_some_and(|time| time.contains(['Z', 'z', '+', '-']));
    text.parse()
        .ok()
        .filter(|_| zoned)
        .ok_or_else(|| TIME_GRAMMAR.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_the_credential_on_the_wire() {
        let wire = v1::CredentialRef::from(&path("demo/email/user/m.lang").unwrap());
        assert_eq!((wire.tenant.as_str(), wire.provider.as_str()), ("demo", "email"));
        assert_eq!(wire.scope.unwrap().kind, Some(v1::scope::Kind::UserId("m.lang".into())));
    }

    #[test]
    fn what_is_no_path_is_answered_with_the_grammar() {
        for bad in [
            "",
            "demo",
            "demo/dat",
            "demo/dat/office",
            "demo/dat/room/x",
            "demo/dat/office/b/c",
        ] {
            assert!(path(bad).unwrap_err().contains("TENANT/PROVIDER/office/ID"), "{bad:?}");
        }
    }

    #[test]
    fn a_date_holds_to_its_end_and_begins_at_its_start() {
        assert_eq!(until("2027-03-31").unwrap().to_string(), "2027-03-31T23:59:59Z");
        assert_eq!(before("2027-03-31").unwrap().to_string(), "2027-03-31T00:00:00Z");
    }

    #[test]
    fn a_time_needs_its_zone() {
        assert_eq!(
            until("2027-03-31T18:00:00+02:00").unwrap().to_string(),
            "2027-03-31T16:00:00Z"
        );
        for bad in [
            "2027-03-31T18:00:00",
            "31.03.2027",
            "tomorrow",
            "2027-02-30",
            "2027-3-1",
            "",
        ] {
            assert!(until(bad).is_err(), "{bad:?}");
        }
    }
}
