//! Password hashes: Argon2id (19 MiB, two passes), off the async threads, two at a time.

use argon2::{
    Argon2,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Most hashes computed at a time: each takes 19 MiB and a core.
const PARALLEL: usize = 2;

/// Hashing failed.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The stored hash cannot be read or computed.
    #[error("the password hash cannot be computed: {0}")]
    Hash(String),
    /// The daemon is ending.
    #[error("the daemon is ending")]
    Ending,
}

/// Computes hashes.
pub(super) struct Hasher(Arc<Semaphore>);

impl Default for Hasher {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(PARALLEL)))
    }
}

impl Hasher {
    pub(super) async fn hash(&self, password: &str) -> Result<String, PasswordError> {
        let password = password.to_owned();
        self.run(move || {
            let hash = Argon2::default().hash_password(password.as_bytes());
            hash.map(|h| h.to_string()).map_err(|e| PasswordError::Hash(e.to_string()))
        })
        .await
    }

    pub(super) async fn verify(&self, password: &str, hash: String) -> Result<bool, PasswordError> {
        let password = password.to_owned();
        self.run(move || {
            let parsed = PasswordHash::new(&hash).map_err(|e| PasswordError::Hash(e.to_string()))?;
            Ok(Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok())
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let place = self.0.clone().acquire_owned().await.map_err(|_| PasswordError::Ending)?;
        let done = tokio::task::spawn_blocking(move || {
            let _place = place;
            work()
        });
        done.await.map_err(|_| PasswordError::Ending)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn only_the_right_password_fits() {
        let hasher = Hasher::default();
        let hash = hasher.hash("correct horse").await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(hasher.verify("correct horse", hash.clone()).await.unwrap());
        assert!(!hasher.verify("correct house", hash).await.unwrap());
        assert!(hasher.verify("x", "rubbish".into()).await.is_err());
    }
}
