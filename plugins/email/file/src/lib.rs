//! The e-mail channel as a file: the crate that the host links, and the one line that makes a plugin of it.
//!
//! A package of its own, so that the host which links `campanile-email` carries no plugin's entry. Listed in `plugins.lock`
//! it takes the place of the one that is linked in, `[email]` included.

campanile_plugin::export!(campanile_email::Email);
