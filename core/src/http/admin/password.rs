//! Passwords of admins: argon2id, on threads of their own, few at a time.

use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use std::sync::{Arc, LazyLock};
use tokio::sync::Semaphore;

/// Each computation takes 19 MiB and some tens of milliseconds: two at a time leave the machine to its work.
const AT_ONCE: usize = 2;
/// More than this waiting is an attack; the rest is told to come again.
const WAITING: usize = 32;

pub const SHORTEST: usize = 12;
pub const LONGEST: usize = 1024;

/// Compared with when there is no such account, so that its absence does not show in the time.
static NOBODY: LazyLock<String> = LazyLock::new(|| hash("nobody has this password").unwrap_or_default());

#[derive(Debug, thiserror::Error)]
#[error("too many sign-ins at once")]
pub struct Busy;

pub struct Passwords {
    queue: Arc<Semaphore>,
    at_once: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { queue: Arc::new(Semaphore::new(WAITING)), at_once: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

fn hash(password: &str) -> Option<String> {
    let salt: [u8; 16] = rand::random();
    Argon2::default().hash_password_with_salt(password.as_bytes(), &salt).ok().map(|h| h.to_string())
}

impl Passwords {
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Busy> {
        let _place = self.queue.clone().try_acquire_owned().map_err(|_| Busy)?;
        let turn = self.at_once.clone().acquire_owned().await.map_err(|_| Busy)?;
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        })
        .await
        .map_err(|_| Busy)
    }

    /// The PHC text to keep.
    pub async fn hash(&self, password: String) -> Result<String, Busy> {
        self.run(move || hash(&password)).await?.ok_or(Busy)
    }

    /// Takes as long without a stored text as with one.
    pub async fn verify(&self, password: String, phc: Option<String>) -> Result<bool, Busy> {
        self.run(move || {
            let known = phc.is_some();
            let phc = phc.unwrap_or_else(|| NOBODY.clone());
            let fits = Argon2::default().verify_password(password.as_bytes(), phc.as_str()).is_ok();
            known && fits
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_fits_its_own_hash_and_nothing_fits_nobody() {
        let passwords = Passwords::default();
        let phc = passwords.hash("correct horse battery".into()).await.unwrap();
        assert!(phc.starts_with("$argon2id$"), "{phc}");
        assert!(passwords.verify("correct horse battery".into(), Some(phc.clone())).await.unwrap());
        assert!(!passwords.verify("correct horse batterz".into(), Some(phc)).await.unwrap());
        assert!(!passwords.verify("nobody has this password".into(), None).await.unwrap());
        assert!(!passwords.verify("x".into(), Some("not a hash".into())).await.unwrap());
    }

    #[tokio::test]
    async fn more_than_a_few_waiting_are_told_to_come_again() {
        let passwords = Passwords { queue: Arc::new(Semaphore::new(0)), ..Passwords::default() };
        assert!(passwords.verify("x".into(), None).await.is_err());
    }
}
