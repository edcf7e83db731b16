//! What operators do with keys: `tresor rotate`, `rewrap`, `erase-tenant` and `recovery`.

mod erase_tenant;
mod recovery;
mod rewrap;
mod rotate;
mod wait;

pub(super) use self::erase_tenant::EraseTenant;
pub(super) use self::recovery::Recovery;
pub(super) use self::rewrap::Rewrap;
pub(super) use self::rotate::Rotate;
