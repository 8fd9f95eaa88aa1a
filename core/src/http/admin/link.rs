//! One-time links: the way in for a new account, or for one whose password is lost.

use super::session;
use campanile_model::ports::{Actor, Admin, ConsoleStore, Role, StoreResult};
use std::time::Duration;

/// A name is shown in the audit log and typed at the sign-in.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > 64 {
        return Err("must have 1 to 64 characters");
    }
    if name.trim() != name || name.chars().any(|c| c.is_control() || c == ':') {
        return Err("must not begin or end with a space or hold a colon or control characters");
    }
    Ok(())
}

/// The account and its link. `base` is where people reach this server.
pub async fn make(
    store: &(impl ConsoleStore + ?Sized),
    base: &str,
    name: &str,
    role: Role,
    ttl: Duration,
    actor: &Actor,
) -> StoreResult<(Admin, String)> {
    let (secret, hash) = session::fresh();
    let admin = store.put_admin_link(name, role, hash, ttl, actor).await?;
    Ok((admin, format!("{}/admin?once={secret}", base.trim_end_matches('/'))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for good in ["dana", "Dana Fox", "d.fox@example.org", "Žofie"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", " dana", "a\nb", "admin:x", &"x".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}
