//! The services as callers meet them, without a network between: what is wrong with a request, and what they are told.

mod any;
mod arbitrary;
mod caller;
mod faults;
mod fields;
mod lists;
mod mail_fields;
mod quotas;
mod reach;
mod scopes;
mod secret_fields;
