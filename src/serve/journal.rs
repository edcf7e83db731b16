//! What the vault changes by itself has lines in the audit log like what callers change.

use crate::audit::{Audit, Entry, Event};
use crate::vault::ids::TenantId;
use crate::vault::upkeep::{Deed, Journal, Telling, Untold};

impl Journal for Audit {
    fn announce<'a>(&'a self, deed: Deed, tenant: Option<&'a TenantId>) -> Telling<'a> {
        let name = match deed {
            Deed::ReplaceOldDataKeys => "ReplaceOldDataKeys",
            Deed::ReplaceOldSigningKey => "ReplaceOldSigningKey",
            Deed::RotateDataKey => "RotateDataKey",
            Deed::EraseTenant => "EraseTenant",
            Deed::RewrapKeys => "RewrapKeys",
            Deed::RetireSigningKeys => "RetireSigningKeys",
        };
        Box::pin(async move {
            let entry = Entry {
                tenant: tenant.map(TenantId::as_str),
                ..Entry::new(Event::Upkeep, name)
            };
            let announced = Self::announce(self, &entry).await;
            announced.map(drop).map_err(|_| Untold)
        })
    }
}
