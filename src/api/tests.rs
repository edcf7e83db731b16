//! The services as callers meet them, without a network between: what is wrong with a request, and what they are told.

mod any;
mod arbitrary;
mod caller;
mod checks;
mod endings;
mod every_method;
mod faults;
mod fields;
mod imports;
mod lists;
mod mail_fields;
mod narrow_writers;
mod quotas;
mod reach;
mod reading;
mod scopes;
mod secret_fields;
mod unread;
mod watches;
mod whole;
