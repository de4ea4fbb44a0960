//! Password hashing in a bounded pool.
//!
//! Argon2id with 19,456 KiB, two passes, one lane. A hash takes tens of milliseconds of a core and 19 MB, so at most
//! as many run at once as there are cores, each on a blocking thread; others wait until their deadline. Passwords
//! leave this file only as hashes.

use crate::problem::Problem;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::time::Instant;

const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Least characters of usernames and passwords.
pub const LEAST_CHARS: usize = 8;
/// Most bytes of a password: a long one would cost CPU before anything is known of its sender.
pub const MOST_PASSWORD_BYTES: usize = 128;

/// The pool. Cheap to clone.
#[derive(Clone)]
pub struct Passwords {
    slots: Arc<Semaphore>,
    /// Hash of a password that nobody has, for users that have none.
    dummy: Arc<str>,
}

impl Passwords {
    /// A pool of one slot per core.
    pub fn new() -> Result<Self, Problem> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let dummy = hash_blocking(&uuid::Uuid::new_v4().to_string())?;
        Ok(Self { slots: Arc::new(Semaphore::new(cores)), dummy: dummy.into() })
    }

    /// A salted hash as PHC text.
    pub async fn hash(&self, password: &str, deadline: Instant) -> Result<String, Problem> {
        let password = password.to_owned();
        self.run(deadline, move || hash_blocking(&password)).await?
    }

    /// Whether the password is the one behind the hash. Without a hash the answer is no, after the same work, so that
    /// the time tells nothing.
    pub async fn verify(&self, password: &str, hash: Option<&str>, deadline: Instant) -> Result<bool, Problem> {
        let password = password.to_owned();
        let known = hash.is_some();
        let hash = hash.unwrap_or(&self.dummy).to_owned();
        let right = self.run(deadline, move || verify_blocking(&password, &hash)).await?;
        Ok(right && known)
    }

    async fn run<T: Send + 'static>(
        &self,
        deadline: Instant,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let busy = |_| Problem::Unavailable("too many log-ins at once".into());
        let slot = tokio::time::timeout_at(deadline, Arc::clone(&self.slots).acquire_owned()).await.map_err(busy)?;
        let slot = slot.map_err(|_| Problem::Internal("the password pool is closed".into()))?;
        let done = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            work()
        });
        done.await.map_err(|_| Problem::Internal("hashing a password failed".into()))
    }
}

fn argon2id() -> Result<Argon2<'static>, Problem> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None);
    let params = params.map_err(|error| Problem::Internal(format!("argon2 parameters: {error}")))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash_blocking(password: &str) -> Result<String, Problem> {
    let salt = SaltString::encode_b64(uuid::Uuid::new_v4().as_bytes());
    let salt = salt.map_err(|error| Problem::Internal(format!("salt: {error}")))?;
    let hash = argon2id()?.hash_password(password.as_bytes(), &salt);
    Ok(hash.map_err(|error| Problem::Internal(format!("hashing: {error}")))?.to_string())
}

/// The parameters are those in the hash, so hashes outlive a change of ours.
fn verify_blocking(password: &str, hash: &str) -> bool {
    let Ok(parsed) = PasswordHash::new(hash) else {
        tracing::error!("a stored password hash cannot be read: its user cannot log in");
        return false;
    };
    Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[tokio::test]
    async fn a_hash_is_salted_slow_and_verifies() {
        let passwords = Passwords::new().unwrap();
        let one = passwords.hash("correct horse", soon()).await.unwrap();
        let two = passwords.hash("correct horse", soon()).await.unwrap();
        assert_ne!(one, two, "the salt differs");
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
        assert!(!one.contains("correct"));
        assert!(passwords.verify("correct horse", Some(&one), soon()).await.unwrap());
        assert!(!passwords.verify("battery staple", Some(&one), soon()).await.unwrap());
    }

    #[tokio::test]
    async fn without_a_hash_nobody_gets_in() {
        let passwords = Passwords::new().unwrap();
        assert!(!passwords.verify("anything at all", None, soon()).await.unwrap());
        assert!(!passwords.verify("anything at all", Some("no hash"), soon()).await.unwrap());
    }

    #[tokio::test]
    async fn a_full_pool_says_so_at_the_deadline() {
        let passwords = Passwords::new().unwrap();
        let all = u32::try_from(passwords.slots.available_permits()).unwrap();
        let _taken = passwords.slots.acquire_many(all).await.unwrap();
        let refused = passwords.hash("correct horse", Instant::now()).await;
        assert!(matches!(refused, Err(Problem::Unavailable(_))));
    }
}
